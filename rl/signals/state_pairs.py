"""Pairs of states on which signals are compared, and the Pearson distance of what they pay there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..experience.transition_sample import TransitionSample
from ..task import ActionArray, BoolArray, FloatArray, GroupSpec, TaskSpec
from .terms.base import SMALLEST_SPREAD

DRAWN = 1024  # pairs of states that are drawn


@dataclass(frozen=True)
class StatePairs:
    """States s and s′ with the events between them, as `Transitions` has them: nobody has left, and everybody moves."""

    features: list[FloatArray]
    last_features: list[FloatArray]
    events: list[FloatArray]
    obs: list[FloatArray]
    last_obs: list[FloatArray]
    terminated: FloatArray
    alive: list[BoolArray] | None = None
    last_alive: list[BoolArray] | None = None
    actions: list[ActionArray] = field(init=False)  # choices that no task has

    def __post_init__(self) -> None:
        object.__setattr__(self, "actions", [np.full(x.shape[:-1], -1) for x in self.features])


def recorded_pairs(recorded: TransitionSample, terminated: FloatArray | None = None) -> StatePairs:
    """Return the recorded transitions; none of them ends an episode where `terminated` [N] is left out."""
    return StatePairs(
        features=recorded.features,
        last_features=recorded.last_features,
        events=recorded.events,
        obs=recorded.obs,
        last_obs=recorded.last_obs,
        terminated=np.zeros(len(recorded.terminated), np.float32) if terminated is None else terminated,
    )


def drawn_pairs(spec: TaskSpec, recorded: TransitionSample) -> StatePairs:
    """Return `DRAWN` pairs of made-up states, in which also holds what never held in the run; always the same.

    Each feature of each agent is drawn for itself: an end of its declared range, a whole number or any number in it,
    since conditions hold at such values; counts and flags are whole numbers. Events happen up to twice. Observations
    have no declared range, so they are recorded ones.
    """
    rng = np.random.default_rng(0)

    def features(group: GroupSpec) -> FloatArray:
        out = np.zeros((DRAWN, len(group.agents), len(group.features)), np.float32)
        for i, feature in enumerate(group.features):
            shape, low, high = out.shape[:2], feature.low, feature.high
            if feature.kind in ("count", "flag"):
                out[..., i] = rng.integers(round(low), round(high), shape, endpoint=True)
            else:
                inside = rng.uniform(low, high, shape)
                out[..., i] = np.choose(rng.integers(0, 4, shape), [low, high, np.round(inside), inside])
        return out

    def observations(recorded_obs: list[FloatArray]) -> list[FloatArray]:
        return [x[rng.integers(0, max(len(x), 1), DRAWN)] if len(x) else x for x in recorded_obs]

    return StatePairs(
        features=[features(group) for group in spec.groups],
        last_features=[features(group) for group in spec.groups],
        events=[rng.integers(0, 3, (DRAWN, len(g.agents), len(g.events))).astype(np.float32) for g in spec.groups],
        obs=observations(recorded.obs),
        last_obs=observations(recorded.last_obs),
        terminated=np.zeros(DRAWN, np.float32),
    )


# ------------------------------------------------------------ distance


def pearson_distance(one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> float | None:
    """Return √((1 − ρ)/2) with the correlation ρ of two arrays [n], 0..1; None where one of them is constant."""
    if min(deviation(one), deviation(other)) < SMALLEST_SPREAD:
        return None
    centred = [x.astype(np.float64) - x.mean(dtype=np.float64) for x in (one, other)]
    u, v = (x / np.linalg.norm(x) for x in centred)
    # Half the chord between both unit vectors is the same number, and exact where they nearly agree.
    return min(float(np.linalg.norm(u - v)) / 2, 1.0)


def deviation(values: NDArray[np.floating[Any]]) -> float:
    """Return the standard deviation, 0 of nothing."""
    return float(values.astype(np.float64).std()) if values.size else 0.0
