"""Whole episodes of a policy, as arrays: what signals are fitted to."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...envs.config import TaskConfig
from ...envs.factory import make_task
from ...envs.step_alarm import step_alarm
from ...experience.rnn_states import RNNStates
from ...experience.rollout import Collector, Policy, Rollout
from ...task import ActionArray, BoolArray, FloatArray, IntArray

ENVS, LENGTH = 16, 64  # environments, and steps of each between two looks at what has ended
LONGEST = 1_000_000  # environment steps


@dataclass(frozen=True)
class Episodes:
    """The n steps of m whole episodes, one behind the other: `Transitions`, and which step belongs to which episode.

    Attributes:
        reward: [n] of the team.
        success: [m], 0 or 1.
        episode: [n], numbers from 0 to m − 1, rising.
        steps: environment steps that were played for them.
    """

    features: list[FloatArray]  # [g] [n, A_g, F_g] of s
    last_features: list[FloatArray]  # [g] [n, A_g, F_g] of s′, before auto-reset
    events: list[FloatArray]  # [g] [n, A_g, V_g]
    obs: list[FloatArray]  # [g] [n, A_g, O_g] of s
    last_obs: list[FloatArray]
    actions: list[ActionArray]  # [g] [n, A_g], or [n, A_g, k] in a Box
    logp: list[FloatArray]  # [g] [n, A_g] of the policy that played
    terminated: FloatArray  # [n]
    alive: list[BoolArray] | None  # [g] [n, A_g] in s
    last_alive: list[BoolArray] | None
    masks: list[BoolArray] | None  # [g] [n, A_g, U]
    reward: FloatArray
    success: FloatArray
    episode: IntArray
    steps: int

    @property
    def number(self) -> int:
        """The number of episodes, m."""
        return len(self.success)

    @property
    def lengths(self) -> IntArray:
        """[m], steps of each episode."""
        return np.bincount(self.episode, minlength=self.number)

    @property
    def returns(self) -> FloatArray:
        """[m], undiscounted sparse returns."""
        return np.bincount(self.episode, self.reward, self.number).astype(np.float32)


def play_episodes(
    config: TaskConfig,
    policy: Policy,
    new_rnn_states: Callable[[int], RNNStates | None],
    number: int,
    seed: int,
    observations: bool,
) -> Episodes:
    """Play the first ⌈number / 16⌉ episodes of each of 16 environments to their ends.

    So short episodes are no more likely to be among them than long ones. Those that an environment did not finish are
    left out, and so are those that have not ended after LONGEST steps: there may be fewer of them, or none.

    Args:
        config: the task.
        policy: samples the actions, from its own stream.
        new_rnn_states: the learner's; it makes the states of so many environments.
        number: at least so many episodes, where none is lost.
        seed: of the episodes.
        observations: whether they are kept, which may be large.
    """
    task, wanted = make_task(config, ENVS), -(-number // ENVS)
    try:
        collector, rollouts = Collector(task, LENGTH), list[Rollout]()
        ended = np.zeros(ENVS, np.int64)
        with step_alarm(task, config, ENVS):
            step, rnn_states = task.reset(seed), new_rnn_states(ENVS)
            while ended.min() < wanted and len(rollouts) * LENGTH * ENVS < LONGEST:
                step = collector.collect(policy, step, rnn_states)
                rollouts.append(_kept(collector.rollout, observations))
                ended += collector.rollout.done.sum(0).astype(np.int64)
    finally:
        task.close()
    return whole_episodes(rollouts, wanted)


def _kept(rollout: Rollout, observations: bool) -> Rollout:
    """Return a copy of what is needed of a rollout, whose buffers the next one overwrites."""
    unneeded: dict[str, Any] = {"last_masks": None}
    unneeded |= {"rnn_states": None, "last_rnn_states": None}
    unneeded |= {} if observations else {"obs": [], "last_obs": []}
    return deepcopy(replace(rollout, **unneeded))


def whole_episodes(rollouts: list[Rollout], number: int) -> Episodes:
    """Cut the first `number` episodes of each environment out of rollouts that follow each other."""
    done, lost, success = (np.concatenate([getattr(x, name) for x in rollouts]) for name in ("done", "lost", "success"))
    # where the steps of each episode are, [t] of environment e; those of one that was lost are passed over
    places: list[tuple[int, IntArray]] = []
    for e in range(done.shape[1]):
        ends = np.flatnonzero(done[:, e])[:number]
        begins = [0, *(ends[:-1] + 1)]
        places += [(e, np.arange(a, b + 1)) for a, b in zip(begins, ends, strict=False) if not lost[a : b + 1, e].any()]
    nothing = np.zeros(0, np.int64)
    t = np.concatenate([nothing, *(steps for _, steps in places)])
    env = np.concatenate([nothing, *(np.full(len(steps), e) for e, steps in places)])

    def rows(name: str) -> NDArray[np.generic]:
        return np.asarray(np.concatenate([getattr(x, name) for x in rollouts])[t, env])

    def by_group(name: str) -> list[NDArray[np.generic]]:
        first = getattr(rollouts[0], name)
        return [np.concatenate([getattr(x, name)[g] for x in rollouts])[t, env] for g in range(len(first))]

    def by_group_or_none(name: str) -> list[NDArray[np.generic]] | None:
        return None if getattr(rollouts[0], name) is None else by_group(name)

    lists = ("features", "last_features", "events", "obs", "last_obs", "actions", "logp")
    return Episodes(
        **{name: by_group(name) for name in lists},  # type: ignore[arg-type]
        terminated=rows("terminated"),  # type: ignore[arg-type]
        alive=by_group_or_none("alive"),  # type: ignore[arg-type]
        last_alive=by_group_or_none("last_alive"),  # type: ignore[arg-type]
        masks=by_group_or_none("masks"),  # type: ignore[arg-type]
        reward=rows("reward"),  # type: ignore[arg-type]
        success=np.array([success[steps[-1], e] for e, steps in places], np.float32),
        episode=np.repeat(np.arange(len(places)), np.array([len(steps) for _, steps in places], np.int64)),
        steps=int(done.size),
    )
