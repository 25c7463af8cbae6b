"""What a round costs, what is left to spend, and how competent a run is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cosignal.config.run_config import RunConfig
from cosignal.graphs.intervention import cost_of_round, cost_until, levels, return_share, steps_left
from cosignal.rl.ipc.messages import TrainerStatus
from cosignal.rl.signals.signal import Signal
from cosignal.runs.records import RankingRecord
from cosignal.runs.store import LoopStore
from records import branch


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


async def test_steps_left_of_the_share(tmp_path: Path) -> None:
    store = await LoopStore.open(tmp_path)
    config = RunConfig.model_validate({"adaptation": {"max_share": 0.75}})
    ctx: Any = SimpleNamespace(config=config, store=store)
    assert await steps_left(ctx, status()) == 3_000_000
    await store.write(branch("a", steps=300_000, steps_evaluation=0))
    await store.write(RankingRecord(point=1, ranker="r", steps=100_000))
    assert await steps_left(ctx, status()) == 2_600_000  # play for the Ranker is paid from the share too
    assert await steps_left(ctx, status(), before=(1, 0)) == 2_900_000
    # what was adopted is not beside the line, and what an adopted state has replaced is
    assert await steps_left(ctx, status(steps_main=440_000)) == 2_840_000
    assert await steps_left(ctx, status(steps_main=50_000)) == 2_450_000
    assert await steps_left(ctx, status(steps_main=50_000), before=(1, 0)) == 2_750_000
    await store.close()


def status(**changes: Any) -> TrainerStatus:
    values = {
        "state": "waiting", "update": 100, "steps_main": 200_000, "steps_evaluation": 0, "steps_repeated": 0,
        "steps_trained": 200_000, "steps_budget": 1_000_000, "waiting_at": 100, "snapshot": "s", "stage": "plateaued",
        "signal": Signal(), "sparse_return": 1.0, "success_rate": 0.0,
    }  # fmt: skip
    return TrainerStatus.model_validate({**values, **changes})


def test_a_return_is_a_share_of_the_return_range() -> None:
    assert return_share(status(sparse_return=1.0), (-1.0, 3.0)) == 0.5
    assert return_share(status(sparse_return=None), (-1.0, 3.0)) is None
    assert return_share(status(), None) is None
    assert return_share(status(), (1.0, 1.0)) is None
