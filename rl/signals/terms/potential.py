"""Potentials: an arithmetic expression Φ over features, paid as γΦ(s′) − Φ(s).

Such shaping leaves the optimal policies what they are (Ng, Harada, Russell 1999).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ..expression import Array, Expression, bounded, parse_expression
from .agent_masks import agents_that_have
from .base import BaseTerm, CompiledStateTerm, Reads, TermName, Values

if TYPE_CHECKING:
    from ...task import FloatArray, TaskSpec
    from ..scorer import Scorers


# The prompt of the Generator shows this docstring to models, as the schema's description.
class PotentialTerm(BaseTerm):
    """Φ over features; shapes by γΦ(s′)−Φ(s) (Ng, Harada, Russell 1999), so the optimal policies stay what they are.

    `anneal_steps`: main environment steps over which the weight goes linearly to zero, from the version's first update;
    the critic is offset by exactly what has left, so that nothing dips. A term that stays in a new version goes on from
    the weight it has left, over `anneal_steps` anew. None keeps the weight.
    """

    reads_from = "expression"

    name: TermName
    kind: Literal["potential"] = "potential"
    expression: str = Field(min_length=1, max_length=400)
    weight: float = Field(default=1.0, ge=-10, le=10)
    agents: str | list[str] = "all"  # "all", a group's name, or names of agents
    anneal_steps: int | None = Field(default=None, ge=1_000)

    @property
    def reads(self) -> Reads:
        """All features in the expression, those of mates included."""
        return Reads(features=parse_expression(self.expression).names())

    @property
    def potential_key(self) -> tuple[str, str]:
        """The text of the expression, and whom it is for."""
        return self.expression, repr(self.agents)

    def describe(self) -> str:
        return f"potential {self.name}: {self.expression} (weight {self.weight:g}{self.for_whom})"

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledPotential:  # noqa: ARG002 other kinds read scorers
        expression = parse_expression(self.expression)
        masks = agents_that_have(self, "feature", expression.of_agent, expression.names(), spec)
        return CompiledPotential(self, spec, masks, expression)


@dataclass(frozen=True)
class CompiledPotential(CompiledStateTerm):
    """A potential for one task.

    Mates of an agent are all other agents, of any group, that have the feature. An agent without a mate is its own
    mate, so that comparisons with mates are zero for it.
    """

    expression: Expression

    def state_values(self, features: list[FloatArray], obs: list[FloatArray] | None) -> list[Values]:  # noqa: ARG002
        """Return [g] [..., A_g]: Φ of each agent's state."""
        values = [np.zeros(x.shape[:-1]) for x in features]
        for g, mask in enumerate(self.masks):
            if mask.any():
                values[g] += np.where(mask, self._of_group(g, features), 0.0)  # in place: Φ may be a single number
        return values

    def _of_group(self, g: int, features: list[FloatArray]) -> Values:
        """Return Φ of all agents of group g, [..., A_g]; of shape () where the expression reads no feature."""

        def of_agent(name: str) -> Array:
            return features[g][..., self.spec.groups[g].feature_names().index(name)]

        def of_mates(statistic: str, name: str) -> Array:
            # The feature of every agent that has it, of whatever group, one column each.
            owners: list[tuple[int, int]] = []
            columns: list[Array] = []
            for h, group in enumerate(self.spec.groups):
                if name in group.feature_names():
                    values = bounded(features[h][..., group.feature_names().index(name)])
                    owners += [(h, b) for b in range(len(group.agents))]
                    columns += [values[..., b] for b in range(len(group.agents))]
            stacked, everyone = np.stack(columns, axis=-1), list(range(len(owners)))
            # For each agent of this group, the statistic over all columns but its own.
            by_agent = []
            for a in range(len(self.spec.groups[g].agents)):
                others = stacked[..., [j for j in everyone if owners[j] != (g, a)] or everyone]
                if statistic == "mean_mates":
                    by_agent.append(others.mean(axis=-1))
                else:
                    by_agent.append(others.min(axis=-1) if statistic == "min_mates" else others.max(axis=-1))
            return np.stack(by_agent, axis=-1)

        return self.expression.evaluate(of_agent, of_mates)
