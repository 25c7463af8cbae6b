"""Playing a task to collect pairs of states that single agents' moves connect (LCA, Lin et al., arXiv 2502.03723).

What is played is the task's environments one by one: for a native task its plain twin, which observes the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from ...errors import PreferenceError
from ..algorithms.learner import Learner
from ..envs.adapter import Task
from ..envs.config import TaskConfig
from ..envs.factory import plain_task_factory, task_spec
from ..envs.pettingzoo.batch import PettingZooTask
from ..envs.step_alarm import step_alarm
from ..task import ActionArray, FloatArray, Step, TaskSpec
from .pairs import NOT_JUDGED, Pairs

ENVS = 8
CHANGE = 0.01  # probability a step that an agent's share of random actions is drawn anew
SHARE = 0.25  # of the moves that may be taken, so that pairs spread over many episodes
LONGEST = 1_000_000  # environment steps


class Act(Protocol):
    """A policy: the step that was just made, whose observations are acted on → actions [g] [E, A_g]."""

    def __call__(self, step: Step) -> list[ActionArray]: ...


def sampling(learner: Learner, generator: torch.Generator) -> Act:
    """Return the policy of a learner, sampled, in one play from its first step on."""
    rnn_states = learner.new_rnn_states(ENVS)

    def act(step: Step) -> list[ActionArray]:
        if rnn_states is not None:
            rnn_states.reset(step.terminated | step.truncated)
        return learner.act(step.obs, generator, step.masks, rnn_states)[0]

    return act


@dataclass(frozen=True)
class Collected:
    """Pairs that were collected.

    Attributes:
        pairs: [g].
        steps: environment steps that were played (all agents acting once in one environment is one).
    """

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
    """Collect pairs drawn at random from all moves but those of staying. The same arguments give the same pairs.

    Each agent acts uniformly at random in a share of its steps, which is drawn uniformly and anew from time to time:
    where all are equally skilled all the time, hardly anything is done in another order than usual, and a scorer pays
    whatever it likes for what it has not seen.

    Args:
        config: the task.
        counts: [g], how many pairs of agents of each group.
        seed: of the episodes and of all that is drawn.
        act: the policy that plays; None for the task's heuristic.
        episode_steps: after how many steps episodes are cut, None for the task's own limit.
        share_random: bounds of the share of random actions, each in 0..1.
        keep_ties: whether moves that the heuristic has no preference about are kept.
        spread: times as many moves are played as are kept. From 2 on a move that was seen before is kept only where
            others do not suffice: a policy that is stuck makes few moves over and over.

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
    try:
        policy = play.randomised(act or play.heuristic_policy(), share_random)
        # Here all environments are in this process, whatever they have in training.
        with step_alarm(play.batch, config.model_copy(update={"workers": 0}), ENVS):
            while not play.has_enough([count * spread for count in counts]):
                play.step(policy)
    finally:
        play.batch.close()
    if spread > 1:
        play.moves = [_new_ones_first(moves, play.rng) for moves in play.moves]
    # Rows of moves become columns of pairs.
    pairs = []
    for g, (moves, count) in enumerate(zip(play.moves, counts, strict=True)):
        obs, last_obs, agent, action, label, before, after = zip(*moves[:count], strict=True)
        pairs.append(
            Pairs(
                group=g,
                obs=np.stack(obs),
                last_obs=np.stack(last_obs),
                agent=np.array(agent),
                action=np.array(action),
                label=np.array(label),
                before=list(before),
                after=list(after),
            )
        )
    return Collected(pairs, play.steps)


class _Move(NamedTuple):
    """One agent's move from s to s′; the fields of `Pairs`, in their order."""

    obs: FloatArray
    last_obs: FloatArray
    agent: int
    action: int
    label: int
    before: str
    after: str


def _new_ones_first(moves: list[_Move], rng: np.random.Generator) -> list[_Move]:
    """Return the moves in random order, but those that repeat an earlier observation and action last."""
    mixed = [moves[i] for i in rng.permutation(len(moves))]
    # Equal contents have equal hashes; the first of each goes before all that repeat one.
    contents = np.array([hash((move.obs.tobytes(), move.action)) for move in mixed])
    first = np.zeros(len(mixed), bool)
    first[np.unique(contents, return_index=True)[1]] = True
    return [mixed[i] for i in (*np.flatnonzero(first), *np.flatnonzero(~first))]


@dataclass(frozen=True)
class _PendingMove:
    """A move that is about to be made, and what was before it."""

    g: int
    i: int  # number of the agent in its group
    agent: Any
    action: int
    obs: FloatArray
    state: Any  # the heuristic's state
    text: str


class _Play:
    """The task in play.

    Attributes:
        moves: [g], those that were kept so far.
        steps: environment steps so far.
        now: what the agents observe.
    """

    def __init__(
        self, config: TaskConfig, spec: TaskSpec, seed: int, episode_steps: int | None, keep_ties: bool
    ) -> None:
        self.spec, self.keep_ties, self.rng = spec, keep_ties, np.random.default_rng(seed)
        # The shorter of the task's own time limit and the one that is asked for.
        limits = [limit for limit in (config.n_max, episode_steps) if limit is not None]
        factory, limit = plain_task_factory(config), min(limits, default=None)
        self.batch = PettingZooTask(factory, ENVS, config.team_is_paid, limit, agent_ids=config.adds_agent_ids)
        self.batch.witness = self.judge
        self.moves: list[list[_Move]] = [[] for _ in spec.groups]
        self.steps = 0
        self.now: Step = self.batch.reset(seed)
        self._pending: dict[int, list[_PendingMove]] = {}  # by environment
        self._judged: list[tuple[int, _PendingMove, int, str]] = []  # environment, move, label, s′ in words

    def has_enough(self, counts: Sequence[int]) -> bool:
        """Return whether there are `counts` [g] moves.

        Raises:
            PreferenceError: they have not come within LONGEST steps.
        """
        if self.steps > LONGEST:
            raise PreferenceError(
                f"{counts!r} pairs must come within {LONGEST} steps of {self.spec.name!r}, got "
                f"{[len(moves) for moves in self.moves]!r}; ask for fewer, or let its agents do more than stay"
            )
        return all(len(moves) >= count for moves, count in zip(self.moves, counts, strict=True))

    def heuristic_policy(self) -> Act:
        """Return the policy that follows the task's heuristic.

        Raises:
            PreferenceError: the task has none.
        """
        if self.batch.tasks[0].heuristic is None:
            raise PreferenceError(
                f"the data policy needs the task's heuristic, {self.spec.name!r} has none; give a policy, or write one"
            )

        def act(step: Step) -> list[ActionArray]:  # noqa: ARG001 it sees more
            chosen: list[ActionArray] = []
            for ids in self.batch.agent_ids:
                actions = np.zeros((self.batch.num_envs, len(ids)), np.int64)
                for e, task in enumerate(self.batch.tasks):
                    assert task.heuristic is not None
                    state = task.heuristic.state(task.env)
                    actions[e] = [task.heuristic.act(agent, state) for agent in ids]
                chosen.append(actions)
            return chosen

        return act

    def randomised(self, policy: Act, share_random: tuple[float, float]) -> Act:
        """Return the policy, but that each agent acts at random in a share of its steps, see `collect_pairs`."""
        envs = self.batch.num_envs
        shares = [self.rng.uniform(*share_random, (envs, len(g.agents))) for g in self.spec.groups]

        def act(step: Step) -> list[ActionArray]:
            mixed = []
            for g, (actions, share) in enumerate(zip(policy(step), shares, strict=True)):
                group = self.spec.groups[g]
                # Now and then a share is drawn anew.
                changes = self.rng.random(share.shape) < CHANGE
                share[changes] = self.rng.uniform(*share_random, int(changes.sum()))
                at_random = self.rng.random(share.shape) < share
                # The allowed action with the highest random number is one at random.
                drawn = self.rng.random((envs, len(group.agents), group.n_actions))
                allowed = drawn if step.masks is None else np.where(step.masks[g], drawn, -1.0)
                mixed.append(np.where(at_random, allowed.argmax(-1), actions))
            return mixed

        return act

    def step(self, policy: Act) -> None:
        """Play one joint step of all environments, and keep some of its moves."""
        actions = policy(self.now)
        self._pending = {e: self.draw_moves(e, task, actions) for e, task in enumerate(self.batch.tasks)}
        self._judged = []
        self.now = self.batch.step(actions)  # calls `judge`
        self.steps += self.batch.num_envs
        for e, move, label, after in self._judged:
            # What a crashed environment shows is not what the move led to.
            if self.now.lost is not None and self.now.lost[e]:
                continue
            last_obs = self.now.last_obs[move.g][e, move.i].copy()
            self.moves[move.g].append(_Move(move.obs, last_obs, move.i, move.action, label, move.text, after))

    def draw_moves(self, e: int, task: Task, actions: list[ActionArray]) -> list[_PendingMove]:
        """Draw the moves of environment e that may be kept, before they are made."""
        moves = []
        for g, group in enumerate(self.spec.groups):
            drawn = self.rng.random(len(group.agents)) < SHARE
            for i, agent in enumerate(self.batch.agent_ids[g]):
                alive = self.now.alive is None or self.now.alive[g][e, i]
                action = int(actions[g][e, i])
                if drawn[i] and alive and action != group.stay:
                    state = None if task.heuristic is None else task.heuristic.state(task.env)
                    obs = self.now.obs[g][e, i].copy()
                    moves.append(_PendingMove(g, i, agent, action, obs, state, task.viewpoint(agent)))
        return moves

    def judge(self, e: int, task: Task) -> None:
        """Look at environment e in s′, before auto-reset: what the heuristic says of its moves, and s′ in words."""
        for move in self._pending.get(e, ()):
            label = NOT_JUDGED
            if task.heuristic is not None:
                after = task.heuristic.state(task.env)
                label = task.heuristic.prefers(move.agent, move.state, move.action, after)
            if label or self.keep_ties:
                self._judged.append((e, move, label, task.viewpoint(move.agent)))
