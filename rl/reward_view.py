"""Whom the task's own reward is paid to, for training. Evaluation, evidence and gate look at the team's, always."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..errors import ConfigError
from .task import FloatArray, TaskSpec

# team: everybody is paid the team reward. individual: the team reward without what mates' events were paid for.
# team_and_individual: the team reward, and what the agent's own events were paid for once more.
RewardView = Literal["team", "individual", "team_and_individual"]


def check_reward_view(view: RewardView, spec: TaskSpec) -> None:
    """Raises ConfigError where the task does not say what single agents' events are paid."""
    if view != "team" and not any(event.reward for group in spec.groups for event in group.events):
        raise ConfigError(
            f"trainer.reward {view!r} needs events that say what they are paid (EventSpec.reward), task {spec.name!r} "
            "has none; set it to team, or declare them"
        )


def own_pay(events: list[FloatArray], spec: TaskSpec) -> list[FloatArray]:
    """[g] [..., A_g, V_g] → [g] [..., A_g]: what the team was paid for each agent's own events (`EventSpec.reward`)."""
    pay = [np.array([event.reward for event in group.events], np.float32) for group in spec.groups]
    return [np.asarray(x @ rewards, np.float32) for x, rewards in zip(events, pay, strict=True)]


def added_individually(view: RewardView, events: list[FloatArray], spec: TaskSpec) -> list[FloatArray]:
    """[g] [..., A_g]: what a view adds to the team reward of each agent."""
    own = own_pay(events, spec)
    if view == "team_and_individual":
        return own
    everybody = sum((x.sum(-1) for x in own), start=np.zeros(own[0].shape[:-1], np.float32))
    return [np.zeros_like(x) if view == "team" else x - everybody[..., None] for x in own]
