"""Signals in words, for reports and logs."""

from __future__ import annotations

from .signal import LearnedTerm, PotentialTerm, Signal, Term


def describe_term(term: Term) -> str:
    """One line: kind, name, what it is, weight, and whom it is for where that is not everybody."""
    agents = term.agents if isinstance(term.agents, str) else " ".join(term.agents)
    whom = "" if agents == "all" else f", for {agents}"
    if isinstance(term, PotentialTerm):
        return f"potential {term.name}: {term.expression} (weight {term.weight:g}{whom})"
    if isinstance(term, LearnedTerm):
        paper = ", difference form" if term.form == "difference" else ""
        return f"learned {term.name}: scorer {term.scorer} (weight {term.weight:g}{whom}{paper})"
    return f"event {term.name}: each {term.event} (weight {term.weight:g}, decays over {term.decay_steps} steps{whom})"


def describe_signal(signal: Signal) -> list[str]:
    """A line for the strength and one a term; one line for a signal that adds nothing."""
    if not signal.terms:
        return ["no shaping"]
    scale = "not frozen" if signal.scale is None else f"{signal.scale:.4g}"
    return [f"beta {signal.beta:g}, scale {scale}", *(describe_term(term) for term in signal.terms)]


def describe_difference(old: Signal, new: Signal) -> list[str]:
    """Readable diff: `+` enters, `-` leaves, `~` changes; empty where both do the same."""
    before, after = {t.name: t for t in old.terms}, {t.name: t for t in new.terms}
    lines = _changes("beta", old.beta, new.beta)
    if old.scale is not None and new.scale is not None:
        lines += _changes("scale", old.scale, new.scale)
    lines += _changes("entropy", old.exploration.entropy, new.exploration.entropy)
    if new.exploration.kick is not None and new.exploration.kick != old.exploration.kick:
        lines.append(f"+ exploration kick: actor head × {new.exploration.kick:g}")
    lines += [f"- {describe_term(term)}" for name, term in before.items() if name not in after]
    for name, term in after.items():
        lines += _term_changes(before.get(name), term)
    return lines


def _term_changes(old: Term | None, new: Term) -> list[str]:
    if old is None:
        return [f"+ {describe_term(new)}"]
    if old == new:
        return []
    if new == old.model_copy(update={"weight": new.weight}):
        return _changes(f"{new.kind} {new.name}: weight", old.weight, new.weight)
    return [f"- {describe_term(old)}", f"+ {describe_term(new)}"]


def _changes(what: str, old: float | None, new: float | None) -> list[str]:
    if old == new:
        return []
    before, after = ("the trainer's own" if x is None else f"{x:.4g}" for x in (old, new))
    return [f"~ {what} {before} → {after}"]
