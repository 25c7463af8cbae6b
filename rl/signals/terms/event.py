"""Event bonuses: a reward each time an agent causes an event, which decays to nothing.

A bonus changes what is optimal. So it is bounded, it fades, and an event that can be repeated without progress may not
be paid for at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ..expression import bounded
from .agent_masks import agents_that_have
from .base import BaseTerm, CompiledTerm, Reads, TermName, Values

if TYPE_CHECKING:
    from ...experience.rollout import Transitions
    from ...task import FloatArray, TaskSpec
    from ..scorer import Scorers

EVENT_SHARE = 0.25  # of the width of the return range: the largest bonus for one event
EVENT_LIMIT = 1.0  # the same in reward where the range is not known


# The prompt of the Generator shows this docstring to models, as the schema's description.
class EventTerm(BaseTerm):
    """A bonus each time an agent causes `event`; not policy-invariant, so bounded and decaying linearly to zero."""

    fading_field = "decay_steps"
    anneals = False
    reads_from = "event"

    name: TermName
    kind: Literal["event"] = "event"
    event: str
    weight: float = Field(default=0.1, ge=-1, le=1)
    agents: str | list[str] = "all"
    decay_steps: int = Field(default=300_000, ge=1_000)  # main environment steps, from the version's first update

    @property
    def reads(self) -> Reads:
        """The event."""
        return Reads(events=frozenset({self.event}))

    def describe(self) -> str:
        decay = f"decays over {self.decay_steps} steps"
        return f"event {self.name}: each {self.event} (weight {self.weight:g}, {decay}{self.for_whom})"

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledEvent:  # noqa: ARG002 other kinds read scorers
        return CompiledEvent(self, spec, agents_that_have(self, "event", {self.event}, {self.event}, spec))


@dataclass(frozen=True)
class CompiledEvent(CompiledTerm):
    """An event bonus for one task."""

    term: EventTerm

    def rewards(self, transitions: Transitions, gamma: float) -> list[Values]:  # noqa: ARG002 nothing is discounted
        """Return [g] [..., A_g]: how often each agent caused the event."""
        return self.bonuses(transitions.events)

    def bonuses(self, events: list[FloatArray]) -> list[Values]:
        """Return [g] [..., A_g]: how often each agent caused the event; zero for agents that it is not for."""
        counts = [np.zeros(x.shape[:-1]) for x in events]
        for g, mask in enumerate(self.masks):
            if mask.any():
                column = self.spec.groups[g].event_names().index(self.term.event)
                counts[g] = np.where(mask, bounded(events[g][..., column]), 0.0)
        return counts

    def misuse(self) -> Iterator[str]:
        """A bonus that can be had without progress is farmed; a penalty on such an event teaches not to act."""
        if any(e.repeatable for group in self.spec.groups for e in group.events if e.name == self.term.event):
            yield (
                f"event bonus {self.term.name!r}: {self.term.event!r} can be farmed, since it repeats "
                "without progress; use an event that marks progress, or a potential"
            )

    def excess(self, strength: float, return_range: tuple[float, float] | None) -> Iterator[str]:
        """One event may be worth at most a share of what returns can differ by."""
        width = 0.0 if return_range is None else return_range[1] - return_range[0]
        limit = EVENT_SHARE * width if width > 0 else EVENT_LIMIT
        # As it is at first, before any decay.
        bonus = strength * abs(self.term.weight)
        if bonus > limit:
            yield (
                f"event bonus {self.term.name!r}: beta · scale · weight must be at most {limit:.3g}, got {bonus:.3g}; "
                f"lower its weight to {self.term.weight * limit / bonus:.2g}"
            )
