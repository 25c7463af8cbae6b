"""Sparse return and success of the current policy on fixed seeds: sampled from a stochastic one, greedily by values.

Shaping plays no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...errors import TrainingDiverged
from ..algorithms.learner import Learner
from ..envs.config import TaskConfig
from ..envs.factory import make_task
from ..task import BatchedTask, splitmix64

LONGEST_EPISODE = 10_000  # steps


@dataclass(frozen=True)
class Evaluation:
    """The first episode of each of n environments."""

    returns: list[float]  # [n] undiscounted sparse returns
    successes: list[float]  # [n] 0 or 1
    steps: int  # all environment steps that it took
    has_success: bool

    @property
    def mean_return(self) -> float:
        return float(np.mean(self.returns))

    @property
    def sd(self) -> float:
        """Sample standard deviation of the episodes' returns, 0 where there is one only."""
        return float(np.std(self.returns, ddof=1)) if len(self.returns) > 1 else 0.0

    @property
    def success_rate(self) -> float | None:
        """Share of successful episodes, None where the task has no success test."""
        return float(np.mean(self.successes)) if self.has_success else None


class Evaluator:
    """`episodes` fixed episodes of a task, named by `seed`; neither touches nor reads a training stream.

    In the place of an episode that is lost (`Step.lost`) the next one of its environment counts.
    An episode that nothing ends counts as it stands after LONGEST_EPISODE steps.
    """

    def __init__(self, config: TaskConfig, episodes: int, seed: int) -> None:
        self.task: BatchedTask = make_task(config, episodes)
        self.seed = seed

    def evaluate(self, policy: Learner) -> Evaluation:
        """Play the episodes to their ends.

        Raises:
            TrainingDiverged: an action, or a return, is not finite.
        """
        try:
            evaluation = self._play(policy)
            if not np.isfinite(evaluation.returns).all():
                raise FloatingPointError("the returns")
        except FloatingPointError as error:
            raise TrainingDiverged(
                f"an evaluation must stay finite, got infinity or NaN in {error}; lower the trainer's lr, or scale "
                "what the environment pays and shows to about 1"
            ) from error
        return evaluation

    def close(self) -> None:
        """Close the environments."""
        self.task.close()

    def _play(self, policy: Learner) -> Evaluation:
        generator = torch.Generator().manual_seed(splitmix64(self.seed) >> 1)
        step = self.task.reset(self.seed)
        returns, successes = np.zeros(self.task.num_envs), np.zeros(self.task.num_envs)
        running, steps = np.ones(self.task.num_envs, bool), 0
        while running.any() and steps < LONGEST_EPISODE * self.task.num_envs:
            step = self.task.step(policy.act_to_evaluate(step.obs, generator, masks=step.masks))
            steps += self.task.num_envs
            returns += np.where(running, step.reward, 0.0)
            successes += running & step.success
            # a lost episode counts for nothing, and the environment runs on with its next one
            ended = step.terminated | step.truncated
            if step.lost is not None:
                returns[running & step.lost] = 0.0
                ended &= ~step.lost
            running &= ~ended
        return Evaluation(returns.tolist(), successes.tolist(), steps, self.task.spec.has_success)
