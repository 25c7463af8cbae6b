"""Fresh episodes of the current policy on fixed seeds: sparse return, success, length and what was reached.

A stochastic policy is sampled, unless its `greedy_evaluation` is set; one by values is greedy. Shaping plays no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...errors import TrainingDiverged
from ..algorithms.learner import Learner
from ..envs.config import TaskConfig
from ..envs.factory import make_task
from ..experience.episodes import NEAR
from ..task import BatchedTask, BoolArray, GroupSpec, IntArray, Step, TaskSpec, splitmix64

LONGEST_EPISODE = 10_000  # steps


@dataclass(frozen=True)
class Evaluation:
    """The first episode of each of n environments."""

    returns: list[float]  # [n] undiscounted sparse returns
    successes: list[float]  # [n] 0 or 1
    lengths: list[int]  # [n] steps
    reached: dict[str, list[int]]  # by milestone [n], see `ipc.messages.EpisodeStats`
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

    Attributes:
        seed: base seed of the episodes; it may be changed between two evaluations.
        steps: environment steps of the last evaluation, also where it has failed.
    """

    def __init__(self, config: TaskConfig, episodes: int, seed: int) -> None:
        self.task: BatchedTask = make_task(config, episodes)
        self.seed = seed
        self.steps = 0

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
        n, spec = self.task.num_envs, self.task.spec
        generator = torch.Generator().manual_seed(splitmix64(self.seed) >> 1)
        self.steps = 0
        step = self.task.reset(self.seed)
        returns, successes, lengths = np.zeros(n), np.zeros(n), np.zeros(n, np.int64)
        milestones, running = _Milestones(spec, n), np.ones(n, bool)
        rnn_states = policy.new_rnn_states(n)
        while running.any() and self.steps < LONGEST_EPISODE * n:
            step = self.task.step(policy.act_to_evaluate(step.obs, generator, step.masks, rnn_states))
            self.steps += n
            if rnn_states is not None:
                rnn_states.reset(step.terminated | step.truncated)
            returns += np.where(running, step.reward, 0.0)
            successes += running & step.success
            lengths += running
            milestones.add(step, running)
            # a lost episode counts for nothing, and the environment runs on with its next one
            ended = step.terminated | step.truncated
            if step.lost is not None and step.lost.any():
                lost = running & step.lost
                returns[lost], lengths[lost] = 0.0, 0
                milestones.forget(lost)
                ended &= ~step.lost
            running &= ~ended
        return Evaluation(
            returns.tolist(), successes.tolist(), lengths.tolist(), milestones.reached(), self.steps, spec.has_success
        )


class _Milestones:
    """What the episode that counts has reached, in each environment.

    Steps are kept and looked at KEPT at a time, which is much cheaper than one by one.
    """

    KEPT = 64

    def __init__(self, spec: TaskSpec, num_envs: int) -> None:
        self._kept = 0
        self._running = np.zeros((self.KEPT, num_envs), np.bool_)  # whether the step counts
        self._groups = [_GroupSteps(group, num_envs, self.KEPT) for group in spec.groups]
        self._reached: dict[str, IntArray] = {}
        for group in self._groups:
            for name in (*group.events, *group.distances):
                self._reached.setdefault(name, np.zeros(num_envs, np.int64))

    def add(self, step: Step, running: BoolArray) -> None:
        """Keep a step; it counts where the episode that counts is `running` [E]."""
        for g, group in enumerate(self._groups):
            group.keep(self._kept, step, g)
        self._running[self._kept] = running
        self._kept += 1
        if self._kept == self.KEPT:
            self._count()

    def forget(self, lost: BoolArray) -> None:
        """Begin anew in the environments that have lost their episode, [E]."""
        self._running[: self._kept, lost] = False
        for reached in self._reached.values():
            reached[lost] = 0

    def reached(self) -> dict[str, list[int]]:
        """Return how often each milestone was reached, [E] by name."""
        self._count()
        return {name: reached.tolist() for name, reached in self._reached.items()}

    def _count(self) -> None:
        """Take the kept steps into account."""
        running, at_once = self._running[: self._kept], dict[str, IntArray]()
        for group in self._groups:
            if group.events:
                events = group.event_steps[:, : self._kept].sum(0)  # [T, E, V]
                counts = np.rint((events * running[..., None]).sum(0)).astype(np.int64)
                for v, name in enumerate(group.events):
                    self._reached[name] += counts[:, v]
            if group.distances:
                near = group.near(self._kept)  # [T, E, D] agents
                for d, name in enumerate(group.distances):
                    at_once[name] = at_once.get(name, 0) + near[..., d]
        for name, agents in at_once.items():
            np.maximum(self._reached[name], (agents * running).max(0, initial=0), out=self._reached[name])
        self._kept = 0


class _GroupSteps:
    """Kept steps of one group; agents come first, over whom numpy sums fastest then.

    Attributes:
        events: their names, V.
        distances: names of the milestones of distances, D.
        event_steps: [A, KEPT, E, V].
    """

    def __init__(self, group: GroupSpec, num_envs: int, kept: int) -> None:
        columns = [column for column, feature in enumerate(group.features) if feature.kind == "distance"]
        chosen = [group.features[column] for column in columns]
        shape = (len(group.agents), kept, num_envs)
        self.events = group.event_names()
        self.distances = [f"at {feature.name}" for feature in chosen]
        self.event_steps = np.zeros((*shape, len(self.events)), np.float32)
        # All columns from the first distance to the last one are copied, which is cheaper than picking them.
        self._span = slice(columns[0], columns[-1] + 1) if columns else slice(0)
        self._columns = np.array(columns, np.int64) - (columns[0] if columns else 0)
        self._limits = np.array([feature.low + NEAR * (feature.high - feature.low) for feature in chosen])
        self._features = np.zeros((*shape, self._span.stop - (self._span.start or 0)), np.float32)
        self._alive = np.ones(shape, np.bool_)

    def keep(self, row: int, step: Step, g: int) -> None:
        """Copy a step, in which the group is number `g`."""
        if self.events:
            self.event_steps[:, row] = step.events[g].swapaxes(0, 1)
        if self.distances:
            self._features[:, row] = step.last_features[g][..., self._span].swapaxes(0, 1)
            if step.last_alive is not None:
                self._alive[:, row] = step.last_alive[g].T

    def near(self, kept: int) -> IntArray:
        """Return how many agents are within NEAR of each distance's low end, [T, E, D]."""
        there = self._features[:, :kept, :, self._columns] <= self._limits
        agents: IntArray = (there & self._alive[:, :kept, :, None]).sum(0)
        return agents
