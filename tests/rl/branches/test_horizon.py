"""The rule of the branch length."""

from __future__ import annotations

from typing import Any

import pytest
from cosignal.rl.branches.config import BranchConfig
from cosignal.rl.branches.horizon import horizon_steps, screening_steps


@pytest.mark.parametrize(
    ("success", "competence", "stage", "steps"),
    [
        (0.5, None, "improving", 50_000),
        (0.2, 0.0, "emerging", 50_000),
        (0.19, 0.9, "improving", 200_000),  # success counts where the task has a test
        (0.5, None, "plateaued", 200_000),
        (0.5, None, "regressing", 200_000),
        (None, 0.3, "improving", 50_000),
        (None, 0.1, "improving", 200_000),
        (None, None, "exploring", 200_000),
        (0.95, None, "converged", 50_000),
        (None, None, "converged", 50_000),
    ],
)
def test_horizon_follows_competence(success: float | None, competence: float | None, stage: Any, steps: int) -> None:
    assert horizon_steps(BranchConfig(), success, competence, stage) == steps


def test_a_configured_horizon_holds() -> None:
    assert horizon_steps(BranchConfig(horizon=7001), 0.9, None, "improving") == 7001
    assert screening_steps(7001) == 3500
    assert screening_steps(1) == 1
