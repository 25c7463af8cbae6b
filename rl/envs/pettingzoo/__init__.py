"""Any PettingZoo `ParallelEnv` as a batch, in this process or divided over several.

    ParallelEnv -> layout: groups, spaces, features, `TaskSpec` -> translator: dicts by agent <-> arrays of the batch
    -> `PettingZooTask`: E environments, played one after the other in this process
    -> `ProcessTask`: the same, divided over worker processes that host a `PettingZooTask` each

Modules, in reading order:

    layout          what a ParallelEnv declares, as a `TaskSpec`
    translator      what an environment returns, as rows of the batch's arrays
    batch           `PettingZooTask`
    process_batch   `ProcessTask`
    worker_process  the parent's side of one worker process
    worker_host     the process itself: `python -m cosignal.rl.envs.pettingzoo.worker_host`
    shared_memory   the arrays that both sides see
    tuple_env       a Gymnasium environment with tuples of spaces, as a ParallelEnv
"""
