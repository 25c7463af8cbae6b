"""Where the loop looks under both clocks, how often it asks, and what it hands on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cosignal.errors import TrainerGone
from cosignal.graphs.context import Context
from cosignal.graphs.nodes import observe as module
from cosignal.graphs.nodes.observe import observe
from cosignal.rl.ipc import messages as m
from cosignal.rl.stage import Stage
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, fake_run_config
from cosignal.testing.fake_run import INTERVAL, UPDATE
from loop_runs import nothing_helps, tables

STEPS = INTERVAL * UPDATE


@asynccontextmanager
async def opened(run_dir: Path, trainer: FakeTrainer, **adaptation: Any) -> Any:
    """`await look(state)` runs the node once; the context is at `look.ctx`."""
    session = LoopSession(run_dir, trainer, FakeBranchPool(run_dir, nothing_helps), {})
    session.config = fake_run_config(**adaptation).model_copy(update={"clock": trainer.clock})
    store = await LoopStore.open(run_dir)
    ctx: Context = await session.context(store, [])

    class Look:
        def __init__(self) -> None:
            self.ctx = ctx

        async def __call__(self, state: Any) -> Any:
            return await observe(state, SimpleNamespace(context=ctx))  # type: ignore[arg-type]

    try:
        yield Look()
    finally:
        await store.close()


# ---------------------------------------------------------------- overlap


@pytest.mark.parametrize("pace", [1, 5, 23])
async def test_a_trainer_that_never_waits_is_looked_at_once_an_interval(tmp_path: Path, pace: int) -> None:
    """Each point is the first status behind the next multiple of the interval; none is looked at twice or released."""
    trainer = FakeTrainer(tmp_path, stage="improving", clock="overlap", pace=pace)
    state: Any = {"done_point": -1}
    points = []
    async with opened(tmp_path, trainer) as look:
        while not state.get("finished"):
            state |= await look(state)
            points.append(state["point"])
    points.pop()  # the end
    seen = range(INTERVAL + pace, 500_000 // UPDATE + pace + 1, pace)  # in updates
    crossed = [u for u, before in zip(seen, [0, *seen], strict=False) if u // INTERVAL > before // INTERVAL]
    assert points == crossed[: len(points)]
    assert len(points) >= len(crossed) - 1  # the last status may be the end already
    assert points == sorted(set(points))
    assert trainer.requests.count("release") == trainer.requests.count("look") == 0


async def test_the_intervention_is_where_the_look_was(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path, clock="overlap", pace=3)
    async with opened(tmp_path, trainer, patience=0) as look:
        state = await look({"done_point": -1})
        assert trainer.requests == ["get_status", "look"]
        assert state["triggered"]
        assert state["point"] == trainer.point == state["status"]["update"]
        assert state["last_steps"] == trainer.point * UPDATE
        assert state["status"]["snapshot"] == f"checkpoints/update_{trainer.point:09d}"
        assert "done_point" not in state  # decide says when
    [row] = (await tables(tmp_path))["diagnoses"]
    assert (row["point"], row["evidence"]["steps"]) == (trainer.point, trainer.point * UPDATE)


async def test_what_an_intervention_took_is_no_new_point(tmp_path: Path) -> None:
    """Points count from where the run stands after it: a promoted state may lie behind several multiples."""
    trainer = FakeTrainer(tmp_path, stage="improving", clock="overlap", pace=1)
    async with opened(tmp_path, trainer) as look:
        state = await look({"done_point": 20, "status": {"steps_main": 70 * UPDATE}, "last_steps": 70 * UPDATE})
    assert state["point"] == 80


class Sleepless:
    """asyncio.sleep that only takes notes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept: list[float] = []
        sleep = asyncio.sleep

        async def note(seconds: float) -> None:
            self.slept.append(seconds)
            await sleep(0)

        monkeypatch.setattr(module.asyncio, "sleep", note)


async def test_a_trainer_at_work_is_asked_about_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it publishes: ten wake-ups a second would be ten questions."""
    trainer = FakeTrainer(tmp_path, stage="improving", clock="overlap", pace=1)
    async with opened(tmp_path, trainer) as look:
        look.ctx.poll_s = Context.__dataclass_fields__["poll_s"].default
        look.ctx.wake.set()
        clock = Sleepless(monkeypatch)
        state = await look({"done_point": INTERVAL, "status": {"steps_main": STEPS}})
    assert state["point"] == 2 * INTERVAL
    assert trainer.requests == ["get_status"] * INTERVAL
    assert clock.slept == [1.0] * (INTERVAL - 1)  # and one request besides


# ---------------------------------------------------------------- lockstep


async def test_a_waiting_trainer_is_looked_at_where_it_waits_and_released_afterwards(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path, stage="improving")
    async with opened(tmp_path, trainer) as look:
        first = await look({"done_point": -1})
        assert (first["point"], first["done_point"], trainer.point) == (INTERVAL, INTERVAL, INTERVAL)
        second = await look(first)
        assert (second["point"], trainer.requests.count("release")) == (2 * INTERVAL, 1)


async def test_a_trainer_that_fell_back_is_brought_forward(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path, stage="improving")
    async with opened(tmp_path, trainer) as look:
        state = await look({"done_point": 3 * INTERVAL})
    assert (state["point"], trainer.requests.count("release")) == (4 * INTERVAL, 3)


async def test_a_trainer_that_somebody_stops_is_gone(tmp_path: Path) -> None:
    class Stopping(FakeTrainer):
        def status(self) -> m.TrainerStatus:
            return super().status().model_copy(update={"state": "stopping", "waiting_at": None})

    async with opened(tmp_path, Stopping(tmp_path)) as look:
        with pytest.raises(TrainerGone, match="--resume"):
            await look({"done_point": -1})


# ---------------------------------------------------------------- monitoring


@pytest.mark.parametrize("clock", ["lockstep", "overlap"])
@pytest.mark.parametrize("patience", [0, 400_000])
async def test_a_new_evaluation_is_handed_to_the_monitor(tmp_path: Path, clock: Any, patience: int) -> None:
    """Whether or not the point has a trigger of its own. The fake evaluates at every status."""
    trainer = FakeTrainer(tmp_path, clock=clock)
    report = {"steps": 0, "mean": 1.0, "sd": 0.1, "episodes": 32, "success_rate": None, "version": 0}
    told = {"version": 0, "proposal": "p", "point": 1, "before": report, "expected": None, "from": 0, "margin": 0.1}
    watch = told | {"bad": 0, "judged": 0, "seen": 0}
    async with opened(tmp_path, trainer, patience=patience) as look:
        unwatched = await look({"done_point": -1, "watch": None})
        assert (unwatched["monitoring"], unwatched["triggered"]) == (False, patience == 0)
        watched = await look(unwatched | {"watch": watch, "triggered": False, "done_point": unwatched["point"]})
        assert watched["monitoring"]
        assert watched["status"]["evaluation"]["steps"] == trainer.steps
        seen = watch | {"seen": 10**9, "seen_version": 0}
        again = await look(watched | {"watch": seen, "triggered": False, "done_point": watched["point"]})
        assert not again["monitoring"]


async def test_at_the_end_nothing_is_left_to_do(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path, steps_budget=STEPS)
    async with opened(tmp_path, trainer) as look:
        state = await look({"done_point": -1, "watch": {"seen": 0}, "monitoring": True, "triggered": True})
    assert (state["finished"], state["triggered"], state["monitoring"]) == (True, False, False)


# ---------------------------------------------------------------- a fixed stage


@pytest.mark.parametrize(("stage", "fires"), [("plateaued", True), ("regressing", True), ("improving", False)])
async def test_a_fixed_stage_is_told_to_everybody(tmp_path: Path, stage: Stage, fires: bool) -> None:
    trainer = FakeTrainer(tmp_path, stage="exploring")
    async with opened(tmp_path, trainer, patience=0, stage=stage) as look:
        state = await look({"done_point": -1})
        assert (state["triggered"], state["status"]["stage"]) == (fires, stage)
        assert (await look.ctx.status()).stage == stage
        evidence = (await look.ctx.look()).evidence
        assert (evidence.stage, evidence.stage_reason) == (stage, "fixed by adaptation.stage")
    for row in (await tables(tmp_path))["diagnoses"]:
        assert row["evidence"]["stage"] == stage


async def test_without_one_the_trainers_stage_holds(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path, stage="exploring")
    async with opened(tmp_path, trainer) as look:
        assert (await look.ctx.status()).stage == (await look.ctx.look()).status.stage == "exploring"
        assert (await look.ctx.look()).evidence.stage_reason == "not risen"
