"""What the agents lived through: rollouts, the replay buffer, finished episodes, a sample of transitions."""
