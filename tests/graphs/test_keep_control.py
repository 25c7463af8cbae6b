"""The control's steps are kept where an intervention ends without an acceptance, exactly once, also after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from converged import Converged
from cosignal.rl.algorithms.config import IPPOConfig
from cosignal.rl.ipc.messages import BranchJob
from cosignal.rl.signals.signal import Signal
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, fake_run_config
from cosignal.testing.answers import DIAGNOSIS, proposal, proposals, ranking
from cosignal.testing.fake_run import FULL, UPDATE
from kills import Fragile, dies_at
from loop_runs import POINT, comparable, goal_helps, nothing_helps, scripts, tables

GOAL, DOOR = proposal("goal", "-dist_goal / 17"), proposal("door", "-dist_door / 9")
KICKED = proposal("mate", "-dist_mate / 12", kick=0.05)
KEPT = -(-FULL // UPDATE) * UPDATE  # the horizon in whole updates


def said(*rounds: list[dict[str, Any]]) -> dict[str, list[Any]]:
    rankings = [
        ranking(*(f"p{POINT}-r{number}-{i}" for i in range(len(given))))
        for number, given in enumerate(rounds)
        if len(given) > 1
    ]
    return {"critic": [DIAGNOSIS], "generator": [proposals(*given) for given in rounds], "ranker": rankings}


async def run(
    run_dir: Path,
    *rounds: list[dict[str, Any]],
    gain: Any = nothing_helps,
    steps: int = 500_000,
    clock: Any = "lockstep",
    **branches: Any,
) -> tuple[FakeTrainer, FakeBranchPool, list[dict[str, Any]]]:
    trainer, pool = FakeTrainer(run_dir, steps_budget=steps, clock=clock), FakeBranchPool(run_dir, gain)
    session = LoopSession(run_dir, trainer, pool, said(*rounds))
    session.config = changed(len(rounds), clock, **branches)
    await session.run()
    return trainer, pool, (await tables(run_dir))["decisions"]


def changed(rounds: int, clock: str = "lockstep", **branches: Any) -> Any:
    used = fake_run_config(rounds=rounds)
    return used.model_copy(update={"branches": used.branches.model_copy(update=branches), "clock": clock})


def controls(pool: FakeBranchPool, horizon: int) -> list[BranchJob]:
    return [job for job in pool.jobs if (job.arm, job.seed, job.horizon) == ("control", 0, horizon)]


async def test_the_control_becomes_the_main_line_under_the_signal_in_force(tmp_path: Path) -> None:
    trainer, pool, [decision] = await run(tmp_path, [GOAL, DOOR])
    [change] = trainer.changes
    [full] = controls(pool, FULL)
    assert (change.key, change.point, change.cause) == (f"control:p{POINT}-r0:0", POINT, "control")
    assert change.adopt == full.end_state
    assert change.signal == Signal(version=1, parent=0, scale=1.0)  # the same, under a version of its own
    assert (decision["verdict"], decision["adopted"], decision["version"]) == ("no_difference", None, None)
    assert (decision["detail"]["kept_control"], decision["detail"]["adopt"]) == (KEPT, full.end_state)
    assert trainer.log == []  # no promotion
    assert (tmp_path / full.end_state).is_dir()  # part of the run: a restart replays it
    assert len(list((tmp_path / "branches").iterdir())) == 1


async def test_an_acceptance_keeps_no_control(tmp_path: Path) -> None:
    trainer, _, [decision] = await run(tmp_path, [GOAL, DOOR], gain=goal_helps)
    assert [change.cause for change in trainer.changes] == ["promotion"]
    assert "kept_control" not in decision["detail"]


async def test_a_kicked_control_is_not_the_main_line(tmp_path: Path) -> None:
    trainer, _, [decision] = await run(tmp_path, [KICKED])
    assert (trainer.changes, decision["detail"].get("adopt")) == ([], None)


async def test_only_the_end_of_the_intervention_keeps_it_and_any_round_may_have_run_it(tmp_path: Path) -> None:
    """The second round is kicked, so the control that is kept is the first round's."""
    trainer, _, decisions = await run(tmp_path, [GOAL], [KICKED])
    [change] = trainer.changes
    assert change.key == f"control:p{POINT}-r1:0"
    assert ["kept_control" in decision["detail"] for decision in decisions] == [False, True]


async def test_a_round_that_nobody_answers_ends_it_too(tmp_path: Path) -> None:
    trainer, pool = FakeTrainer(tmp_path), FakeBranchPool(tmp_path, nothing_helps)
    session = LoopSession(tmp_path, trainer, pool, {**said([GOAL]), "generator": [proposals(GOAL), "?", "?"]})
    session.config = changed(2)
    await session.run()
    assert [change.key for change in trainer.changes] == [f"control:p{POINT}-r1:0"]
    last = (await tables(tmp_path))["decisions"][-1]
    assert (last["verdict"], last["detail"]["kept_control"]) == ("no_answer", KEPT)


@pytest.mark.parametrize(
    ("steps", "kept", "horizon"),
    [(POINT * UPDATE + KEPT, KEPT, FULL), (POINT * UPDATE + KEPT - 1, 15 * UPDATE, FULL // 2)],
)
async def test_the_run_gets_no_more_steps_than_its_budget(tmp_path: Path, steps: int, kept: int, horizon: int) -> None:
    """Where the full branch would outrun it, the screened one is kept: 30 000 steps are 15 updates."""
    trainer, pool, [decision] = await run(tmp_path, [GOAL], steps=steps)
    [branch] = controls(pool, horizon)
    assert (trainer.changes[0].adopt, decision["detail"]["kept_control"]) == (branch.end_state, kept)


@pytest.mark.parametrize("off", [{"keep_control": False}, {"clock": "overlap"}])
async def test_switched_off_and_under_the_overlap_clock_nothing_is_kept(tmp_path: Path, off: dict[str, Any]) -> None:
    trainer, pool = (
        FakeTrainer(tmp_path, clock=off.get("clock", "lockstep"), pace=8),
        FakeBranchPool(tmp_path, nothing_helps),
    )
    session = LoopSession(tmp_path, trainer, pool, {**scripts(), "generator": [proposals(GOAL)]})
    session.config = changed(1, **off)
    await session.run()
    assert [row["verdict"] for row in (await tables(tmp_path))["decisions"]] == ["no_difference"]
    assert trainer.changes == []


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_effect_it_is_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """A refused removal, since no model can be scripted across a kill; of potentials that no offset can take out."""
    monkeypatch.setattr(IPPOConfig, "offsets_potentials", False)

    def session(run_dir: Path, trainer: FakeTrainer) -> LoopSession:
        return LoopSession(run_dir, trainer, FakeBranchPool(run_dir, lambda job: -1.0))

    def trainer_of(run_dir: Path) -> FakeTrainer:
        run_dir.mkdir()
        return Converged(run_dir)

    reference = trainer_of(tmp_path / "reference")
    await session(tmp_path / "reference", reference).run()
    expected = comparable(await tables(tmp_path / "reference"))
    assert [change.cause for change in reference.changes] == ["control"]
    at, died = 6, True
    while died:
        run_dir = tmp_path / f"killed-{at}"
        trainer = trainer_of(run_dir)
        died = await dies_at(session(run_dir, trainer), Fragile(at, after), monkeypatch)
        if died:
            trainer.restart(points_back=at % 2)
            await session(run_dir, trainer).run()
        assert trainer.changes == reference.changes, at
        assert comparable(await tables(run_dir)) == expected, at
        at += 7
    assert at > 50
