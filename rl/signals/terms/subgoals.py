"""Subgoals in order: a list of events of which each pays once an episode, when all before it have been done.

The idea of a staircase of subgoals is GMAH's; its hierarchy of policies is not built, for the one policy of an agent
gets the same signal from these payments. What is done stays paid, and an event that comes too early pays nothing: it
has to be done again when it is due. As an event bonus it changes what is optimal, so it is bounded and fades; as each
event pays once it cannot be farmed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..expression import bounded
from .agent_masks import agents_that_have
from .base import BaseTerm, CompiledTerm, Reads, TermName, Values
from .event import bonus_excess

if TYPE_CHECKING:
    from ...experience.rollout import PlayedInOrder, Transitions
    from ...task import Arrays, BoolArray, FloatArray, TaskSpec
    from ..scorer import Scorers

MAX_SUBGOALS = 8


# The prompt of the Generator shows this docstring to models, as the schema's description.
class SubgoalsTerm(BaseTerm):
    """A bonus for each of `events` in their order, once an episode each: an event pays when all before it are done, and
    what comes too early pays nothing. `per`: each *agent* goes through the list by itself, or the *team* together, and
    then all are paid. Not policy-invariant, so bounded and decaying linearly to zero; an event may be repeatable."""

    fading_field = "decay_steps"
    anneals = False

    name: TermName
    kind: Literal["subgoals"] = "subgoals"
    events: tuple[Annotated[str, Field(max_length=40)], ...] = Field(min_length=1, max_length=MAX_SUBGOALS)
    per: Literal["agent", "team"] = "agent"
    weight: float = Field(default=0.1, ge=0, le=1)
    agents: str | list[str] = "all"
    decay_steps: int = Field(default=300_000, ge=1_000)

    @property
    def remembers(self) -> bool:
        """True: what is done already is not paid for again."""
        return True

    @property
    def reads(self) -> Reads:
        """The events."""
        return Reads(events=frozenset(self.events))

    def describe(self) -> str:
        order = ", then ".join(self.events)
        return (
            f"subgoals {self.name}: {order}, once each by every {self.per} (weight {self.weight:g}, decays over "
            f"{self.decay_steps} steps{self.for_whom})"
        )

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledSubgoals:  # noqa: ARG002 other kinds read scorers
        events = set(self.events)
        # the team's events may be of several groups, each of which has some
        needed = events if self.per == "agent" else set[str]()
        return CompiledSubgoals(self, spec, agents_that_have(self, "event", needed, events, spec))


@dataclass(frozen=True)
class CompiledSubgoals(CompiledTerm):
    """Subgoals for one task."""

    term: SubgoalsTerm

    def new_memory(self, envs: int) -> Arrays:
        """Return how many of the events are done, none: [E, A_g] by group, or [E] of the team."""
        if self.term.per == "team":
            return {"done": np.zeros(envs, np.int64)}
        return {f"done.{g}": np.zeros((envs, len(mask)), np.int64) for g, mask in enumerate(self.masks)}

    def rewards_in_order(self, played: PlayedInOrder, gamma: float, memory: Arrays) -> list[Values]:  # noqa: ARG002
        """Return [g] [T, E, A_g]: how many subgoals each agent, or its team, came to in each step."""
        return self._come_to(played.events, played.done > 0, memory)

    def _come_to(self, events: list[FloatArray], ends: BoolArray, memory: Arrays) -> list[Values]:
        """Return the same, by events [g] [T, E, A_g, V_g] and where episodes end, [T, E]."""
        counts = [self._counts(g, x) for g, x in enumerate(events)]
        if self.term.per == "agent":
            return [_reached(x, ends, memory[f"done.{g}"]) for g, x in enumerate(counts)]
        # whoever does it, it is done for all
        team = sum((x.sum(-2) for x in counts), start=np.zeros(counts[0].shape[:2] + counts[0].shape[-1:]))
        reached = _reached(team, ends, memory["done"])[..., None]
        return [np.where(mask, reached, 0.0) for mask in self.masks]

    def rewards(self, transitions: Transitions, gamma: float) -> list[Values]:  # noqa: ARG002 nothing is discounted
        """Return [g] [..., A_g]: what each transition pays as the first of an episode."""
        return self.bonuses(transitions.events)

    def bonuses(self, events: list[FloatArray]) -> list[Values]:
        """Return [g] [..., A_g]: how many of the first events happened, whatever their order in the episode."""
        # every row is an environment that makes one step
        rows = [x.reshape(1, -1, *x.shape[-2:]) for x in events]
        envs = rows[0].shape[1]
        paid = self._come_to(rows, np.ones((1, envs), np.bool_), self.new_memory(envs))
        return [x.reshape(y.shape[:-1]) for x, y in zip(paid, events, strict=True)]

    def _counts(self, g: int, events: FloatArray) -> Values:
        """Return [T, E, A_g, K]: how often each agent that the term is for caused each subgoal's event."""
        names = self.spec.groups[g].event_names()
        columns = [
            bounded(events[..., names.index(event)]) if event in names else np.zeros(events.shape[:-1])
            for event in self.term.events
        ]
        return np.where(self.masks[g][:, None], np.stack(columns, -1), 0.0).astype(np.float64)

    def excess(self, strength: float, return_range: tuple[float, float] | None) -> Iterator[str]:
        """One subgoal may be worth what an event bonus may."""
        yield from bonus_excess(f"subgoals {self.term.name!r}", strength, self.term.weight, return_range)


def _reached(counts: Values, ends: BoolArray, done: NDArray[Any]) -> Values:
    """Return how many subgoals each step comes to, and bring `done` forward in place.

    Args:
        counts: [T, E, ..., K], how often each event happened.
        ends: [T, E], true where an episode ends with the step.
        done: [E, ...], how many are done.
    """
    n_goals = counts.shape[-1]
    reached = np.zeros(counts.shape[:-1])
    for t, happened in enumerate(counts):
        before = done.copy()
        # an event and the one after it may happen in the same step
        for goal in range(n_goals):
            done += (done == goal) & (happened[..., goal] > 0)
        reached[t] = done - before
        done[ends[t]] = 0
    return reached
