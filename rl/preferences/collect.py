"""Playing a task to collect pairs of states that single agents' moves connect (LCA, Lin et al., arXiv 2502.03723).

What is played is the task's environments one by one: for a native task its plain twin, which observes the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ...errors import PreferenceError
from ..envs.adapter import Task
from ..envs.config import TaskConfig
from ..envs.factory import plain_task_factory, task_spec
from ..envs.pettingzoo.batch import PettingZooTask
from ..task import ActionArray, BoolArray, FloatArray, Step, TaskSpec
from .pairs import NOT_JUDGED, Pairs

ENVS = 8
CHANGE = 0.01  # probability a step that an agent's share of random actions is drawn anew
SHARE = 0.25  # of the moves that may be taken, so that pairs spread over many episodes
LONGEST = 1_000_000  # environment steps


class Act(Protocol):
    """A policy: obs [g] [E, A_g, O_g], masks [g] [E, A_g, U] or None → actions [g] [E, A_g]."""

    def __call__(self, obs: list[FloatArray], masks: list[BoolArray] | None) -> list[ActionArray]: ...


@dataclass(frozen=True)
class Collected:
    """`pairs` [g]; `steps`: environment steps that were played (all agents acting once in one environment is one)."""

    pairs: list[Pairs]
    steps: int


def collect_pairs(
    config: TaskConfig,
    counts: Sequence[int],
    seed: int,
    act: Act | None = None,
    *,
    episode_steps: int | None = 200,
    share_random: tuple[float, float] = (0.0, 1.0),
    keep_ties: bool = True,
    spread: int = 1,
) -> Collected:
    """`counts[g]` pairs of agents of group g, drawn at random from all moves but those of staying.

    `act`: the policy that plays; None for the task's heuristic. Each agent acts uniformly at random in a share of its
    steps, which is drawn uniformly in `share_random` and anew from time to time: where all are equally skilled all the
    time, hardly anything is done in another order than usual, and a scorer pays whatever it likes for what it has not
    seen. Episodes are cut after `episode_steps`.
    `keep_ties`: whether moves that the heuristic has no preference about are kept. `spread`: times as many moves are
    played as are kept, and from 2 on a move that was seen before is kept only where others do not suffice: a policy
    that is stuck makes few moves over and over. The same arguments give the same pairs.

    Raises:
        PreferenceError: agents choose numbers of a Box, the data policy needs a heuristic that the task does not have,
            or the pairs do not come within LONGEST steps.
        TaskImportError, ConfigError: the task cannot be built.
    """
    spec = task_spec(config)
    if any(group.continuous for group in spec.groups):
        raise PreferenceError(
            f"pairs are collected of agents that choose, those of {spec.name!r} give numbers of a Box; "
            "map the numbers to choices"
        )
    play = _Play(config, spec, seed, episode_steps, keep_ties)
    policy = play.of_every_skill(act or play.heuristic_policy(), share_random)
    while not play.enough([count * spread for count in counts]):
        play.step(policy)
    if spread > 1:
        for moves in play.moves:
            moves.mix(play.rng)
    return Collected(
        [moves.pairs(g, count) for g, (moves, count) in enumerate(zip(play.moves, counts, strict=True))], play.steps
    )


@dataclass
class _Moves:
    """Of one group, as they are found."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def mix(self, rng: np.random.Generator) -> None:
        """In random order, but those that are like an earlier one (the same observation and action) last."""
        mixed = [self.rows[i] for i in rng.permutation(len(self.rows))]
        moves = np.array([hash((row[0].tobytes(), row[3])) for row in mixed])
        first = np.zeros(len(mixed), bool)
        first[np.unique(moves, return_index=True)[1]] = True
        self.rows = [mixed[i] for i in (*np.flatnonzero(first), *np.flatnonzero(~first))]

    def pairs(self, group: int, count: int) -> Pairs:
        obs, last_obs, agent, action, label, before, after = zip(*self.rows[:count], strict=True)
        return Pairs(
            group, np.stack(obs), np.stack(last_obs), np.array(agent), np.array(action), np.array(label),
            list(before), list(after),
        )  # fmt: skip


@dataclass(frozen=True)
class _Chosen:
    """A move that is about to be made, and what was before it."""

    g: int
    i: int
    agent: Any
    action: int
    obs: FloatArray
    state: Any
    text: str


class _Play:
    def __init__(
        self, config: TaskConfig, spec: TaskSpec, seed: int, episode_steps: int | None, keep_ties: bool
    ) -> None:
        self.spec, self.keep_ties, self.rng = spec, keep_ties, np.random.default_rng(seed)
        with_ids = config.name is None and config.agent_ids
        limits = [limit for limit in (config.n_max, episode_steps) if limit is not None]
        factory, limit = plain_task_factory(config), min(limits, default=None)
        self.batch = PettingZooTask(factory, ENVS, config.team_reward, limit, agent_ids=with_ids)
        self.batch.witness = self._after
        self.moves = [_Moves() for _ in spec.groups]
        self.steps = 0
        self.now: Step = self.batch.reset(seed)
        self._chosen: dict[int, list[_Chosen]] = {}
        self._seen: list[tuple[int, _Chosen, int, str]] = []

    def enough(self, counts: Sequence[int]) -> bool:
        if self.steps > LONGEST:
            raise PreferenceError(
                f"{counts!r} pairs must come within {LONGEST} steps of {self.spec.name!r}, got "
                f"{[len(moves.rows) for moves in self.moves]!r}; ask for fewer, or let its agents do more than stay"
            )
        return all(len(moves.rows) >= count for moves, count in zip(self.moves, counts, strict=True))

    def heuristic_policy(self) -> Act:
        """Raises PreferenceError where the task has no heuristic to follow."""
        if self.batch.tasks[0].heuristic is None:
            raise PreferenceError(
                f"the data policy needs the task's heuristic, {self.spec.name!r} has none; give a policy, or write one"
            )

        def act(obs: list[FloatArray], masks: list[BoolArray] | None) -> list[ActionArray]:  # noqa: ARG001 it sees more
            return [self._greedy(g) for g in range(len(self.spec.groups))]

        return act

    def _greedy(self, g: int) -> ActionArray:
        """[E, A_g]."""
        ids = self.batch.agent_ids[g]
        actions = np.zeros((self.batch.num_envs, len(ids)), np.int64)
        for e, task in enumerate(self.batch.tasks):
            assert task.heuristic is not None
            state = task.heuristic.state(task.env)
            actions[e] = [task.heuristic.act(agent, state) for agent in ids]
        return actions

    def of_every_skill(self, policy: Act, share_random: tuple[float, float]) -> Act:
        """The policy, but that each agent acts at random in a share of its steps, see `collect_pairs`."""
        shares = [self.rng.uniform(*share_random, (self.batch.num_envs, len(g.agents))) for g in self.spec.groups]

        def act(obs: list[FloatArray], masks: list[BoolArray] | None) -> list[ActionArray]:
            found = []
            for g, (actions, share) in enumerate(zip(policy(obs, masks), shares, strict=True)):
                changes = self.rng.random(share.shape) < CHANGE
                share[changes] = self.rng.uniform(*share_random, int(changes.sum()))
                at_random = self.rng.random(share.shape) < share
                found.append(np.where(at_random, self._random(g, None if masks is None else masks[g]), actions))
            return found

        return act

    def _random(self, g: int, mask: BoolArray | None) -> ActionArray:
        """[E, A_g], of the allowed actions."""
        group = self.spec.groups[g]
        drawn = self.rng.random((self.batch.num_envs, len(group.agents), group.n_actions))
        return np.asarray((drawn if mask is None else np.where(mask, drawn, -1.0)).argmax(-1))

    def step(self, policy: Act) -> None:
        """One joint step of all environments; some of its moves are kept."""
        actions = policy(self.now.obs, self.now.masks)
        self._chosen = {e: self._choose(e, task, actions) for e, task in enumerate(self.batch.tasks)}
        self._seen = []
        self.now = self.batch.step(actions)
        self.steps += self.batch.num_envs
        for e, move, label, after in self._seen:
            if self.now.lost is not None and self.now.lost[e]:
                continue
            last_obs = self.now.last_obs[move.g][e, move.i].copy()
            row = (move.obs, last_obs, move.i, move.action, label, move.text, after)
            self.moves[move.g].rows.append(row)

    def _choose(self, e: int, task: Task, actions: list[ActionArray]) -> list[_Chosen]:
        chosen = []
        for g, group in enumerate(self.spec.groups):
            drawn = self.rng.random(len(group.agents)) < SHARE
            for i, agent in enumerate(self.batch.agent_ids[g]):
                alive = self.now.alive is None or self.now.alive[g][e, i]
                action = int(actions[g][e, i])
                if drawn[i] and alive and action != group.stay:
                    state = None if task.heuristic is None else task.heuristic.state(task.env)
                    obs = self.now.obs[g][e, i].copy()
                    chosen.append(_Chosen(g, i, agent, action, obs, state, task.viewpoint(agent)))
        return chosen

    def _after(self, e: int, task: Task) -> None:
        """Environment e stands in s'."""
        for move in self._chosen.get(e, ()):
            label = NOT_JUDGED
            if task.heuristic is not None:
                after = task.heuristic.state(task.env)
                label = task.heuristic.prefers(move.agent, move.state, move.action, after)
            if label or self.keep_ties:
                self._seen.append((e, move, label, task.viewpoint(move.agent)))
