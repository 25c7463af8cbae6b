"""The adaptation loop: a LangGraph graph that watches a run, proposes other signals and adopts what branches prove.

One intervention, node by node. Every node reads the run's tables (`runs.records`) and the state; the second column is
what it asks, the third what it writes to the tables, the last what it leaves in the state for the nodes after it.

    observe            the trainer                InterventionRecord            point, status, triggered
      │ a trigger
    critic             the Critic                 the record's diagnosis        diagnosis, ranking, fitting
      │ ▲ calls of     critic_tools: trainer, branch pool; BranchRecord (probe); messages
      │ (unclear credit)
      │ rank_transitions   the Ranker, processes  RankingRecord, BranchRecord   learned
      │ fit_signals        Ranker, process    FitRecord                    fitted
    generator          the Generator              ProposalRecord                proposals
    check              -                          the records' problems, notes  passed
    rank_proposals     the Ranker                 the records' rank             ranked, exploration
      │ a claim about a policy, which is that of every intervention to repair (`gate.claim`)
    race               the branch pool            RaceRecord, BranchRecord,     race, rungs, outcome, verdict
                                                  EvaluationRecord, DecisionRecord
      │ begins, then runs one rung a visit; in between observe waits while the main line trains one. Proven, or the end
      │ a claim about a signal
    validate           the branch pool            BranchRecord                  outcome
    decide             -                          DecisionRecord                verdict, round
      │ accept; else another round (back to generator), or the end
    approve            a human                    -                             approved
    confirm            trainer, branch pool       BranchRecord (confirm)        outcome, before
    promote            the trainer                the decision's version        watch, last_steps

Beside it: where learning has converged, `remove_shaping` decides that potentials leave by their offset, or makes the
proposals to take away the rest; `given_signals` makes those that the config gives (`adaptation.signals`, in place of
critic and generator); and `monitor` judges later evaluations against the one before the promotion and rolls it back (a
DecisionRecord of its own).

Three things change the run: `promote` puts a signal in force or adopts a policy, `monitor` takes that back, and a round
that judged signals and promoted none makes its control the main line (`intervention.keep_control`). Each asks the
trainer under a key, so that a node that runs again after a crash changes nothing twice.

Modules, in reading order:

    graph            the graph on one screen
    routing          the edges with a choice: pure functions of the state
    state, context   what a checkpoint holds; the live handles that it does not
    nodes/           the nodes, one file each
    intervention     one round: its arms, its horizon, its budget, its end
    race             one race: its arms, a rung, looks and confirmations, its end
    branches         branch jobs: made, run, kept
    asking           asking a model from a node
    history          earlier proposals and what became of them, as models read it
    library          signals of earlier runs, as the Generator is shown them
    child_jobs       jobs that processes of their own do
    preference_jobs  pairs of states and scorers, from processes of their own
    human_review     the question of `approve` as reviewing interfaces show it, and their answers
    offline_round    a round of check and validate, or a race, without a trainer, for replays and studies
    session/         a run from start to end; `served`, the graph as a LangGraph server runs it
    tracing/         visits of nodes, OpenTelemetry spans
    replay/          recorded calls asked again
"""
