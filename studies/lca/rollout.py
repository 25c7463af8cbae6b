"""Figure 6: what LCA pays for single steps of Victim-Rubble beside what the team's reward does (row A-1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...rl.envs.config import TaskConfig
from ...rl.envs.grid.map import ACTION_NAMES, AGENTS, STAY
from ...rl.envs.victim_rubble.env import VictimRubbleTask
from ...rl.preferences.collect import collect_pairs
from ...rl.preferences.config import ScorerConfig
from ...rl.preferences.fit import fit_scorer
from ...rl.signals.scorer import Scorer
from ...rl.signals.terms.learned import difference
from ..report import Row
from .arms import TASKS
from .statements import Part, above, below, judged

EPISODES = 20  # a seed
ERRS = 0.25  # share of random actions, so that useless steps are seen
SHOWN = 60  # longest episode that is drawn
AGREES = 0.9  # share of steps whose reward has the right sign
DENSE = 0.8  # share of steps that are paid, of those that are not stay
SPARSE = 6  # steps of an episode that the team is paid for
PAID = 0.05  # of a scorer's unit


class Move(NamedTuple):
    """`paid`: by the agent's scorer. `label`: of the heuristic, 1, 0 or -1."""

    agent: str
    action: int
    label: int
    paid: float


@dataclass(frozen=True)
class Episode:
    """`team`: by step the reward of events and success, without the time penalty."""

    moves: list[Move]
    team: list[float]
    solved: bool

    def of(self, agent: str) -> list[Move]:
        return [move for move in self.moves if move.agent == agent]


def rollout_rows(seeds: Sequence[int], tell: Callable[[str], None]) -> tuple[list[Row], dict[str, list[float]]]:
    """The row A-1, and for the drawing by kind of reward what each step of one solved episode paid."""
    played = [play_seed(seed) for seed in seeds]
    tell(f"figure 6: {len(seeds)} seeds of {EPISODES} episodes played")
    text = "the medic is paid > 0 for useful steps and < 0 for useless ones; dense where the team's reward is sparse"
    parts = [
        _signs("useful", 1, played), _signs("useless", -1, played),
        above("share of the medic's steps but staying that are paid", [_share(_acts(e)) for e in played], DENSE),
        below("steps with a team reward, longest count", [max(_paid_steps(x) for x in e) for e in played], SPARSE),
    ]  # fmt: skip
    return [judged("A-1", text, parts, len(seeds))], _drawn(played[0])


def _signs(what: str, label: int, played: Sequence[Sequence[Episode]]) -> Part:
    values = [
        _share([m.paid * label > 0 for e in episodes for m in e.of("green") if m.label == label]) for episodes in played
    ]
    return above(f"share of the medic's {what} steps paid {'above' if label > 0 else 'below'} 0", values, AGREES)


def _acts(episodes: Sequence[Episode]) -> list[bool]:
    """By step of the medic that is not stay: whether it was paid."""
    return [abs(m.paid) > PAID for e in episodes for m in e.of("green") if m.action != STAY]


def _share(values: Sequence[bool]) -> float:
    return float(np.mean(values))


def _paid_steps(episode: Episode) -> int:
    return int(np.count_nonzero(np.round(episode.team, 6)))


# ---------------------------------------------------------------- playing


def play_seed(seed: int, episodes: int = EPISODES) -> list[Episode]:
    """Scorers fitted to the heuristic's preferences, and episodes of a team that follows it but for ERRS."""
    found = collect_pairs(TaskConfig(name="victim_rubble"), TASKS["victim_rubble"].counts, seed)
    scorers = [fit_scorer(p, (p.label + 1) / 2, ScorerConfig(), seed).scorer for p in found.pairs]
    rng = np.random.default_rng(seed)
    return [play(scorers, rng, seed * 1000 + number) for number in range(episodes)]


def play(scorers: Sequence[Scorer], rng: np.random.Generator, seed: int) -> Episode:
    task = VictimRubbleTask()
    env, judge = task.env, task.heuristic
    obs, _ = env.reset(seed)
    moves, team, solved = list[Move](), list[float](), False
    while env.agents:
        before = judge.state(env)
        wild = rng.random(len(AGENTS)) < ERRS
        actions = {
            agent: int(rng.integers(len(ACTION_NAMES))) if wild[i] else judge.act(agent, before)
            for i, agent in enumerate(AGENTS)
        }
        last, (obs, reward, terminated, _, _) = obs, env.step(actions)
        after, solved = judge.state(env), terminated["green"]
        team.append(reward["green"] + 1 / env.max_steps)
        for agent, scorer in zip(AGENTS, scorers, strict=True):
            ends = scorer.score(np.stack([last[agent], obs[agent]]))
            paid = difference(ends[0], ends[1], np.array(actions[agent] != STAY))
            label = 0 if actions[agent] == STAY else judge.prefers(agent, before, actions[agent], after)
            moves.append(Move(agent, actions[agent], label, float(paid)))
    return Episode(moves, team, bool(solved))


def _drawn(episodes: Sequence[Episode]) -> dict[str, list[float]]:
    """The first that is solved within SHOWN steps, else the shortest."""
    short = [e for e in episodes if e.solved and len(e.team) <= SHOWN]
    one = short[0] if short else min(episodes, key=lambda e: len(e.team))
    paid = {
        f"LCA, {role}": [m.paid for m in one.of(agent)]
        for agent, role in zip(AGENTS, ("medic", "engineer"), strict=True)
    }
    return {**paid, "team reward": one.team}
