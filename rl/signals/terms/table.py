"""A table of named states: a few conditions over features, each with what it is worth to be there.

    F = Σ_k v_k ([s′ in k] − [s in k])

In sum an episode pays for where it ends, whatever lies between: coming and going again pays nothing, so that nothing
can be farmed. Without γ, and without the zero of a potential at terminations, it is no potential: it makes states worth
ending in, which is what it takes where a small reward near by deceives. So it is bounded, and it fades.
`rl.signals.learned.named_states` fits it; the sparse, readable design is Devidze et al.'s (EXPRD, ExpAdaRD).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ..expression import Expression, parse_expression
from .agent_masks import named_agents
from .base import BaseTerm, CompiledStateTerm, Model, Reads, TermName, Values
from .potential import expression_for, group_states

if TYPE_CHECKING:
    from ...experience.rollout import Transitions
    from ...experience.transition_sample import TransitionSample
    from ...task import FloatArray, TaskSpec
    from ..scorer import Scorers

MAX_ROWS = 8
MOST_PAID = 2.0  # of the width of the return range


# The prompt of the Generator shows these docstrings to models, as the schema's descriptions.
class TableRow(Model):
    """A state, as a condition over features, and what being there is worth."""

    when: str = Field(min_length=1, max_length=200)
    worth: float = Field(ge=-1, le=1)


class TableTerm(BaseTerm):
    """What it is worth to be in each of a few states: pays the worth of a state when the agent comes to it, and takes
    it back when it leaves. No potential: an episode is paid for where it ends; bounded, and decays to zero over
    `decay_steps`. `agents`: a group whose agents have all features."""

    fading_field = "decay_steps"
    anneals = False

    name: TermName
    kind: Literal["table"] = "table"
    rows: tuple[TableRow, ...] = Field(min_length=1, max_length=MAX_ROWS)
    weight: float = Field(default=1.0, ge=-1, le=1)
    agents: str
    decay_steps: int = Field(default=200_000, ge=1_000)

    @property
    def reads(self) -> Reads:
        """All features in its conditions."""
        return Reads(features=frozenset[str]().union(*(parse_expression(row.when).names() for row in self.rows)))

    def describe(self) -> str:
        rows = ", ".join(f"{row.when}: {row.worth:g}" for row in self.rows)
        return (
            f"table {self.name}: {rows} (weight {self.weight:g}, decays over {self.decay_steps} steps{self.for_whom})"
        )

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledTable:  # noqa: ARG002 other kinds read scorers
        conditions = [expression_for(self, row.when, spec)[0] for row in self.rows]
        return CompiledTable(self, spec, named_agents(self, spec), conditions)


@dataclass(frozen=True)
class CompiledTable(CompiledStateTerm):
    """A table for one task."""

    term: TableTerm
    conditions: Sequence[Expression]

    def state_values(self, features: list[FloatArray], obs: list[FloatArray] | None) -> list[Values]:  # noqa: ARG002
        """Return [g] [..., A_g]: the sum of what the states are worth that each agent is in."""
        team = group_states(self.spec, features)
        values = [np.zeros(group.shape) for group in team]
        for total, mask, group in zip(values, self.masks, team, strict=True):
            if mask.any():
                for row, condition in zip(self.term.rows, self.conditions, strict=True):
                    total += row.worth * np.where(mask, np.not_equal(condition.evaluate(group), 0), 0.0)
        return values

    def rewards(self, transitions: Transitions, gamma: float) -> list[Values]:  # noqa: ARG002 nothing is discounted
        """Return [g] [..., A_g]: what s′ is worth less what s is worth."""
        return [y - x for x, y in zip(*self.before_and_after(transitions), strict=True)]

    def largest_strength(self, width: float) -> float:
        """All states together may be worth at most twice what returns differ by, as a potential at its largest."""
        return MOST_PAID * width / max(abs(self.term.weight) * sum(abs(row.worth) for row in self.term.rows), 1e-9)

    def excess(self, strength: float, return_range: tuple[float, float] | None) -> Iterator[str]:
        """Give a line where it is stronger than that."""
        width = 0.0 if return_range is None else return_range[1] - return_range[0]
        most = strength * abs(self.term.weight) * sum(abs(row.worth) for row in self.term.rows)
        if width > 0 and strength > self.largest_strength(width) * (1 + 1e-6):
            limit = MOST_PAID * width
            yield (
                f"table {self.term.name!r}: beta · scale · weight · the worth of all rows must be at most {limit:.3g}, "
                f"got {most:.3g}; lower its weight to {self.term.weight * limit / most:.2g}"
            )

    def notes(self, recorded: TransitionSample) -> Iterator[str]:
        """Say that it is no potential, and what is said of one besides."""
        yield f"table {self.term.name!r} pays for where episodes end and is no potential: it may change what is optimal"
        yield from super().notes(recorded)
