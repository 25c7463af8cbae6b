"""The signal: the shaping configuration in force. Data, never code.

Besides the record itself this file says what "the same signal" means, when a signal only takes away from another, and
how signals read in reports and logs.
"""

from __future__ import annotations

import hashlib
import json
import re

from pydantic import Field, model_validator

from .learner_settings import LearnerSettings
from .terms import Term
from .terms.base import Model

MAX_TERMS = 8
MAX_BETA = 2.0


# The prompt of the Generator shows this docstring to models, as the schema's description.
class Exploration(Model):
    """How much the policies explore. `entropy`: coefficient of the entropy bonus; for Q-learners the least share of
    random actions; None keeps the trainer's own. `kick`: the actor head is multiplied by this once, when the signal
    starts (0.05 revives a collapsed policy); a Q-learner's share of random actions jumps to 1 − kick; None for no
    kick."""

    entropy: float | None = Field(default=None, ge=0, le=0.5)
    kick: float | None = Field(default=None, gt=0, le=1)


class Signal(Model):
    """The shaping that the trainer adds to the team reward: r_i = r_team + beta · scale · Σ_k w_k F_k,i.

    Signals are the same, or not, in one of these senses:

    | compared by | beta | scale | exploration | learner | terms |
    |---|---|---|---|---|---|
    | `content_hash` | yes | yes | yes | yes | as they are |
    | `proposal_hash` | yes | no | yes | yes | as they are |
    | `shapes_like` | yes | no | no | no | as they are |
    | `shape_hash` | no | no | no | without terms | in any order, without their names and the spaces in expressions |

    Version, parent and stage never count.

    Attributes:
        version: a number that only rises, 0 for the signal that a run starts with.
        stage: the stage of learning at which it was put in force.
        beta: the strength of all terms together.
        scale: what turns the terms' own units into returns; None until it has been frozen on recorded states. Inside a
            version it never changes.
        parent: the version that it replaced.
        exploration: how much the policies explore with it.
        learner: how they learn from it on; a proposal may change that alone.
        terms: what it rewards, under unique names.
    """

    version: int = Field(default=0, ge=0)
    stage: str = "exploring"
    beta: float = Field(default=0.5, ge=0, le=MAX_BETA)
    scale: float | None = Field(default=None, gt=0)
    parent: int | None = None
    exploration: Exploration = Exploration()
    learner: LearnerSettings = Field(default=LearnerSettings(), exclude_if=lambda x: not x.changed)
    terms: tuple[Term, ...] = Field(default=(), max_length=MAX_TERMS)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Signal:
        names = [term.name for term in self.terms]
        if len(set(names)) != len(names):
            raise ValueError(f"term names must be unique, got {names!r}; rename one")
        return self

    def content_hash(self) -> str:
        """Return 16 hex digits of all that it does to learning."""
        return _digest(json.dumps(self._content(), sort_keys=True))

    def proposal_hash(self) -> str:
        """Return 16 hex digits of what a proposal says: all but the scale, which is frozen only later."""
        return _digest(json.dumps(self._content() | {"scale": None}, sort_keys=True))

    def shape_hash(self) -> str:
        """Return 16 hex digits of what it rewards, or without terms of how it is learnt from, so that it does not come
        back under another name."""
        terms = [term.model_dump(mode="json", exclude={"name"}) for term in self.terms]
        # White space in an expression says nothing but between two words.
        for term in terms:
            if "expression" in term:
                term["expression"] = re.sub(r"(?<!\w) | (?!\w)", "", " ".join(term["expression"].split()))
        content: list[object] = [*sorted(json.dumps(term, sort_keys=True) for term in terms)]
        alone = self.learner.changed and not terms
        return _digest(json.dumps([self.learner.changed] if alone else content))

    def shapes_like(self, other: Signal) -> bool:
        """Return whether both have the same terms at the same beta."""
        return (self.terms, self.beta) == (other.terms, other.beta)

    def _content(self) -> dict[str, object]:
        return self.model_dump(mode="json", exclude={"version", "parent", "stage"})


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:16]


# ------------------------------------------------------------ removals


def is_removal(signal: Signal, in_force: Signal) -> bool:
    """Return whether `signal` only takes away from `in_force`; the gate then asks for non-inferiority, not for a gain.

    It leaves out, weakens or anneals terms, or lowers beta, and has nothing new; versions do not count. Exploration may
    stay or fall back to the trainer's own; a kick is something new, and so is another way to learn. Weakened means the
    same sign and a smaller size. A potential that kept its weight may begin to anneal, one that anneals may do so
    faster. Without terms, beta says nothing.
    """
    new = signal.exploration
    if new.kick is not None or new.entropy not in (None, in_force.exploration.entropy):
        return False
    if signal.learner.over(in_force.learner) != in_force.learner:
        return False
    if not signal.terms:
        return bool(in_force.terms)
    # Every term is one in force or a weaker one, and something is less than it was.
    old = {term.name: term for term in in_force.terms}
    known = all(term.name in old and term.only_weakens(old[term.name]) for term in signal.terms)
    less = signal.beta < in_force.beta or signal.terms != in_force.terms
    return known and less and signal.beta <= in_force.beta


# ------------------------------------------------------------ in words, for reports and logs


def describe_signal(signal: Signal) -> list[str]:
    """Return a line for the strength and one a term; one line for a signal that adds nothing."""
    if not signal.terms:
        return ["no shaping", *signal.learner.describe()]
    scale = "not frozen" if signal.scale is None else f"{signal.scale:.4g}"
    return [
        f"beta {signal.beta:g}, scale {scale}",
        *(term.describe() for term in signal.terms),
        *signal.learner.describe(),
    ]


def describe_difference(old: Signal, new: Signal) -> list[str]:
    """Return a readable diff: `+` enters, `-` leaves, `~` changes; empty where both do the same."""
    lines = _change("beta", old.beta, new.beta)
    if old.scale is not None and new.scale is not None:
        lines += _change("scale", old.scale, new.scale)
    lines += _change("entropy", old.exploration.entropy, new.exploration.entropy)
    if new.exploration.kick is not None and new.exploration.kick != old.exploration.kick:
        lines.append(f"+ exploration kick: actor head × {new.exploration.kick:g}")
    lines += [f"~ {line}" for line in new.learner.describe() if line not in [*old.learner.describe()]]
    before, after = {t.name: t for t in old.terms}, {t.name: t for t in new.terms}
    lines += [f"- {term.describe()}" for name, term in before.items() if name not in after]
    for name, term in after.items():
        was = before.get(name)
        if was is None:
            lines.append(f"+ {term.describe()}")
        elif term == was.model_copy(update={"weight": term.weight}):
            lines += _change(f"{term.kind} {name}: weight", was.weight, term.weight)
        else:
            lines += [f"- {was.describe()}", f"+ {term.describe()}"]
    return lines


def _change(what: str, old: float | None, new: float | None) -> list[str]:
    """Return the line of one number that changes; none where it stays."""
    if old == new:
        return []
    before, after = ("the trainer's own" if x is None else f"{x:.4g}" for x in (old, new))
    return [f"~ {what} {before} → {after}"]
