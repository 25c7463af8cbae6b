"""Figure 6 of LCA: the reward of single steps of Victim-Rubble, LCA's beside the team's (row A-1)."""

from __future__ import annotations

from collections.abc import Sequence
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
from ..report import Row, Tell
from .arms import TASKS
from .statements import Part, above, below, statement_row

EPISODES = 20  # a seed
ERRS = 0.25  # share of random actions, so that useless steps are seen
SHOWN = 60  # longest episode that is drawn
AGREES = 0.9  # share of steps whose reward has the right sign
DENSE = 0.8  # share of steps that are paid, of those that are not stay
SPARSE = 6  # steps of an episode that the team is paid for
PAID = 0.05  # of a scorer's unit
MEDIC = AGENTS[0]


class Move(NamedTuple):
    """One agent's move.

    Attributes:
        agent: who moved.
        action: what it did.
        label: of the heuristic: 1 useful, -1 useless, 0 neither.
        paid: by the agent's scorer.
    """

    agent: str
    action: int
    label: int
    paid: float


@dataclass(frozen=True)
class Episode:
    """One episode of Victim-Rubble.

    Attributes:
        moves: of all agents, step by step.
        team: the team's reward of each step for events and success, without the time penalty.
        solved: whether it ended with success.
    """

    moves: list[Move]
    team: list[float]
    solved: bool

    def of(self, agent: str) -> list[Move]:
        """Return the agent's moves, one for each step."""
        return [move for move in self.moves if move.agent == agent]


def rollout_rows(seeds: Sequence[int], tell: Tell) -> tuple[list[Row], dict[str, list[float]]]:
    """Play episodes, and return the row A-1 and what each step of one episode paid, by kind of reward, to be drawn."""
    played = [play_seed(seed) for seed in seeds]
    tell(f"figure 6: {len(seeds)} seeds of {EPISODES} episodes played")

    def medic_part(kind: str, label: int) -> Part:
        """Return the share of the medic's steps of that label whose reward has the label's sign."""
        shares = [
            np.mean([move.paid * label > 0 for e in episodes for move in e.of(MEDIC) if move.label == label])
            for episodes in played
        ]
        statement = f"share of the medic's {kind} steps paid {'above' if label > 0 else 'below'} 0"
        return above(statement, [float(share) for share in shares], AGREES)

    dense = [
        float(np.mean([abs(move.paid) > PAID for e in episodes for move in e.of(MEDIC) if move.action != STAY]))
        for episodes in played
    ]
    team_steps = [max(int(np.count_nonzero(np.round(e.team, 6))) for e in episodes) for episodes in played]
    parts = [
        medic_part("useful", 1),
        medic_part("useless", -1),
        above("share of the medic's steps but staying that are paid", dense, DENSE),
        below("steps with a team reward, longest count", team_steps, SPARSE),
    ]
    text = "the medic is paid > 0 for useful steps and < 0 for useless ones; dense where the team's reward is sparse"
    row = statement_row("A-1", text, parts, len(seeds))

    # drawn is the first episode of the first seed that is solved within SHOWN steps, else its shortest one
    short = [e for e in played[0] if e.solved and len(e.team) <= SHOWN]
    shown = short[0] if short else min(played[0], key=lambda e: len(e.team))
    roles = zip(AGENTS, ("medic", "engineer"), strict=True)
    by_kind = {f"LCA, {role}": [move.paid for move in shown.of(agent)] for agent, role in roles}
    return [row], {**by_kind, "team reward": shown.team}


# ---------------------------------------------------------------- playing


def play_seed(seed: int) -> list[Episode]:
    """Fit scorers to the heuristic's preferences, and play episodes of a team that follows it but for ERRS."""
    collected = collect_pairs(TaskConfig(name="victim_rubble"), TASKS["victim_rubble"].counts, seed)
    scorers = [fit_scorer(pairs, (pairs.label + 1) / 2, ScorerConfig(), seed).scorer for pairs in collected.pairs]
    rng = np.random.default_rng(seed)
    return [play(scorers, rng, seed * 1000 + number) for number in range(EPISODES)]


def play(scorers: Sequence[Scorer], rng: np.random.Generator, seed: int) -> Episode:
    """Play one episode from the start of `seed`; `scorers` are by agent."""
    task = VictimRubbleTask()
    env, heuristic = task.env, task.heuristic
    obs, _ = env.reset(seed)
    moves, team, solved = list[Move](), list[float](), False
    while env.agents:
        before = heuristic.state(env)
        # some actions are random, so that useless steps are seen
        wild = rng.random(len(AGENTS)) < ERRS
        actions = {
            agent: int(rng.integers(len(ACTION_NAMES))) if wild[i] else heuristic.act(agent, before)
            for i, agent in enumerate(AGENTS)
        }
        last, (obs, reward, terminated, _, _) = obs, env.step(actions)
        after, solved = heuristic.state(env), terminated[MEDIC]
        # the time penalty is taken out again
        team.append(reward[MEDIC] + 1 / env.max_steps)
        for agent, scorer in zip(AGENTS, scorers, strict=True):
            # paid is the difference of the score after and before; nothing for staying
            ends = scorer.score(np.stack([last[agent], obs[agent]]))
            paid = difference(ends[0], ends[1], np.array(actions[agent] != STAY))
            label = 0 if actions[agent] == STAY else heuristic.prefers(agent, before, actions[agent], after)
            moves.append(Move(agent, actions[agent], label, float(paid)))
    return Episode(moves, team, bool(solved))
