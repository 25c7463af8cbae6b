"""How far apart two signals are, by what they pay on the same pairs of states; costs no environment step.

EPIC (Gleave, Dennis, Legg, Russell, Leike: "Quantifying differences in reward functions", ICLR 2021) compares two
reward functions without training a policy: both are brought into a canonical form, which takes potential-based shaping
out, and the Pearson distance √((1 − ρ)/2) of what they give on sampled transitions is their distance.

*Taken over*: the Pearson distance, and with it its bounds 0..1, the invariance to positive scale and to a constant
payment, the triangle inequality, and that transitions stand in for training. Two signals that pay alike but for their
strength have distance 0, two without correlation 0.71, a signal and its reverse 1.

*Not taken over here*, but in `epic`: the canonical form. It maps every potential to zero, for all leave the optimal
policies what they are; but signals of this package are mostly potentials, and what is asked is how differently they
would teach. So the payments F themselves are compared, at γ = 1 and as if no episode ended: then F of a potential is
Φ(s′) − Φ(s), in which a constant of Φ drops out. The sparse reward, which all have in common, is left out. Nor is there
a coverage distribution of all transitions: the pairs are those that the run has recorded, of its own policies, so that
the distance says nothing about states that nobody visits, and EPIC's bound on regret does not hold for it.

What counts as a twin is asked beyond the recorded pairs, see `SignalComparison.twins`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import SignalError
from ..experience.transition_sample import TransitionSample
from ..task import FloatArray, TaskSpec
from .epic import canonical, epic_distance
from .scorer import NO_SCORERS, Scorers
from .shaping import CompiledSignal, freeze
from .signal import Signal
from .state_pairs import StatePairs, deviation, drawn_pairs, pearson_distance, recorded_pairs
from .terms.base import SMALLEST_SPREAD

TWIN = 1e-4  # largest distance, and largest relative difference of size, of two signals that pay the same

_NOTHING = np.zeros(1, np.float32)

# What fades together is compared together, potentials apart from what is none, and what has another bound apart, which
# single steps do not show: main steps that it fades over, whether it is a potential, its bound.
Part = tuple[int | None, bool, str]


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
        self._forms: dict[str, NDArray[np.float64] | None] = {}  # canonical, by signal and γ
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

        They do where every part of them, by what it is and the time that it fades over, see `Part`, has distance 0 and
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
                sizes = deviation(x), deviation(y)
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

    def epic_distance(self, one: Signal, other: Signal, gamma: float) -> float | None:
        """Return their EPIC distance, 0..1, see `epic`.

        It is None where nothing is recorded, or one has no terms or does not fit the task.
        """
        forms = [self._canonical(signal, gamma) for signal in (one, other)]
        if forms[0] is None or forms[1] is None or not forms[0].size or not (one.terms and other.terms):
            return None
        return epic_distance(forms[0], forms[1])

    def _canonical(self, signal: Signal, gamma: float) -> NDArray[np.float64] | None:
        key = f"{signal.content_hash()} {gamma}"
        if key not in self._forms:
            try:
                self._forms[key] = canonical(self.compiled(signal), self.recorded, gamma)
            except SignalError:
                self._forms[key] = None
        return self._forms[key]

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
        term = compiled_term.term
        part = term.fades_over, term.is_potential, term.bounded_by[0]
        flat = np.concatenate([x.ravel() for x in rewards])
        out[part] = out[part] + flat if part in out else flat
    return out


def _total(parts: dict[Part, FloatArray]) -> NDArray[np.float64]:
    """Return the sum of all parts."""
    return np.asarray(sum((x.astype(np.float64) for x in parts.values()), start=_NOTHING))
