"""Similarity to a goal state, object by object: a potential over what a state is made of.

    Φ(s) = Σ_o w_o · mean_a sim(v_{o,a}(s), v_{o,a}(goal)) / Σ_o w_o        sim(v, v′) = 1 − |v − v′| / (high − low)

A state is read as objects with attributes, and an attribute is compared with that of the same object in the goal
(StateFactory; its sum is ours). Objects and attributes are the task's features: `FeatureSpec.object` says what a
feature is about, else each is an object of its own. Φ lies in 0..1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ..expression import bounded
from .agent_masks import agents_that_have
from .base import BaseTerm, CompiledStateTerm, Model, Reads, TermName, Values
from .team_spirit import NO_SPIRIT, TeamSpirit, in_spirit, shared

if TYPE_CHECKING:
    from ...task import FloatArray, TaskSpec
    from ..scorer import Scorers

MAX_OBJECTS, MAX_ATTRIBUTES = 8, 8


# The prompt of the Generator shows these docstrings to models, as the schema's descriptions.
class GoalAttribute(Model):
    """A feature, and its value in the goal state."""

    feature: str = Field(min_length=1, max_length=40)
    goal: float


class GoalObject(Model):
    """A thing of the task with the features that are about it, and how much it counts."""

    name: str = Field(min_length=1, max_length=40)
    weight: float = Field(default=1.0, gt=0, le=1)
    attributes: tuple[GoalAttribute, ...] = Field(min_length=1, max_length=MAX_ATTRIBUTES)


class SimilarityTerm(BaseTerm):
    """How near each thing is to what it is in the goal state: Φ is the weighted mean over `objects` of the mean over
    their attributes of 1 − |value − goal| / (high − low), 0 to 1. A potential, so the optimal policies stay what they
    are. `anneal_steps` and `team_spirit` as of a potential."""

    name: TermName
    kind: Literal["similarity"] = "similarity"
    objects: tuple[GoalObject, ...] = Field(min_length=1, max_length=MAX_OBJECTS)
    weight: float = Field(default=1.0, ge=-10, le=10)
    agents: str | list[str] = "all"
    anneal_steps: int | None = Field(default=None, ge=1_000)
    team_spirit: TeamSpirit = NO_SPIRIT

    @property
    def features(self) -> set[str]:
        """All features that are compared."""
        return {attribute.feature for thing in self.objects for attribute in thing.attributes}

    @property
    def reads(self) -> Reads:
        """All features that are compared."""
        return Reads(features=frozenset(self.features))

    @property
    def potential_key(self) -> tuple[str, str]:
        """The goal, and whom it is for."""
        goal = json.dumps([thing.model_dump(mode="json") for thing in self.objects], sort_keys=True)
        return goal, f"{self.agents!r}{in_spirit(self.team_spirit)}"

    def describe(self) -> str:
        def words(thing: GoalObject) -> str:
            values = ", ".join(f"{x.feature} {x.goal:g}" for x in thing.attributes)
            return f"{thing.name} × {thing.weight:g} ({values})" if thing.weight != 1 else f"{thing.name} ({values})"

        weight = f"weight {self.weight:g}{in_spirit(self.team_spirit)}"
        return f"similarity {self.name}: to {'; '.join(map(words, self.objects))} ({weight}{self.for_whom})"

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledSimilarity:  # noqa: ARG002 other kinds read scorers
        return CompiledSimilarity(self, spec, agents_that_have(self, "feature", self.features, self.features, spec))


@dataclass(frozen=True)
class CompiledSimilarity(CompiledStateTerm):
    """Similarity to a goal for one task."""

    term: SimilarityTerm

    def state_values(self, features: list[FloatArray], obs: list[FloatArray] | None) -> list[Values]:  # noqa: ARG002
        """Return [g] [..., A_g]: Φ of each agent's state."""
        values = [np.zeros(x.shape[:-1]) for x in features]
        everything = sum(thing.weight for thing in self.term.objects)
        for g, mask in enumerate(self.masks):
            if mask.any():
                parts = [thing.weight * self._similar(g, thing, features[g]) for thing in self.term.objects]
                similar = sum(parts, start=values[g])
                values[g] = np.where(mask, similar / everything, 0.0)
        return shared(values, self.masks, self.term.team_spirit)

    def _similar(self, g: int, thing: GoalObject, features: FloatArray) -> Values:
        """Return [..., A_g]: how near a thing is to what it is in the goal, 0..1."""
        specs = {feature.name: (i, feature) for i, feature in enumerate(self.spec.groups[g].features)}
        parts = []
        for attribute in thing.attributes:
            i, feature = specs[attribute.feature]
            distance = np.abs(bounded(features[..., i]) - attribute.goal) / max(feature.high - feature.low, 1e-9)
            parts.append(1.0 - np.minimum(distance, 1.0))
        return np.asarray(np.mean(parts, axis=0))
