"""Branches: continuations of a snapshot of the run under one candidate signal, and the gate that judges them.

How one branch travels:

    snapshot -> BranchJob (`branch_key` names it by its content) -> an Executor hands it to a free worker
    -> `run_branch` continues the snapshot, evaluates the policy and writes the end state -> BranchResult, or a
    BranchFailure, with which its arm is over
    -> Arm (all branches of one signal) -> `judge` compares it with the control on common seeds -> Judgement
    -> `conclude`: the verdict of the intervention -> `choose_adopt`: what a promotion takes over

Modules, in reading order:

    config      settings of branches and gate
    jobs        the key of a job, its reply, what a failure makes needless, and the `Executor` protocol
    executors   the choice of an executor by config
    local_pool  worker processes on this machine
    worker      the program of such a process: `python -m cosignal.rl.branches.worker`
    run_branch  one branch, by the trainer's own code
    run_evaluation  fresh episodes of a snapshot's policy (EvaluationJob -> EvaluationResult)
    ray_pool    workers as Ray actors, on this machine or on a cluster
    ray_node    a Ray of our own in a process of its own: `python -m cosignal.rl.branches.ray_node`
    horizon     the rule of the branch length
    gate        the statistics that turn returns into a verdict on a signal
    policy_claim  the statistics that prove a policy better from fresh episodes
    adoption    the rule of what a promotion takes over
    movement    what counts as moving toward reward in a race
    survival    who trains the next rung of a race
"""
