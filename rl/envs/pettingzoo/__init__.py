"""Any PettingZoo `ParallelEnv` as a batch, in this process or divided over several."""
