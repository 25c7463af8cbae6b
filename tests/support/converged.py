"""A trainer that has learnt its task with shaping that is still in force."""

from __future__ import annotations

from cosignal.rl.evidence.schema import Evidence
from cosignal.rl.ipc import messages as m
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from cosignal.testing import FakeTrainer

NEAR = PotentialTerm(name="near", expression="-dist_goal / 17", weight=0.7)
FADING = PotentialTerm(name="fading", expression="-dist_door / 9", anneal_steps=100_000)
BONUS = EventTerm(name="bonus", event="switch_triggered")
IN_FORCE = Signal(version=0, beta=0.8, scale=3.0, terms=(NEAR, FADING, BONUS), exploration=Exploration(entropy=0.02))


class Converged(FakeTrainer):
    """Says so at every point."""

    @property
    def signal(self) -> Signal:
        return self.changes[-1].signal if self.changes else IN_FORCE

    def status(self) -> m.TrainerStatus:
        changes = {"stage": "converged", "success_rate": 0.95, "sparse_return": 2.8}
        return super().status().model_copy(update=changes)

    def evidence(self) -> Evidence:
        return super().evidence().model_copy(update={"stage": "converged"})
