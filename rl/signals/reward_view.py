"""The views of the task's own reward: which agents it is paid to, for training.

Evaluation, evidence and gate look at the team's reward, always. Imports neither torch nor LangChain.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ...errors import ConfigError
from ..task import FloatArray, TaskSpec

# team: everybody is paid the team reward. individual: the team reward without what mates' events were paid for.
# team_and_individual: the team reward, and what the agent's own events were paid for once more.
RewardView = Literal["team", "individual", "team_and_individual"]


def check_reward_view(view: RewardView, spec: TaskSpec) -> None:
    """Look whether the task can be seen in this view.

    Raises:
        ConfigError: the task does not say what single agents' events are paid.
    """
    if view != "team" and not any(event.reward for group in spec.groups for event in group.events):
        raise ConfigError(
            f"trainer.reward {view!r} needs events that say what they are paid (EventSpec.reward), task {spec.name!r} "
            "has none; set it to team, or declare them"
        )


def added_individually(view: RewardView, events: list[FloatArray], spec: TaskSpec) -> list[FloatArray]:
    """Return [g] [..., A_g]: what a view adds to the team reward of each agent.

    Args:
        view: the view.
        events: [g] [..., A_g, V_g], how often each agent caused each event.
        spec: the task, which says what the team is paid for an event (`EventSpec.reward`).
    """
    prices = [np.array([event.reward for event in group.events], np.float32) for group in spec.groups]
    earned = [np.asarray(x @ price, np.float32) for x, price in zip(events, prices, strict=True)]
    if view == "team_and_individual":
        return earned
    # The team reward contains what every agent earned; what its mates earned is taken out of an agent's.
    everybody = sum((x.sum(-1) for x in earned), start=np.zeros(earned[0].shape[:-1], np.float32))
    return [np.zeros_like(x) if view == "team" else x - everybody[..., None] for x in earned]
