"""What a round costs, what is left to spend, and how competent a run is."""

from __future__ import annotations

from typing import Any

from cosignal.config.run_config import RunConfig
from cosignal.graphs.intervention import cost_of_round, cost_until, levels, return_share, steps_left
from cosignal.rl.ipc.messages import TrainerStatus
from cosignal.rl.signals.signal import Signal


def test_the_cost_of_a_round_is_that_of_the_first_look_that_can_decide() -> None:
    config = RunConfig.model_validate(
        {
            "branches": {"horizon": 60_000, "screen_seeds": 2, "finalists": 2},
            "adaptation": {"candidates": 3, "rounds": 2},
            "gate": {"looks": [3, 5], "level": 0.1},
        }
    )
    assert [level > 0 for level in levels(config)] == [False, True]
    # screening is 4 arms × 2 seeds; then finalist and control have 2 seeds continued and 1 or 3 fresh ones
    assert cost_until(config, 60_000, 0) == 240_000 + 240_000
    assert cost_of_round(config, 60_000) == cost_until(config, 60_000, 1) == 240_000 + 480_000
    assert cost_until(config, 60_000, 1, finalists=2) == 240_000 + 720_000


def test_steps_left_of_the_share() -> None:
    config = RunConfig.model_validate({"adaptation": {"max_share": 0.75}})
    assert steps_left(config, 1_000_000, 400_000) == 2_600_000


def status(**changes: Any) -> TrainerStatus:
    values = {
        "state": "waiting", "update": 100, "steps_main": 200_000, "steps_evaluation": 0, "steps_repeated": 0,
        "steps_adopted": 0, "steps_budget": 1_000_000, "waiting_at": 100, "snapshot": "s", "stage": "plateaued",
        "signal": Signal(), "sparse_return": 1.0, "success_rate": 0.0,
    }  # fmt: skip
    return TrainerStatus.model_validate({**values, **changes})


def test_competence_is_a_share_of_the_return_range() -> None:
    assert return_share(status(sparse_return=1.0), (-1.0, 3.0)) == 0.5
    assert return_share(status(sparse_return=None), (-1.0, 3.0)) is None
    assert return_share(status(), None) is None
    assert return_share(status(), (1.0, 1.0)) is None
