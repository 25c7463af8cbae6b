"""How far apart two signals are, by what they pay on the same pairs of states; costs no environment step.

EPIC (Gleave, Dennis, Legg, Russell, Leike: "Quantifying differences in reward functions", ICLR 2021) compares two
reward functions without training a policy: both are brought into a canonical form, which takes potential-based shaping
out, and the Pearson distance √((1 − ρ)/2) of what they give on sampled transitions is their distance.

*Taken over*: the Pearson distance, and with it its bounds 0..1, the invariance to positive scale and to a constant
payment, the triangle inequality, and that transitions stand in for training. Two signals that pay alike but for their
strength have distance 0, two without correlation 0.71, a signal and its reverse 1.

*Not taken over*: the canonical form. It maps every potential to zero, for all of them leave the optimal policies what
they are; but signals of this package are mostly potentials, and what is asked is how differently they would teach. So
the payments F themselves are compared, at γ = 1 and as if no episode ended: then F of a potential is Φ(s′) − Φ(s), in
which a constant of Φ drops out. The sparse reward, which all have in common, is left out. Nor is there a coverage
distribution of all transitions: the pairs are those that the run has recorded, of its own policies, so that the
distance says nothing about states that nobody visits, and EPIC's bound on regret does not hold for it.

What counts as a twin is asked beyond the recorded pairs, see `SignalComparison.twins`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import SignalError
from ..experience.transition_sample import TransitionSample
from ..task import ActionArray, BoolArray, FloatArray, GroupSpec, TaskSpec
from .scorer import NO_SCORERS, Scorers
from .shaping import CompiledSignal, freeze
from .signal import Signal
from .terms.base import SMALLEST_SPREAD

TWIN = 1e-4  # largest distance, and largest relative difference of size, of two signals that pay the same
DRAWN = 1024  # pairs of states that are drawn

_NOTHING = np.zeros(1, np.float32)

# What fades together is compared together, potentials apart from what is none: main steps that it fades over, and
# whether it is a potential.
Part = tuple[int | None, bool]


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


@dataclass(frozen=True)
class Payments:
    """The payments of a signal at γ = 1 and without an end, flat over pairs and agents, by part: [N · A] each."""

    recorded: dict[Part, FloatArray]
    drawn: dict[Part, FloatArray]


class SignalComparison:
    """Compares signals that could be put in force at one moment of a run.

    Attributes:
        spec: the task.
        recorded: what the run has recorded by then.
        in_force: the signal that others would replace.
    """

    def __init__(
        self,
        spec: TaskSpec,
        recorded: TransitionSample,
        in_force: Signal,
        return_range: tuple[float, float] | None,
        scorers: Scorers = NO_SCORERS,
    ) -> None:
        """Prepare comparisons; `return_range` is what scales are frozen with, `scorers` are those of learned terms."""
        self.spec, self.recorded, self.in_force = spec, recorded, in_force
        self._return_range, self._scorers = return_range, scorers
        self._payments: dict[str, Payments | None] = {}
        self._pairs = recorded_pairs(recorded), drawn_pairs(spec, recorded)

    def compiled(self, signal: Signal) -> CompiledSignal:
        """Return `signal` compiled at the scale that it has, or would have. Raises SignalError where it cannot be."""
        frozen = freeze(signal, self.in_force, self.spec, self.recorded, self._return_range, self._scorers)
        return CompiledSignal(frozen, self.spec, self._scorers)

    def distance(self, one: Signal, other: Signal) -> float | None:
        """Return the Pearson distance of their payments on recorded transitions, 0..1, when both are new.

        It is None where one of them pays the same in every recorded step, or does not fit the task.
        """
        mine, theirs = self._paid(one), self._paid(other)
        if mine is None or theirs is None:
            return None
        return pearson_distance(_total(mine.recorded), _total(theirs.recorded))

    def twins(self, one: Signal, other: Signal, at_any_strength: bool = False) -> bool:
        """Return whether both pay the same, however they are written.

        They do where every part of them, potentials and what is none by the time that it fades over, has distance 0 and
        the same size. It must be so on the recorded pairs, and on drawn ones too: a part behind a condition that never
        held in the run pays nothing there, whatever it would pay later. Signals that pay nothing on the recorded pairs
        are not known to be twins.

        Args:
            one: a signal.
            other: a signal.
            at_any_strength: sizes may differ, by one factor for all parts, and so may exploration and how they are
                learnt from; else both are alike in these. Both add the same to advantages in any case.
        """
        mine, theirs = self._paid(one), self._paid(other)
        if mine is None or theirs is None or (one.exploration != other.exploration and not at_any_strength):
            return False
        on_advantages = [{x for x in signal.terms if x.acts_on_advantages} for signal in (one, other)]
        learnt_alike = at_any_strength or one.learner == other.learner
        if not learnt_alike or on_advantages[0] != on_advantages[1]:
            return False
        ratios: list[float] = []
        for a, b in ((mine.recorded, theirs.recorded), (mine.drawn, theirs.drawn)):
            for part in a.keys() | b.keys():
                x, y = a.get(part, _NOTHING), b.get(part, _NOTHING)
                sizes = _deviation(x), _deviation(y)
                if max(sizes) < SMALLEST_SPREAD:
                    continue
                distance = pearson_distance(x, y)
                if distance is None or distance > TWIN:
                    return False
                ratios.append(sizes[0] / sizes[1])
            if not ratios:  # nothing is paid on the recorded pairs
                return False
        usual = ratios[0] if at_any_strength else 1.0
        return all(abs(ratio / usual - 1.0) <= TWIN for ratio in ratios)

    def _paid(self, signal: Signal) -> Payments | None:
        """Return what it pays, None where it does not fit the task; each signal is computed once."""
        key = signal.content_hash()
        if key not in self._payments:
            try:
                compiled = self.compiled(signal)
                self._payments[key] = Payments(*(undiscounted(compiled, pairs) for pairs in self._pairs))
            except SignalError:
                self._payments[key] = None
        return self._payments[key]


def undiscounted(compiled: CompiledSignal, pairs: StatePairs) -> dict[Part, FloatArray]:
    """Return the payments of a new signal at γ = 1 by part, flat; `pairs` say of no episode that it ended."""
    out: dict[Part, FloatArray] = {}
    shaping = compiled.shape(pairs, gamma=1.0)
    for compiled_term, rewards in zip(compiled.terms, shaping.per_term, strict=True):
        part = compiled_term.term.fades_over, compiled_term.term.is_potential
        flat = np.concatenate([x.ravel() for x in rewards])
        out[part] = out[part] + flat if part in out else flat
    return out


def _total(parts: dict[Part, FloatArray]) -> NDArray[np.float64]:
    """Return the sum of all parts."""
    return np.asarray(sum((x.astype(np.float64) for x in parts.values()), start=_NOTHING))


def _deviation(values: NDArray[np.floating[Any]]) -> float:
    return float(values.astype(np.float64).std()) if values.size else 0.0


def pearson_distance(one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> float | None:
    """Return √((1 − ρ)/2) with the correlation ρ of two arrays [n], 0..1; None where one of them is constant."""
    if min(_deviation(one), _deviation(other)) < SMALLEST_SPREAD:
        return None
    centred = [x.astype(np.float64) - x.mean(dtype=np.float64) for x in (one, other)]
    u, v = (x / np.linalg.norm(x) for x in centred)
    # Half the chord between both unit vectors is the same number, and exact where they nearly agree.
    return min(float(np.linalg.norm(u - v)) / 2, 1.0)


# ------------------------------------------------------------ pairs of states


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
