"""Which agents the task's reward is paid to."""

from __future__ import annotations

import numpy as np
import pytest
from cosignal.errors import ConfigError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.signals.reward_view import added_individually
from cosignal.rl.task import EventSpec, TaskSpec
from cosignal.rl.training.line import TrainingLine
from training_lines import small_config


def test_reward_views_by_hand(spec: TaskSpec) -> None:
    paid = (EventSpec(name="found", reward=2.0), EventSpec(name="turned", repeatable=True))
    groups = (
        spec.groups[0].model_copy(update={"events": paid}),
        spec.groups[1].model_copy(update={"events": (EventSpec(name="lifted", reward=1.0),)}),
    )
    events = [np.array([[[1, 7], [0, 3]]], np.float32), np.array([[[1]]], np.float32)]
    paying = spec.model_copy(update={"groups": groups})
    found = {
        view: [x.ravel().tolist() for x in added_individually(view, events, paying)]
        for view in ("team", "individual", "team_and_individual")
    }
    assert found == {
        "team": [[0, 0], [0]],
        "individual": [[-1, -3], [-2]],  # 3 were paid: each keeps its own 2, 0, 1
        "team_and_individual": [[2, 0], [1]],
    }


def test_a_reward_view_needs_paid_events() -> None:
    task = TaskConfig(env="small_tasks:Walk")
    with pytest.raises(ConfigError, match="needs events that say what they are paid"):
        TrainingLine(small_config(reward="individual").model_copy(update={"task": task}))
