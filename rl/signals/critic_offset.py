"""What leaves the potentials in force, when a signal changes or anneals.

A critic that has absorbed Φ estimates V − Φ; when Φ leaves the reward, adding Φ to the critic's output leaves every TD
error as it was (Wiewiora 2003). So what has left lives on as an offset of the critic, and no advantage changes.
"""

from __future__ import annotations

from math import isclose

from .shaping import fading
from .signal import LearnedTerm, PotentialTerm, Signal, Term, fades_over, is_potential

Key = tuple[str, str]


def at_age(signal: Signal, age: int) -> Signal:
    """`signal` with the weights that its potentials have `age` main steps after the version's first update.

    Every potential keeps its `anneal_steps`; without one, it is what it was.
    """
    terms = tuple(
        term.model_copy(update={"weight": term.weight * float(fading(age, fades_over(term)))})
        if fades_over(term)
        else term
        for term in signal.terms
    )
    return signal.model_copy(update={"terms": terms})


def annealed_potential(signal: Signal, age: int) -> Signal | None:
    """The part of the potentials that annealing has taken away at `age`, None when nothing has left."""
    return removed_potential(signal, at_age(signal, age))


def removed_potential(old: Signal, new: Signal) -> Signal | None:
    """The part of the old potentials that the new signal no longer has, None when nothing leaves.

    Both are taken at the weights that are written in them. A term that stays but weakens leaves with the difference;
    one that grows or enters is not in it. Raises ValueError when the new signal has potentials and no frozen scale.
    """
    if new.scale is None and any(map(is_potential, new.terms)):
        raise ValueError("removed_potential needs the new signal's scale; freeze it first")
    kept = _strengths(new)
    leaving: list[PotentialTerm | LearnedTerm] = []
    for term in filter(is_potential, old.terms):
        had, left = _strength(old, term), kept.get(_key(term), 0.0)
        has = min(max(left, 0.0), had) if had > 0 else max(min(left, 0.0), had)
        kept[_key(term)] = left - has  # for another old term with the same Φ
        if not isclose(had, has, rel_tol=1e-12):
            weight = term.weight * (had - has) / had
            leaving.append(term.model_copy(update={"weight": weight, "anneal_steps": None}))
    if not leaving:
        return None
    return Signal(beta=old.beta, scale=old.scale or 1.0, terms=tuple(leaving))


def carried_over(new: Signal, old: Signal, age: int) -> Signal:
    """`new` without growing back what has annealed by `age`: a term that stays goes on from the weight it has left.

    A term stays when it differs from the old one in nothing but a weight between what is left and what it began with.
    Its `anneal_steps` count anew from the new version's first update, as the decay of event bonuses does.
    """
    now = {term.name: (term, left) for term, left in zip(old.terms, at_age(old, age).terms, strict=True)}
    terms = tuple(_limited(term, *now[term.name]) if term.name in now else term for term in new.terms)
    return new.model_copy(update={"terms": terms})


def _limited(term: Term, began: Term, left: Term) -> Term:
    same = term == left.model_copy(update={"weight": term.weight})
    between = min(left.weight, began.weight) <= term.weight <= max(left.weight, began.weight)
    return left if same and between else term


def _key(term: PotentialTerm | LearnedTerm) -> Key:
    return term.expression if isinstance(term, PotentialTerm) else term.scorer, repr(term.agents)


def _strength(signal: Signal, term: Term) -> float:
    """beta · scale · weight."""
    return signal.beta * (signal.scale or 1.0) * term.weight


def _strengths(signal: Signal) -> dict[Key, float]:
    """Φ → the strength of all potentials that are it."""
    strengths: dict[Key, float] = {}
    for term in filter(is_potential, signal.terms):
        strengths[_key(term)] = strengths.get(_key(term), 0.0) + _strength(signal, term)
    return strengths
