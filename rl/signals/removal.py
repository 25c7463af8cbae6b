"""Does a signal only take away from the one in force? Then the gate asks for non-inferiority, not for a gain."""

from __future__ import annotations

from .signal import EventTerm, LearnedTerm, PotentialTerm, Signal, Term


def is_removal(signal: Signal, in_force: Signal) -> bool:
    """True where `signal` leaves out, weakens or anneals terms, or lowers beta, and has nothing new; versions do not
    count.

    Exploration may stay or fall back to the trainer's own; a kick is something new. Weakened means the same sign and a
    smaller size. A potential that kept its weight may begin to anneal, one that anneals may do so faster. Without
    terms, beta says nothing.
    """
    if not signal.terms:
        return bool(in_force.terms) and _nothing_to_explore(signal, in_force)
    old = {term.name: term for term in in_force.terms}
    known = all(term.name in old and _weaker(term, old[term.name]) for term in signal.terms)
    less = signal.beta < in_force.beta or signal.terms != in_force.terms
    return known and less and signal.beta <= in_force.beta and _nothing_to_explore(signal, in_force)


def _nothing_to_explore(signal: Signal, in_force: Signal) -> bool:
    new = signal.exploration
    return new.kick is None and new.entropy in (None, in_force.exploration.entropy)


def _weaker(term: Term, old: Term) -> bool:
    """Equal but for a weight between zero and the old one, and a potential's weight that leaves no later."""
    less: dict[str, object] = {"weight": term.weight}
    if not isinstance(term, EventTerm) and not isinstance(old, EventTerm) and _leaves_no_later(term, old):
        less["anneal_steps"] = term.anneal_steps
    same = term == old.model_copy(update=less)
    return same and abs(term.weight) <= abs(old.weight) and term.weight * old.weight >= 0


def _leaves_no_later(term: PotentialTerm | LearnedTerm, old: PotentialTerm | LearnedTerm) -> bool:
    return term.anneal_steps is not None and (old.anneal_steps is None or term.anneal_steps <= old.anneal_steps)
