"""Checks of a signal before any training is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...errors import SignalError
from ..experience.transition_sample import TransitionSample
from ..task import FloatArray, TaskSpec
from .distance import SignalComparison
from .scorer import NO_SCORERS, Scorers
from .shaping import CompiledSignal, freeze
from .signal import Exploration, Signal, is_removal
from .state_pairs import recorded_pairs
from .terms.base import SMALLEST_SPREAD, spread

TRIVIAL = 0.05  # relative difference of shaping below which two signals count as the same
ENDS = 5  # successful and failed episodes each, before Φ at their ends can speak against a signal

Measure = Callable[[list[FloatArray]], float]


@dataclass(frozen=True)
class CheckReport:
    """The result of the checks, a line each.

    Attributes:
        problems: why the signal may not be tried, empty when it passed.
        notes: what is worth knowing.
    """

    problems: list[str]
    notes: list[str]


def check_signal(
    signal: Signal,
    spec: TaskSpec,
    recorded: TransitionSample,
    in_force: Signal,
    rejected: set[str],
    return_range: tuple[float, float] | None = None,
    quarantined: set[str] | None = None,
    scorers: Scorers = NO_SCORERS,
    taken: Collection[Exploration] | None = None,
) -> CheckReport:
    """Check everything that recorded transitions can tell; costs no environment step.

    A signal that only takes away is spared the questions about its potentials: they are in force already. One that
    changes how policies learn, or advantages, need not shape anything new.

    Args:
        signal: what is proposed; its scale is frozen here where it has none.
        spec: the task.
        recorded: transitions and ends of episodes of the run.
        in_force: the signal that it would replace.
        rejected: `proposal_hash` of signals that were rejected.
        return_range: where the task declares none, the one seen.
        quarantined: `shape_hash` of signals that were promoted and rolled back, or declined.
        scorers: those of learned terms.
        taken: explorations under which the signal in force is tried anyway, where arms may explore differently; any
            other is an idea of its own. None where every arm explores alike.
    """
    try:
        compiled, compiled_in_force = CompiledSignal(signal, spec, scorers), CompiledSignal(in_force, spec, scorers)
    except SignalError as error:
        return CheckReport([str(error)], [])  # a signal that does not fit the task can be asked nothing else
    returns = spec.return_range or return_range
    frozen = freeze(signal, in_force, spec, recorded, returns, scorers)
    # Terms that stay were asked when they were new.
    fresh = [term for term in compiled.terms if term.term not in in_force.terms]
    problems = []
    if signal.proposal_hash() in rejected or signal.content_hash() in rejected:
        problems.append(f"the same signal was rejected before (hash {signal.proposal_hash()!r}); propose another idea")
    if signal.shape_hash() in (quarantined or ()):
        problems.append("the same terms were promoted and rolled back, or declined (names apart); propose another idea")
    problems += [line for term in fresh for line in term.misuse()]
    problems += _not_finite(signal, spec, recorded)
    strength = frozen.beta * (frozen.scale or 1.0)
    problems += [line for term in fresh for line in term.excess(strength, returns)]
    notes = [line for term in compiled.terms for line in term.notes(recorded)]
    if is_removal(signal, in_force):
        return CheckReport(problems, [*notes, "only takes away from the signal in force: judged by non-inferiority"])
    # Both signals are compared at the scale that they have, or would have.
    old = freeze(in_force, in_force, spec, recorded, returns, scorers)
    learns_alike = signal.learner.over(in_force.learner) == in_force.learner
    # what neither advantages nor single steps show cannot be compared here
    unseen = any(term.term.acts_on_advantages or term.term.bounded_by[0] == "delta" for term in fresh)
    if learns_alike and not unseen and (taken is None or signal.exploration in taken):
        problems += _no_change(compiled.at_scale(frozen.scale), compiled_in_force.at_scale(old.scale), recorded)
    against, about = _potential_at_ends(compiled, spec, recorded)
    return CheckReport(problems + against, notes + about)


def _not_finite(signal: Signal, spec: TaskSpec, recorded: TransitionSample) -> Iterator[str]:
    """Give a line for each feature or event that the signal reads and that is not finite somewhere."""
    reads = [term.reads for term in signal.terms]
    features = frozenset[str]().union(*(names.features for names in reads))
    events = frozenset[str]().union(*(names.events for names in reads))
    for g, group in enumerate(spec.groups):
        # States s and s′ of all recorded transitions, then their events.
        both = np.concatenate([recorded.features[g], recorded.last_features[g]])
        columns = [(name, both[..., i]) for i, name in enumerate(group.feature_names()) if name in features]
        columns += [(name, recorded.events[g][..., i]) for i, name in enumerate(group.event_names()) if name in events]
        for name in [name for name, values in columns if not np.isfinite(values).all()]:
            yield f"{name!r} of group {group.name!r} is not finite in recorded transitions; leave it out of the signal"


# ------------------------------------------------------------ different from what was tried


def twin_problems(
    signal: Signal,
    comparison: SignalComparison,
    tried: Mapping[str, Signal],
    withdrawn: Mapping[str, Signal],
    same_round: Mapping[str, Signal],
) -> Iterator[str]:
    """Give a line for each kind of earlier proposals of which one pays the same as `signal`, however it is written.

    Args:
        signal: what is proposed.
        comparison: of what the run has recorded.
        tried: by id, those that must not come again, as strong and with the same exploration.
        withdrawn: by id, those that must not come again at any strength.
        same_round: by id, those of the same round that have passed.
    """
    for others, at_any_strength, what in (
        (tried, False, "was tried before"),
        (withdrawn, True, "was promoted and rolled back, or declined"),
        (same_round, False, "is another proposal of this round"),
    ):
        twin = next((key for key, other in others.items() if comparison.twins(signal, other, at_any_strength)), None)
        if twin is not None:
            strength = " but for its strength" if at_any_strength else ""
            yield (
                f"the signal pays the same as {twin}{strength}, which {what}: names, order, one factor for all weights "
                "and the form of an expression make no other signal; propose another idea"
            )


# ------------------------------------------------------------ different from the signal in force


def _no_change(new: CompiledSignal, old: CompiledSignal, recorded: TransitionSample) -> Iterator[str]:
    """Give a line where a signal shapes nothing, or as the one in force does; both have their scale.

    Potentials count as the same when they differ by a constant, all other terms when they pay the same. Where a signal
    only keeps terms, it may shape nothing.
    """
    frozen, in_force = new.signal, old.signal
    if frozen.shapes_like(in_force):
        also = "" if frozen.exploration == in_force.exploration else " but for exploration, which another arm has too"
        yield f"the signal is the one in force (version {in_force.version}){also}; change a term, a weight or beta"
        return
    if not len(recorded.terminated):
        return

    def at_strength(compiled: CompiledSignal, values: list[FloatArray]) -> list[FloatArray]:
        return [(compiled.strength * x).astype(np.float32) for x in values]

    potentials = [at_strength(c, c.state_values(recorded.features, recorded.obs)) for c in (new, old)]
    pairs = recorded_pairs(recorded)
    direct = [at_strength(c, c.direct_rewards(pairs)) for c in (new, old)]
    # A term may be constant today, such as a part behind a gate that nobody has passed. All terms together may not.
    shapes = max(spread(potentials[0]), _root_mean_square(direct[0]))
    if shapes < SMALLEST_SPREAD and any(term not in in_force.terms for term in frozen.terms):
        yield (
            "on recorded transitions a signal must shape something, got a constant Φ in sum and no event that is paid; "
            "use features or events that vary under the current policies"
        )
        return
    difference = max(_relative(spread, *potentials), _relative(_root_mean_square, *direct))
    if difference < TRIVIAL:
        yield (
            f"on recorded transitions the shaping must differ from the signal in force by {TRIVIAL:.0%} or more, "
            f"got {difference:.1%}; use features or events that vary under the current policies"
        )


def _relative(measure: Measure, new: list[FloatArray], old: list[FloatArray]) -> float:
    """Return the size of the difference as a share of the larger of both; 0 where both are nothing."""
    larger = max(measure(new), measure(old))
    return 0.0 if larger < SMALLEST_SPREAD else measure([a - b for a, b in zip(new, old, strict=True)]) / larger


def _root_mean_square(values: list[FloatArray]) -> float:
    """Return it of [g] [N, A_g]."""
    return float(np.sqrt(np.mean(np.concatenate([x.astype(np.float64).ravel() for x in values]) ** 2)))


# ------------------------------------------------------------ potentials at the ends of episodes


def _potential_at_ends(
    compiled: CompiledSignal, spec: TaskSpec, recorded: TransitionSample
) -> tuple[list[str], list[str]]:
    """Return (problems, notes) from Φ at the last non-terminal states of successful and failed episodes.

    A potential's sum over an episode says nothing (it telescopes), so its ends are compared: a good one is not lower
    where episodes succeed. It is a problem when the mean is lower by more than one pooled standard deviation (at
    least 5 % of the spread of all ends), with five episodes of either kind or more.
    """
    phi = compiled.mean_state_values(recorded.end_features, recorded.end_obs)  # one number an episode
    if phi is None:
        return [], []
    success = np.asarray(recorded.end_success) > 0.5
    if not spec.has_success or not success.any() or success.all():
        why = "the task has no success test" if not spec.has_success else "episodes of both outcomes are needed"
        return [], [f"potential at the ends of episodes: not applicable ({why})"]
    good, bad = phi[success].astype(np.float64), phi[~success].astype(np.float64)
    means = f"mean {good.mean():.3g} of {len(good)} successful, {bad.mean():.3g} of {len(bad)} failed"
    line = f"potential at the ends of episodes: {means}"
    if min(len(good), len(bad)) >= ENDS:
        centred = np.concatenate([good - good.mean(), bad - bad.mean()])
        pooled = float(np.sqrt(np.sum(centred**2) / (len(centred) - 2)))
        if bad.mean() - good.mean() > max(pooled, 0.05 * float(np.ptp(np.concatenate([good, bad])))):
            rule = "it must not be clearly lower where episodes succeed: turn its sign or use another feature"
            return [f"{line}; {rule}"], []
    return [], [line]
