"""Batches of episodes that are one step long, for learners of the PPO family."""

from __future__ import annotations

import numpy as np
from cosignal.rl.algorithms.ppo import PPO, Batch, Cuts
from cosignal.rl.task import ActionArray, FloatArray


def one_step_batch(learner: PPO, obs: FloatArray, actions: ActionArray, logp: FloatArray, rewards: FloatArray) -> Batch:
    """Every step [T, E] terminates; obs [T, E, A, O], actions, logp and rewards [T, E, A]."""
    ones = np.ones(obs.shape[:2], np.float32)
    (critic_obs,), cut = learner.critic_inputs([obs]), np.nonzero(ones)
    return Batch(
        obs=obs,
        critic_obs=critic_obs,
        cuts=Cuts(*cut, critic_obs[cut]),
        actions=actions,
        logp=logp,
        rewards=rewards,
        terminated=ones,
        done=ones,
    )
