"""The offset of the critic: potentials that leave a signal when it changes or anneals.

A critic that has absorbed Φ estimates V − Φ; when Φ leaves the reward, adding Φ to the critic's output leaves every TD
error as it was (Wiewiora 2003). So what has left remains as an offset of the critic's output, and no advantage changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose

from .signal import Signal
from .terms import Term

PotentialKey = tuple[str, str]  # see `BaseTerm.potential_key`


def potentials_that_stay(signal: Signal) -> Sequence[Term]:
    """Return the potentials that stay in force until they are taken out; those that anneal leave by themselves."""
    return [term for term in signal.terms if term.is_potential and term.fades_over is None]


def only_leaves_out(new: Signal, old: Signal) -> bool:
    """Return whether `new` is `old` without some of its terms: the others as they are, as strong, learnt from alike."""
    as_strong = not new.terms or (new.beta, new.scale) == (old.beta, old.scale)
    learnt_alike = new.learner.over(old.learner) == old.learner
    return (
        as_strong and learnt_alike and len(new.terms) < len(old.terms) and all(term in old.terms for term in new.terms)
    )


def goes_on(new: Signal, old: Signal) -> bool:
    """Return whether the terms of `new` fade on as under `old`: it has the same, as strong, or fewer of them."""
    return (new.shapes_like(old) and new.scale == old.scale) or only_leaves_out(new, old)


def only_potentials_leave(new: Signal, old: Signal) -> bool:
    """Return whether `new` is `old` without some of its potentials: with their offset, no TD error differs."""
    return only_leaves_out(new, old) and all(term.is_potential for term in old.terms if term not in new.terms)


def leaving_potentials(old: Signal, old_age: int, new: Signal, new_age: int) -> list[Signal]:
    """Return all that the critic is to be offset by when `new` takes the place of `old`, besides earlier offsets.

    Args:
        old: the signal so far.
        old_age: main steps since its version's first update.
        new: the signal from now on, its scale frozen.
        new_age: main steps that its terms have faded for already, 0 where they begin to fade now.

    Returns:
        What had annealed and is not counted as annealed under `new`, and what leaves of the rest, if anything.
    """
    annealed, counted = annealed_potential(old, old_age), annealed_potential(new, new_age)
    if annealed is not None and counted is not None:
        annealed = removed_potential(annealed, counted)
    left = annealed, removed_potential(at_age(old, old_age), at_age(new, new_age))
    return [potential for potential in left if potential is not None]


def annealed_potential(signal: Signal, age: int) -> Signal | None:
    """Return the part of the potentials that annealing has taken away at `age`, None when nothing has left."""
    return removed_potential(signal, at_age(signal, age))


def at_age(signal: Signal, age: int) -> Signal:
    """Return `signal` with the weights that its terms have `age` main steps after the version's first update.

    Every term keeps the steps that it fades over; one that stays is what it was.
    """
    return signal.model_copy(update={"terms": tuple(term.at_age(age) for term in signal.terms)})


def removed_potential(old: Signal, new: Signal) -> Signal | None:
    """Return the part of the old potentials that the new signal no longer has, None when nothing leaves.

    Both are taken at the weights that are written in them. A term that stays but weakens leaves with the difference;
    one that grows or enters is not in it.

    Raises:
        ValueError: the new signal has potentials and no frozen scale.
    """
    if new.scale is None and any(term.is_potential for term in new.terms):
        raise ValueError("removed_potential needs the new signal's scale; freeze it first")
    # Two terms may have the same Φ: what counts is the strength of both together.
    remaining: dict[PotentialKey, float] = {}
    for term in new.terms:
        if (key := term.potential_key) is not None:
            remaining[key] = remaining.get(key, 0.0) + _strength(new, term)
    leaving: list[Term] = []
    for term in old.terms:
        if (key := term.potential_key) is None:
            continue
        before, left = _strength(old, term), remaining.get(key, 0.0)
        # The part of the old strength that the new signal still has; of the other sign it is another potential.
        stays = min(max(left, 0.0), before) if before > 0 else max(min(left, 0.0), before)
        remaining[key] = left - stays  # for another old term with the same Φ
        if not isclose(before, stays, rel_tol=1e-12):
            weight = term.weight * (before - stays) / before
            leaving.append(term.fading_over(None).model_copy(update={"weight": weight}))
    if not leaving:
        return None
    return Signal(beta=old.beta, scale=old.scale or 1.0, terms=tuple(leaving))


def _strength(signal: Signal, term: Term) -> float:
    """Return beta · scale · weight."""
    return signal.beta * (signal.scale or 1.0) * term.weight


def carried_over(new: Signal, old: Signal, age: int) -> Signal:
    """Return `new` without growing back what has annealed by `age`: a term that stays goes on from what it has left.

    A term stays when it differs from the old one in nothing but a weight between what is left and what it began with.
    The steps that it fades over count anew from the new version's first update.
    """
    earlier = {term.name: term for term in old.terms}
    terms: list[Term] = []
    for term in new.terms:
        began = earlier.get(term.name)
        if began is None:
            terms.append(term)
            continue
        left = began.at_age(age)
        low, high = sorted((left.weight, began.weight))
        stays = low <= term.weight <= high and term == left.model_copy(update={"weight": term.weight})
        terms.append(left if stays else term)
    return new.model_copy(update={"terms": tuple(terms)})
