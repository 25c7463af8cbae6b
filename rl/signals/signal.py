"""The signal: the shaping configuration in force. Data, never code."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, model_validator

# ---------------------------------------------------------------- MERGED rl.signals.signal

MAX_TERMS = 8
MAX_BETA = 2.0

TermName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PotentialTerm(Model):
    """Φ over features; shapes by γΦ(s′)−Φ(s) (Ng, Harada, Russell 1999), so the optimal policies stay what they are.

    `anneal_steps`: main environment steps over which the weight goes linearly to zero, from the version's first update;
    the critic is offset by exactly what has left, so that nothing dips. A term that stays in a new version goes on from
    the weight it has left, over `anneal_steps` anew. None keeps the weight.
    """

    name: TermName
    kind: Literal["potential"] = "potential"
    expression: str = Field(min_length=1, max_length=400)
    weight: float = Field(default=1.0, ge=-10, le=10)
    agents: str | list[str] = "all"  # "all", a group's name, or names of agents
    anneal_steps: int | None = Field(default=None, ge=1_000)


class EventTerm(Model):
    """A bonus each time an agent causes `event`; not policy-invariant, so bounded and decaying linearly to zero."""

    name: TermName
    kind: Literal["event"] = "event"
    event: str
    weight: float = Field(default=0.1, ge=-1, le=1)
    agents: str | list[str] = "all"
    decay_steps: int = Field(default=300_000, ge=1_000)  # main environment steps, from the version's first update


class LearnedTerm(Model):
    """A scorer σ that was fitted to rankings of state pairs (LCA, Lin et al., arXiv 2502.03723), as a term.

    `scorer`: its name in the run's folder of scorers, 16 hex digits of its content. `form`: *potential* shapes by
    γσ(s′)−σ(s), anchored so that σ is about 0 at best; *difference* is the paper's Eq. 4, σ(s′)−σ(s) and zero for an
    agent that stays, which is no potential and may change what is optimal. `agents`: a group's name, or names of agents
    that observe what the scorer was fitted to. `anneal_steps` as of a potential.
    """

    name: TermName
    kind: Literal["learned"] = "learned"
    scorer: str = Field(pattern=r"^[0-9a-f]{16}$")
    form: Literal["potential", "difference"] = "potential"
    weight: float = Field(default=1.0, ge=-10, le=10)
    agents: str | list[str]
    anneal_steps: int | None = Field(default=None, ge=1_000)


Term = Annotated[PotentialTerm | EventTerm | LearnedTerm, Field(discriminator="kind")]


def is_potential(term: Term) -> TypeGuard[PotentialTerm | LearnedTerm]:
    """Whether it shapes by γΦ(s′)−Φ(s), which changes no optimum."""
    return isinstance(term, PotentialTerm) or (isinstance(term, LearnedTerm) and term.form == "potential")


def fades_over(term: Term) -> int | None:
    """Main steps over which it goes to zero, None for a term that stays."""
    return term.decay_steps if isinstance(term, EventTerm) else term.anneal_steps


class Exploration(Model):
    """How much the policies explore. `entropy`: coefficient of the entropy bonus; for Q-learners the least share of
    random actions; None keeps the trainer's own. `kick`: the actor head is multiplied by this once, when the signal
    starts (0.05 revives a collapsed policy); a Q-learner's share of random actions jumps to 1 − kick; None for no
    kick."""

    entropy: float | None = Field(default=None, ge=0, le=0.5)
    kick: float | None = Field(default=None, gt=0, le=1)


class Signal(Model):
    """What the trainer adds to the team reward: r_i = r_team + beta · scale · Σ_k w_k F_k,i.

    `scale` is None until it has been frozen on recorded states; inside a version it never changes.
    """

    version: int = Field(default=0, ge=0)
    stage: str = "exploring"
    beta: float = Field(default=0.5, ge=0, le=MAX_BETA)
    scale: float | None = Field(default=None, gt=0)
    parent: int | None = None
    exploration: Exploration = Exploration()
    terms: tuple[Term, ...] = Field(default=(), max_length=MAX_TERMS)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Signal:
        names = [term.name for term in self.terms]
        if len(set(names)) != len(names):
            raise ValueError(f"term names must be unique, got {names!r}; rename one")
        return self

    def shapes_like(self, other: Signal) -> bool:
        """Same terms at the same strength; exploration, scale and bookkeeping apart."""
        return (self.terms, self.beta) == (other.terms, other.beta)

    def content_hash(self) -> str:
        """Of what it does to learning: version, parent and stage do not count. 16 hex digits."""
        content = self.model_dump(mode="json", exclude={"version", "parent", "stage"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


# ---------------------------------------------------------------- MERGED rl.signals.removal
# DOC """Does a signal only take away from the one in force? Then the gate asks for non-inferiority, not for a gain."""


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


# ---------------------------------------------------------------- MERGED rl.signals.describe
# DOC """Signals in words, for reports and logs."""


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
