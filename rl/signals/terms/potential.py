"""Potentials: an expression Φ over features, paid as γΦ(s′) − Φ(s).

Such shaping leaves the optimal policies what they are (Ng, Harada, Russell 1999).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ....errors import SignalError
from ..expression import Array, Expression, parse_expression
from .agent_masks import agents_that_have
from .base import BaseTerm, CompiledStateTerm, Reads, TermName, Values
from .team_spirit import NO_SPIRIT, TeamSpirit, in_spirit, shared

if TYPE_CHECKING:
    from ...task import BoolArray, FloatArray, GroupSpec, TaskSpec
    from ..scorer import Scorers


# The prompt of the Generator shows this docstring to models, as the schema's description.
class PotentialTerm(BaseTerm):
    """Φ over features; shapes by γΦ(s′)−Φ(s) (Ng, Harada, Russell 1999), so the optimal policies stay what they are.

    `anneal_steps`: main environment steps over which the weight goes linearly to zero, from the version's first update;
    the critic is offset by exactly what has left, so that nothing dips. A term that stays in a new version goes on from
    the weight it has left, over `anneal_steps` anew. None keeps the weight. `team_spirit`: the share, 0 to 1, that
    every agent gets of the mean Φ.
    """

    reads_from = "expression"

    name: TermName
    kind: Literal["potential"] = "potential"
    expression: str = Field(min_length=1, max_length=400)
    weight: float = Field(default=1.0, ge=-10, le=10)
    agents: str | list[str] = "all"  # "all", a group's name, or names of agents
    anneal_steps: int | None = Field(default=None, ge=1_000)
    team_spirit: TeamSpirit = NO_SPIRIT

    @property
    def reads(self) -> Reads:
        """All features in the expression, those of mates included."""
        return Reads(features=parse_expression(self.expression).names())

    @property
    def potential_key(self) -> tuple[str, str]:
        """The text of the expression, and whom it is for."""
        return self.expression, f"{self.agents!r}{in_spirit(self.team_spirit)}"

    def describe(self) -> str:
        weight = f"weight {self.weight:g}{in_spirit(self.team_spirit)}"
        return f"potential {self.name}: {self.expression} ({weight}{self.for_whom})"

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledPotential:  # noqa: ARG002 other kinds read scorers
        expression, masks = expression_for(self, self.expression, spec)
        return CompiledPotential(self, spec, masks, expression)


def expression_for(term: BaseTerm, text: str, spec: TaskSpec) -> tuple[Expression, list[BoolArray]]:
    """Return an expression of a term, and [g] [A_g], true for the agents that it applies to.

    Raises:
        SignalError: it does not fit the task (an ExpressionError where it is outside the grammar).
    """
    expression = parse_expression(text)
    masks = agents_that_have(term, "feature", expression.of_agent, expression.names(), spec)
    for names in expression.of_each_mate:
        if not any(names <= set(group.feature_names()) for group in spec.groups):
            raise SignalError(
                f"term {term.name!r} reads features {sorted(names)!r} of one mate, and no group has them all; "
                "use features of one group inside a mates function"
            )
    for feature in (feature for group in spec.groups for feature in group.features):
        if feature.name in expression.distances and feature.kind != "distance":
            raise SignalError(
                f"term {term.name!r}: nearest takes features of kind distance, {feature.name!r} is a "
                f"{feature.kind}; use min for it"
            )
    return expression, masks


@dataclass(frozen=True)
class CompiledPotential(CompiledStateTerm):
    """A potential for one task."""

    term: PotentialTerm
    expression: Expression

    def state_values(self, features: list[FloatArray], obs: list[FloatArray] | None) -> list[Values]:  # noqa: ARG002
        """Return [g] [..., A_g]: Φ of each agent's state."""
        team = group_states(self.spec, features)
        values = [np.zeros(group.shape) for group in team]
        for total, mask, group in zip(values, self.masks, team, strict=True):
            if mask.any():
                total += np.where(mask, self.expression.evaluate(group), 0.0)  # in place: Φ may be a single number
        return shared(values, self.masks, self.term.team_spirit)


def group_states(spec: TaskSpec, features: list[FloatArray]) -> list[GroupState]:
    """Return the state of each group, which knows those of the others, by features [g] [..., A_g, F_g]."""
    team: list[GroupState] = []
    team += [GroupState(group, x, team) for group, x in zip(spec.groups, features, strict=True)]
    return team


@dataclass(frozen=True, eq=False)
class GroupState:
    """The features of the agents of one group; `expression.Agents`.

    Attributes:
        spec: the group.
        features: [..., A_g, F_g].
        team: all groups of the task, this one included.
    """

    spec: GroupSpec
    features: FloatArray
    team: list[GroupState] = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.features.shape[:-1]

    def feature(self, name: str) -> Array:
        return self.features[..., self.spec.feature_names().index(name)]

    def done(self, name: str) -> float | None:
        return self.spec.features[self.spec.feature_names().index(name)].done

    def groups_with(self, names: frozenset[str]) -> list[GroupState]:
        return [group for group in self.team if names <= set(group.spec.feature_names())]
