"""A kind of term that the package does not know: one file's worth of code, and all that asks terms works with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from cosignal.rl.experience.rollout import Transitions
from cosignal.rl.signals.critic_offset import at_age, carried_over, removed_potential
from cosignal.rl.signals.scorer import Scorers
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal, describe_signal, is_removal
from cosignal.rl.signals.terms.agent_masks import agents_that_have
from cosignal.rl.signals.terms.base import BaseTerm, CompiledTerm, Reads, Values
from cosignal.rl.task import TaskSpec
from made_up_transitions import MadeUpTransitions


class WindowTerm(BaseTerm):
    """Pays for an event again in each of the `window` steps after it."""

    fading_field = "decay_steps"
    anneals = False
    reads_from = "event"

    name: str
    kind: Literal["window"] = "window"
    event: str
    weight: float = 1.0
    agents: str | list[str] = "all"
    window: int = 2
    decay_steps: int = 1000

    @property
    def reads(self) -> Reads:
        return Reads(events=frozenset({self.event}))

    def describe(self) -> str:
        return f"window {self.name}: {self.event} within {self.window} steps (weight {self.weight:g}{self.for_whom})"

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledWindow:
        return CompiledWindow(self, spec, agents_that_have(self, "event", {self.event}, {self.event}, spec))


@dataclass(frozen=True)
class CompiledWindow(CompiledTerm):
    term: WindowTerm

    def rewards(self, transitions: Transitions, gamma: float) -> list[Values]:
        values = [np.zeros(x.shape[:-1]) for x in transitions.events]
        for g, mask in enumerate(self.masks):
            if mask.any():
                column = self.spec.groups[g].event_names().index(self.term.event)
                counts = transitions.events[g][..., column].astype(np.float64)  # [T, A_g]
                for lag in range(self.term.window):
                    values[g][lag:] += np.where(mask, counts[: len(counts) - lag], 0.0)
        return values


TERM = WindowTerm(name="again", event="found", weight=0.5)


def signal(*terms: BaseTerm) -> Signal:
    """Without validation, which knows the kinds of the package."""
    return Signal.model_construct(beta=0.5, scale=2.0, terms=terms)


def test_it_shapes(spec: TaskSpec) -> None:
    events = [np.zeros((4, 2, 2), np.float32), np.ones((4, 1, 1), np.float32)]
    events[0][1, 0, 0] = 1
    features = [np.zeros((4, 2, 2), np.float32), np.zeros((4, 1, 2), np.float32)]
    transitions = MadeUpTransitions(features, features, events, np.zeros(4))
    compiled = CompiledSignal(signal(TERM), spec)
    assert compiled.shape(transitions, 0.9).total[0].tolist() == [[0, 0], [0.5, 0], [0.5, 0], [0, 0]]
    assert compiled.shape(replace(transitions), 0.9, 500).total[0].tolist() == [[0, 0], [0.25, 0], [0.25, 0], [0, 0]]
    assert not any(x.any() for x in compiled.potential(features))
    assert not any(mask.any() for mask in compiled.agents_with_values())


def test_it_fades_weakens_and_is_described() -> None:
    weaker = TERM.model_copy(update={"weight": 0.25})
    assert at_age(signal(TERM), 500).terms == (weaker,)
    assert carried_over(signal(TERM), signal(TERM), 500).terms == (weaker,)
    assert removed_potential(signal(TERM), signal()) is None
    assert is_removal(signal(weaker), signal(TERM))
    assert not is_removal(signal(TERM.model_copy(update={"decay_steps": 500})), signal(TERM))
    assert describe_signal(signal(TERM))[1:] == ["window again: found within 2 steps (weight 0.5)"]
