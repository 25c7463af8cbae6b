"""Any PettingZoo `ParallelEnv` as a batch, in this process or divided over several.

    ParallelEnv -> layout: groups, spaces, features, `TaskSpec` -> translator: dicts by agent <-> arrays of the batch
    -> `PettingZooTask`: E environments, played one after the other in this process
    -> `ProcessTask`: the same, divided over worker processes that host a `PettingZooTask` each

Modules, in reading order:

    spaces          observations as rows of numbers, numbers of a policy as actions
    declared        what a ParallelEnv declares, as a `TaskSpec`
    calls           `reset` and `step`, and whether what they return has the form that PettingZoo asks for
    translator      what an environment returns, as rows of the batch's arrays
    layout          what a ParallelEnv declares and its first steps show, as a `TaskSpec`
    losses          what may go wrong in play, and how often
    batch           `PettingZooTask`
    process_batch   `ProcessTask`
    worker_process  the parent's side of one worker process
    worker_host     the process itself: `python -m cosignal.rl.envs.pettingzoo.worker_host`
    shared_memory   the arrays that both sides see
    tuple_env       a Gymnasium environment with tuples of spaces, as a ParallelEnv
"""
