"""What a change of signal takes away from the potentials in force."""

from __future__ import annotations

from .signal import PotentialTerm, Signal


def _strengths(signal: Signal) -> dict[tuple[str, str], float]:
    """(expression, agents) → beta · scale · weight."""
    strengths: dict[tuple[str, str], float] = {}
    for term in signal.terms:
        if isinstance(term, PotentialTerm):
            key = (term.expression, repr(term.agents))
            strengths[key] = strengths.get(key, 0.0) + signal.beta * (signal.scale or 1.0) * term.weight
    return strengths


def removed_potential(old: Signal, new: Signal) -> Signal | None:
    """The part of the old potentials that the new signal no longer has, None when nothing leaves.

    A critic that has absorbed Φ estimates V − Φ; when Φ leaves, adding Φ to its output leaves every TD error as it was
    (Wiewiora 2003). A term that stays but weakens leaves with the difference; one that grows or enters is not in it.
    """
    if new.scale is None and any(isinstance(t, PotentialTerm) for t in new.terms):
        raise ValueError("removed_potential needs the new signal's scale; freeze it first")
    kept = _strengths(new)
    leaving: list[PotentialTerm] = []
    for term in old.terms:
        if not isinstance(term, PotentialTerm):
            continue
        had = old.beta * (old.scale or 1.0) * term.weight
        key = (term.expression, repr(term.agents))
        has = kept.pop(key, 0.0)
        has = min(max(has, 0.0), had) if had > 0 else max(min(has, 0.0), had)
        if had != has:
            leaving.append(term.model_copy(update={"weight": term.weight * (had - has) / had}))
    if not leaving:
        return None
    return Signal(beta=old.beta, scale=old.scale or 1.0, terms=tuple(leaving))
