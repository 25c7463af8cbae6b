"""Progress from hops: a model says which share of the remaining way one state is ahead of another (Robo-Dopamine).

    H(p, q) = (Φ_q − Φ_p) / (1 − Φ_p) where q is ahead, else (Φ_q − Φ_p) / Φ_p           −1..1
    ΔΦ = (1 − Φ) H where H ≥ 0, else Φ H                                              so that Φ stays in 0..1
    forward Φ_F = H(start, s)      backward Φ_B = 1 + H(goal, s)      incremental Φ_I = Φ*(p) + ΔΦ
    w = exp(−α Δ²), Δ = |Φ_B − Φ_F| / (their mean + ε)
    Φ*(s) = Φ*(p) + (w / 2) (mean(Φ_F, Φ_B) − Φ*(p) + ΔΦ)

A judge that contradicts itself has w near 0, so that Φ* stays where it was: an inconsistent judge freezes Φ. What is
regressed on Φ* of the judged states is a small ensemble over the features' shares of their ranges, which a term clips
to 0..1. *Ours*: p and s are both ends of one recorded step, Φ*(p) is that of the start, 0, moved by the forward and
backward views of p in the same way; and the goal is a state in which an episode succeeded, or the words for it where
none did. The authors train a vision model to judge; here the Ranker's model does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...experience.transition_sample import TransitionSample
from ...task import FloatArray, TaskSpec
from ..captions import exact_text
from .judgements import Answers, JudgeQuestion

ALPHA, EPSILON = 4.0, 1e-3
GOAL = "the goal of the task is reached"  # where no episode has succeeded


@dataclass(frozen=True)
class Hops:
    """Recorded steps of agents of one group, n of them, that are judged.

    Attributes:
        group: its number.
        features: [2, n, F_g] before and after each step.
        starts, goals: n texts each, of the state that the agent's episodes begin in, and of its goal.
        texts: n pairs of texts, of before and after.
    """

    group: int
    features: FloatArray
    starts: list[str]
    goals: list[str]
    texts: list[tuple[str, str]]

    def questions(self) -> list[JudgeQuestion]:
        """Return the five hops of each step, each question once."""
        pairs = [pair for step in range(len(self.texts)) for pair in self.pairs(step)]
        return [JudgeQuestion(question="hop", texts=pair) for pair in dict.fromkeys(pairs)]

    def pairs(self, step: int) -> list[tuple[str, str]]:
        """Return the pairs that are judged of a step: forward and backward of either end, and the step itself."""
        (before, after), start, goal = self.texts[step], self.starts[step], self.goals[step]
        return [(start, before), (goal, before), (before, after), (start, after), (goal, after)]


def hops_of(spec: TaskSpec, recorded: TransitionSample, steps: int, seed: int) -> list[Hops]:
    """Return [g]: steps that are judged, in which features change, the newest first; none where none does."""
    rng, found = np.random.default_rng(seed), list[Hops]()
    order = recorded.newest_first()
    succeeded = np.flatnonzero(np.asarray(recorded.end_success) > 0.5)
    for g in range(len(spec.groups)):
        before, after = recorded.features[g][order], recorded.last_features[g][order]
        moved = np.argwhere(np.abs(after - before).max(axis=-1) > 1e-9) if before.shape[-1] else np.zeros((0, 2), int)
        chosen = moved[: 20 * steps]
        chosen = chosen[np.sort(rng.permutation(len(chosen))[:steps])]
        starts, ends = recorded.start_features[g] if recorded.start_features else before, recorded.end_features[g]
        if not len(chosen) or not len(starts):
            continue
        n, i = chosen.T
        pair = np.stack([before[n, i], after[n, i]])
        texts = [(exact_text(spec, g, x), exact_text(spec, g, y)) for x, y in zip(*pair, strict=True)]
        begins = [exact_text(spec, g, starts[-1, agent]) for agent in i]
        goals = [exact_text(spec, g, ends[succeeded[-1], agent]) if len(succeeded) else GOAL for agent in i]
        found.append(Hops(g, pair, begins, goals, texts))
    return found


# ------------------------------------------------------------ Φ from hops


def hop(before: float, after: float) -> float:
    """Return H of a state of progress `after` against one of `before`, both in 0..1."""
    way = 1.0 - before if after >= before else before
    return (after - before) / way if way > 0 else 0.0


def moved_by(phi: float, judged: float) -> float:
    """Return ΔΦ, by which a hop moves Φ; for any hop in −1..1 the sum stays in 0..1."""
    return (1.0 - phi) * judged if judged >= 0 else phi * judged


def next_progress(phi: float, step: float, forward: float, backward: float, alpha: float = ALPHA) -> float:
    """Return Φ*(s) in 0..1.

    Args:
        phi: Φ* of the state before.
        step: the judged hop from it to s, −1..1.
        forward: H(start, s).
        backward: H(goal, s).
        alpha: how strongly inconsistency counts.
    """
    views = min(max(forward, 0.0), 1.0), min(max(1.0 + backward, 0.0), 1.0)
    mean = sum(views) / 2
    inconsistency = abs(views[0] - views[1]) / (mean + EPSILON)
    weight = float(np.exp(-alpha * inconsistency**2))
    return min(max(phi + weight / 2 * (mean - phi + moved_by(phi, step)), 0.0), 1.0)


def judged_progress(hops: Hops, answers: Answers, alpha: float = ALPHA) -> tuple[FloatArray, NDArray[np.float64]]:
    """Return features [m, F_g] and Φ* [m] of the states whose hops were all judged; what was not read counts as 0.

    Args:
        hops: the steps.
        answers: what was said.
        alpha: how strongly inconsistency counts.
    """
    rows, targets = [], []
    for step in range(len(hops.texts)):
        asked = [JudgeQuestion(question="hop", texts=pair) for pair in hops.pairs(step)]
        if not all(question in answers for question in asked):
            continue
        first, last, between, first_after, last_after = (answers[question] or 0.0 for question in asked)
        # from the start, where Φ is 0 and the step to s is the forward hop
        phi = next_progress(0.0, max(first, 0.0), first, last, alpha)
        rows += [hops.features[0, step], hops.features[1, step]]
        targets += [phi, next_progress(phi, between, first_after, last_after, alpha)]
    size = hops.features.shape[-1]
    return np.array(rows, np.float32).reshape(-1, size), np.array(targets, np.float64)
