"""What tasks have in common whose environments are stepped by one compiled call.

random_stream   one SplitMix64 stream an episode, for kernels
batch           arrays, seeds, snapshots and shape checks of a `BatchedTask`
environment     one environment of a batch as a PettingZoo ParallelEnv, with its `Task`
"""
