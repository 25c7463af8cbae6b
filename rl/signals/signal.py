"""The signal: the shaping configuration in force. Data, never code."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
