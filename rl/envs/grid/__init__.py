"""The grid worlds of LCA (Lin et al., arXiv 2502.03723): what Two-Switch and Victim-Rubble have in common.

A game exists twice. Both share the map and the random numbers, and nothing else; tests hold them equal, bit for bit:

    map -> tables of poses, actions and views -> kernel (numba) -> `GridBatch`, which trains
    map -> rules in plain Python (`GridGame`) -> `GridEnv`, a PettingZoo ParallelEnv

Modules, in reading order:

    map     poses, actions, and the tables of what they do
    roles   spec and tables of a task whose agents have a role each
    game    a game in plain Python, straight from its rules
    env     a game as a PettingZoo ParallelEnv
    kernel  the compiled step
    batch   the compiled step behind the `BatchedTask` contract
"""
