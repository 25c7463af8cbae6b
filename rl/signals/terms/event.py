"""Event bonuses: a reward each time an agent causes an event, which decays to nothing.

A bonus changes what is optimal. So it is bounded, it fades, and an event that can be repeated without progress may be
paid for with a bound only, see `bounds`.
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
from .bounds import Bound
from .team_spirit import NO_SPIRIT, TeamSpirit, in_spirit, shared

if TYPE_CHECKING:
    from ...experience.rollout import Transitions
    from ...task import FloatArray, TaskSpec
    from ..scorer import Scorers

EVENT_SHARE = 0.25  # of the width of the return range: the largest bonus for one event
EVENT_LIMIT = 1.0  # the same in reward where the range is not known


def bonus_excess(what: str, strength: float, weight: float, return_range: tuple[float, float] | None) -> Iterator[str]:
    """Give a line where a bonus is worth more than a share of what returns can differ by, as it is before any decay.

    Args:
        what: the term in words, with its name.
        strength: beta · scale.
        weight: of the term.
        return_range: of the task, or seen.
    """
    width = 0.0 if return_range is None else return_range[1] - return_range[0]
    limit, bonus = EVENT_SHARE * width if width > 0 else EVENT_LIMIT, strength * abs(weight)
    if bonus > limit:
        yield (
            f"{what}: beta · scale · weight must be at most {limit:.3g}, got {bonus:.3g}; "
            f"lower its weight to {weight * limit / bonus:.2g}"
        )


# The prompt of the Generator shows this docstring to models, as the schema's description.
class EventTerm(BaseTerm):
    """A bonus each time an agent causes `event`; not policy-invariant, so bounded and decaying linearly to zero.
    `bound` keeps repeating from paying more: *clip* pays min(n − 1, 0) for n times in a step, *delta* pays what the
    step earns less what the next one does. `team_spirit`: the share, 0 to 1, that every agent gets of the mean."""

    fading_field = "decay_steps"
    anneals = False
    reads_from = "event"

    name: TermName
    kind: Literal["event"] = "event"
    event: str
    weight: float = Field(default=0.1, ge=-1, le=1)
    agents: str | list[str] = "all"
    decay_steps: int = Field(default=300_000, ge=1_000)  # main environment steps, from the version's first update
    bound: Bound = Field(default="none", exclude_if=lambda bound: bound == "none")
    team_spirit: TeamSpirit = NO_SPIRIT

    @property
    def bounded_by(self) -> tuple[Bound, float]:
        """The bound; a step without the event costs one."""
        return self.bound, 1.0

    @property
    def pays_repeats(self) -> bool:
        """True without a bound."""
        return self.bound == "none"

    @property
    def reads(self) -> Reads:
        """The event."""
        return Reads(events=frozenset({self.event}))

    def describe(self) -> str:
        decay = f"decays over {self.decay_steps} steps"
        bound = "" if self.bound == "none" else f"bound {self.bound}, "
        return (
            f"event {self.name}: each {self.event} (weight {self.weight:g}, {bound}{decay}"
            f"{in_spirit(self.team_spirit)}{self.for_whom})"
        )

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
        return shared(counts, self.masks, self.term.team_spirit)

    def misuse(self) -> Iterator[str]:
        """A bonus that can be had without progress is farmed; a penalty on such an event teaches not to act."""
        events = [e for group in self.spec.groups for e in group.events if e.name == self.term.event]
        if self.term.pays_repeats and any(event.repeatable for event in events):
            yield (
                f"event bonus {self.term.name!r}: {self.term.event!r} can be farmed, since it repeats "
                "without progress; use an event that marks progress, a bound, or a potential"
            )

    def excess(self, strength: float, return_range: tuple[float, float] | None) -> Iterator[str]:
        """One event may be worth at most a share of what returns can differ by."""
        yield from bonus_excess(f"event bonus {self.term.name!r}", strength, self.term.weight, return_range)
