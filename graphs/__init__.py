"""The adaptation loop: a LangGraph graph that watches a run, proposes other signals and promotes what branches prove.

How one intervention flows, node by node. Every node reads and writes the run's tables (`runs.records`); the graph's
state holds ids and a bounded window.

    observe            TrainerStatus, snapshot and Evidence of one instant ─► a row of `diagnoses`
      │ a trigger
    critic             Evidence, history ─► Diagnosis, or calls of ─► critic_tools ─► back to critic
      │ (unclear credit: rank_transitions ranks single moves and fits a learned term)
    generator          Diagnosis, history ─► ProposalRecords
    check              each signal against task, recorded transitions and what was rejected ─► problems
    rank_proposals     the order of what passed, one exploration for all arms
    validate           BranchJobs ─► workers ─► BranchRecords ─► judgements of the gate
    decide             DecisionRecord: accept, or another round (back to generator), or the end
      │ accept
    approve, confirm   a human's answer; under the overlap clock a fresh look at an old verdict
    promote            compare-and-set at the trainer: the signal, or the winning branch's state
    monitor            later evaluations against the one before the promotion ─► rollback

Modules, in reading order:

    graph            the graph on one screen
    routing          the edges with a choice: pure functions of the state
    state, context   what a checkpoint holds; the live handles that it does not
    nodes/           the nodes, one file each
    intervention     one round: its arms, its horizon, its budget, its end
    branches         branch jobs: made, run, kept
    asking           asking a model from a node
    history          earlier proposals and what became of them, as models read it
    preference_jobs  pairs of states and scorers, from processes of their own
    offline_round    a round of check and validate without a trainer, for replays and studies
    session/         a run from start to end
    tracing/         visits of nodes, OpenTelemetry spans
    replay/          recorded calls asked again
"""
