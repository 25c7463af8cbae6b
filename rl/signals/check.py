"""What can be said against a signal before any training is spent on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import SignalError
from ..experience.transition_sample import TransitionSample
from ..task import FloatArray, TaskSpec
from .expression import MAX_RESULT, parse_expression
from .scorer import NO_SCORERS, Scorers
from .shaping import CompiledSignal, freeze
from .signal import EventTerm, LearnedTerm, PotentialTerm, Signal, Term, is_removal

__all__ = ["CheckReport", "check_signal", "is_removal", "proposal_hash", "shape_hash"]

TRIVIAL = 0.05  # relative difference of shaping below which two signals count as the same
EVENT_SHARE = 0.25  # of the width of the return range: the largest bonus for one event
EVENT_LIMIT = 1.0  # the same in reward where the range is not known
ENDS = 5  # successful and failed episodes each, before Φ at their ends can speak against a signal
SMALL = 1e-9

Measure = Callable[[list[FloatArray]], float]


@dataclass(frozen=True)
class CheckReport:
    """`problems`: why the signal may not be tried, empty when it passed. `notes`: what is worth knowing."""

    problems: list[str]
    notes: list[str]


def proposal_hash(signal: Signal) -> str:
    """The content hash without the scale, which is frozen only later: what `rejected` holds."""
    return signal.model_copy(update={"scale": None}).content_hash()


def shape_hash(signal: Signal) -> str:
    """Of what it rewards alone: names of terms, their order, spaces, strength and exploration do not count. What is in
    quarantine by this hash does not come back under another name."""
    terms = [term.model_dump(mode="json", exclude={"name"}) for term in signal.terms]
    for term in terms:
        if "expression" in term:
            term["expression"] = "".join(term["expression"].split())
    content = json.dumps(sorted(json.dumps(term, sort_keys=True) for term in terms))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def check_signal(
    signal: Signal,
    spec: TaskSpec,
    recorded: TransitionSample,
    in_force: Signal,
    rejected: set[str],
    return_range: tuple[float, float] | None = None,
    quarantined: set[str] | None = None,
    scorers: Scorers = NO_SCORERS,
) -> CheckReport:
    """Everything that recorded transitions can tell; costs no environment step.

    `rejected`: `proposal_hash` of signals that were rejected. `quarantined`: `shape_hash` of signals that were promoted
    and rolled back, or declined. `return_range`: where the task declares none, the one
    seen. A signal that only takes away is spared the questions about its potentials: they are in force already.
    """
    try:
        compiled, kept = CompiledSignal(signal, spec, scorers), CompiledSignal(in_force, spec, scorers)
    except SignalError as error:
        return CheckReport([str(error)], [])
    returns = spec.return_range or return_range
    frozen = freeze(signal, in_force, spec, recorded, returns, scorers)
    fresh = [term for term in signal.terms if term not in in_force.terms]
    problems = [
        *_duplicate(signal, rejected),
        *_quarantined(signal, quarantined or set()),
        *_farmable(fresh, spec),
        *_not_finite(signal, spec, recorded),
    ]
    problems += _strong_events(frozen, fresh, returns)
    notes = list(_about_potentials(compiled, recorded))
    if is_removal(signal, in_force):
        return CheckReport(problems, [*notes, "only takes away from the signal in force: judged by non-inferiority"])
    old = freeze(in_force, in_force, spec, recorded, returns, scorers)
    problems += _no_change(compiled.at_scale(frozen.scale), kept.at_scale(old.scale), recorded)
    against, about = _ends(compiled, spec, recorded)
    return CheckReport(problems + against, notes + about)


def _duplicate(signal: Signal, rejected: set[str]) -> Iterator[str]:
    if proposal_hash(signal) in rejected or signal.content_hash() in rejected:
        yield f"the same signal was rejected before (hash {proposal_hash(signal)!r}); propose another idea"


def _quarantined(signal: Signal, quarantined: set[str]) -> Iterator[str]:
    if shape_hash(signal) in quarantined:
        yield "the same terms were promoted and rolled back, or declined (names apart); propose another idea"


def _farmable(terms: list[Term], spec: TaskSpec) -> Iterator[str]:
    """A bonus that can be had without progress is farmed; a penalty on such an event teaches not to act."""
    repeatable = {event.name for group in spec.groups for event in group.events if event.repeatable}
    for term in terms:
        if isinstance(term, EventTerm) and term.event in repeatable:
            yield (
                f"event bonus {term.name!r}: {term.event!r} can be farmed, since it repeats without progress; "
                "use an event that marks progress, or a potential"
            )


def _strong_events(frozen: Signal, terms: list[Term], returns: tuple[float, float] | None) -> Iterator[str]:
    width = 0.0 if returns is None else returns[1] - returns[0]
    limit = EVENT_SHARE * width if width > 0 else EVENT_LIMIT
    for term in terms:
        bonus = frozen.beta * (frozen.scale or 1.0) * abs(term.weight)
        if isinstance(term, EventTerm) and bonus > limit:
            yield (
                f"event bonus {term.name!r}: beta · scale · weight must be at most {limit:.3g}, got {bonus:.3g}; "
                f"lower its weight to {term.weight * limit / bonus:.2g}"
            )


def _not_finite(signal: Signal, spec: TaskSpec, recorded: TransitionSample) -> Iterator[str]:
    """Features and events that the signal reads and that are not finite somewhere."""
    potentials = [term for term in signal.terms if isinstance(term, PotentialTerm)]
    features = {name for term in potentials for name in parse_expression(term.expression).names()}
    events = {term.event for term in signal.terms if isinstance(term, EventTerm)}
    for g, group in enumerate(spec.groups):
        both = np.concatenate([recorded.features[g], recorded.last_features[g]])
        columns = [(name, both[..., i]) for i, name in enumerate(group.feature_names()) if name in features]
        columns += [(name, recorded.events[g][..., i]) for i, name in enumerate(group.event_names()) if name in events]
        for name in [name for name, values in columns if not np.isfinite(values).all()]:
            yield f"{name!r} of group {group.name!r} is not finite in recorded transitions; leave it out of the signal"


def _about_potentials(compiled: CompiledSignal, recorded: TransitionSample) -> Iterator[str]:
    for k, term in enumerate(compiled.signal.terms):
        if isinstance(term, LearnedTerm) and term.form == "difference":
            yield f"learned term {term.name!r} in its difference form is no potential: it may change what is optimal"
        if isinstance(term, EventTerm) or not len(recorded.terminated):
            continue
        values = compiled.term_potential(k, recorded.features, recorded.obs)
        clipped = np.mean(np.concatenate([np.abs(x).ravel() for x in values]) >= MAX_RESULT)
        if clipped > 0:
            yield f"potential {term.name!r} is clipped at ±{MAX_RESULT:g} for {clipped:.0%} of recorded states"
        if _spread(values) < SMALL:
            yield f"potential {term.name!r} is constant on recorded states, so it shapes nothing that happens now"


# ------------------------------------------------------------ different from the signal in force


def _no_change(new: CompiledSignal, old: CompiledSignal, recorded: TransitionSample) -> Iterator[str]:
    """Potentials count as the same when they differ by a constant, event bonuses when they pay the same. Both have
    their scale."""
    frozen, in_force = new.signal, old.signal
    if (frozen.beta, frozen.terms) == (in_force.beta, in_force.terms):
        also = "" if frozen.exploration == in_force.exploration else " but for exploration, which every arm is given"
        yield f"the signal is the one in force (version {in_force.version}){also}; change a term, a weight or beta"
        return
    if not len(recorded.terminated):
        return
    potentials = [_potentials(c, recorded) for c in (new, old)]
    bonuses = [_bonuses(c, recorded) for c in (new, old)]
    difference = max(_relative(_spread, *potentials), _relative(_size, *bonuses))
    if difference < TRIVIAL:
        yield (
            f"on recorded transitions the shaping must differ from the signal in force by {TRIVIAL:.0%} or more, "
            f"got {difference:.1%}; use features or events that vary under the current policies"
        )


def _potentials(compiled: CompiledSignal, recorded: TransitionSample) -> list[FloatArray]:
    """[g] [N, A_g]: beta · scale · Σ w_k Φ_k."""
    heights = compiled.heights(recorded.features, recorded.obs)
    return [(compiled.strength * x).astype(np.float32) for x in heights]


def _bonuses(compiled: CompiledSignal, recorded: TransitionSample) -> list[FloatArray]:
    """[g] [N, A_g]: event bonuses before any decay."""
    return [(compiled.strength * x).astype(np.float32) for x in compiled.bonuses(recorded.events)]


def _spread(values: list[FloatArray]) -> float:
    """Root mean square over agents of the standard deviation over states; [g] [N, A_g]."""
    deviations = np.concatenate([x.astype(np.float64).std(axis=0) for x in values])
    return float(np.sqrt(np.mean(deviations**2)))


def _size(values: list[FloatArray]) -> float:
    """Root mean square of [g] [N, A_g]."""
    return float(np.sqrt(np.mean(np.concatenate([x.astype(np.float64).ravel() for x in values]) ** 2)))


def _relative(measure: Measure, new: list[FloatArray], old: list[FloatArray]) -> float:
    """Size of the difference as a share of the larger of both; 0 where both are nothing."""
    larger = max(measure(new), measure(old))
    return 0.0 if larger < SMALL else measure([a - b for a, b in zip(new, old, strict=True)]) / larger


# ------------------------------------------------------------ potentials at the ends of episodes


def _ends(compiled: CompiledSignal, spec: TaskSpec, recorded: TransitionSample) -> tuple[list[str], list[str]]:
    """(problems, notes) from Φ at the last non-terminal states of successful and failed episodes.

    A potential's sum over an episode says nothing (it telescopes), so its ends are compared: a good one is not lower
    where episodes succeed. It is a problem when the mean is lower by more than one pooled standard deviation (at
    least 5 % of the spread of all ends), with five episodes of either kind or more.
    """
    masks = compiled.potential_agents()
    if not any(mask.any() for mask in masks):
        return [], []
    success = np.asarray(recorded.end_success) > 0.5
    if not spec.has_success or not success.any() or success.all():
        why = "the task has no success test" if not spec.has_success else "episodes of both outcomes are needed"
        return [], [f"potential at the ends of episodes: not applicable ({why})"]
    values = compiled.heights(recorded.end_features, recorded.end_obs)
    phi = np.concatenate([x[:, mask] for x, mask in zip(values, masks, strict=True)], axis=1).mean(axis=1)
    good, bad = phi[success].astype(np.float64), phi[~success].astype(np.float64)
    means = f"mean {good.mean():.3g} of {len(good)} successful, {bad.mean():.3g} of {len(bad)} failed"
    said = f"potential at the ends of episodes: {means}"
    if min(len(good), len(bad)) >= ENDS and bad.mean() - good.mean() > _pooled_sd(good, bad):
        rule = "it must not be clearly lower where episodes succeed: turn its sign or use another feature"
        return [f"{said}; {rule}"], []
    return [], [said]


def _pooled_sd(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    both = np.concatenate([a - a.mean(), b - b.mean()])
    return max(float(np.sqrt(np.sum(both**2) / (len(both) - 2))), 0.05 * float(np.ptp(np.concatenate([a, b]))))
