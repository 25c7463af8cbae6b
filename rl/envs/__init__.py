"""Tasks: the shipped ones and any PettingZoo environment, stepped as a batch.

How a config becomes a batch:

    `task.name` or `task.env` -> a factory (`registry`, `load_env`)
    -> a `Task` around a PettingZoo ParallelEnv (`adapter`)
    -> a layout: groups of agents, features, events, the `TaskSpec` (`pettingzoo.layout`)
    -> a batch of E environments (`pettingzoo.batch`, or `pettingzoo.process_batch` over several processes)

    the native tasks -> a batch compiled by numba: two_switch, victim_rubble and relay (`grid.batch`) with a plain twin,
    lbf and rware (`compiled.batch`) with the original package beside them

`factory.make_task` does all of it. Nothing is imported here, since the config reads the names in `registry`.

Modules, in reading order:

    registry      the shipped tasks by name
    config        settings of the task
    adapter       `Task`: a ParallelEnv and what is declared about it
    load_env      other people's environments, found by name and built
    factory       from a config to its task
    probe         what a task is, asked in a process of its own
    mpe, pistonball, lbf.original, rware.original   shipped tasks around environments of other packages
    compiled      what batches have in common that are stepped by one compiled call
    grid          what the games of two agents on a grid have in common
    two_switch, victim_rubble, relay, lbf, rware   the native tasks
    pettingzoo    any ParallelEnv as a batch
    step_alarm    a limit on the time of a step in processes that only branch or rank

To add a task around an environment of another package: write a module with a subclass of `adapter.Task` whose arguments
have defaults (one of them `n_max`), and add its name to `registry.ShippedName` and `registry.EXTRAS`; the tests in
`tests/rl/envs/test_every_task.py` then run on it. A task of one's own needs no change here: `task.env` names it.
"""
