"""A promotion that makes the run worse is rolled back, once, and its signal never comes again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cosignal.graphs.history import quarantined, tried
from cosignal.graphs.nodes.monitor import monitor
from cosignal.rl.ipc import messages as m
from cosignal.rl.signals.signal import Signal
from cosignal.runs.events import Decided, NodeEntered, NodeLeft, RolledBack
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, Killed, LoopSession, fake_run_config
from cosignal.testing.answers import DIAGNOSIS, GOAL, proposal, proposals
from cosignal.testing.fake_run import INTERVAL, UPDATE
from kills import Counted, Fragile, dies_at
from loop_runs import POINT, comparable, goal_helps, scripts, tables

NEXT = POINT + INTERVAL  # the first point after the promotion
BAD, GOOD = 0.2, 1.2  # sparse returns; 1.0 before the promotion, sd 0.1 over 32 episodes, margin 0.1


class Trainer(FakeTrainer):
    """`scores`: of its evaluations under the promoted signal, one a point; the last one stays. `stuck`: it plateaus
    under that signal, too."""

    scores: tuple[float, ...] = (BAD,)
    stuck = False

    def score(self) -> float:
        if self.in_force is None:
            return 1.0
        points = (self.point - self.in_force.point) // INTERVAL - 1
        return self.scores[min(max(points, 0), len(self.scores) - 1)]

    def status(self) -> m.TrainerStatus:
        found = super().status()
        stuck: dict[str, Any] = {"stage": self.stage, "success_rate": 0.0}
        return found.model_copy(update=stuck) if self.stuck else found


def session(run_dir: Path, *scores: float, trainer: Trainer | None = None) -> LoopSession:
    run_dir.mkdir(exist_ok=True)
    trainer = trainer or Trainer(run_dir)
    trainer.scores = scores or trainer.scores
    return LoopSession(run_dir, trainer, FakeBranchPool(run_dir, goal_helps), scripts())


def causes(run: LoopSession) -> list[str]:
    return [change.cause for change in run.trainer.changes]


def verdicts(run: LoopSession) -> list[tuple[int | None, int]]:
    """Point and number of regressions running, of each evaluation that was judged and not rolled back for."""
    left = [event for event in run.events if isinstance(event, NodeLeft) and event.node == "monitor"]
    return [(event.point, event.detail["regressions"]) for event in left if "regressions" in event.detail]


async def test_two_regressions_running_roll_the_promotion_back(tmp_path: Path) -> None:
    run = session(tmp_path, BAD)
    await run.run()
    assert causes(run) == ["promotion", "rollback"]
    undone = run.trainer.changes[1]
    assert (undone.key, undone.point, undone.signal.version) == ("rollback:1", NEXT + INTERVAL, 2)
    assert undone.signal.terms == ()
    assert verdicts(run) == [(NEXT, 1)]
    [event] = [event for event in run.events if isinstance(event, RolledBack)]
    assert (event.proposal, event.undone, event.version, event.repeated) == (f"p{POINT}-r0-1", 1, 2, False)
    assert run.trainer.finished


async def test_the_books_of_a_rollback(tmp_path: Path) -> None:
    run = session(tmp_path, BAD)
    await run.run()
    accepted, rolled_back = (await tables(tmp_path))["decisions"]
    assert (accepted["verdict"], accepted["version"]) == ("accept", 1)
    point = NEXT + INTERVAL
    assert (rolled_back["id"], rolled_back["verdict"]) == (f"p{point}-rollback", "rollback")
    assert (rolled_back["point"], rolled_back["winner"], rolled_back["version"]) == (point, f"p{POINT}-r0-1", 2)
    # 0.95 is what the control came to. sd 0.1 twice over 32 episodes: standard error 0.025, t(0.9, 62) = 1.2954
    assert rolled_back["detail"]["reason"] == (
        f"sparse return 0.200 at {point * UPDATE + 60_000} main steps, 0.950 before version 1: "
        "upper bound of the change -0.718 at level 0.1, bar -0.1: a regression, 2 of 2 running"
    )
    assert rolled_back["detail"]["undone"] == 1


async def test_a_rollback_ends_its_point_and_patience_begins_anew(tmp_path: Path) -> None:
    """Stuck all along and patient for one point only: without the rollback it would intervene at every second point."""
    trainer = Trainer(tmp_path)
    trainer.stuck = True
    run = session(tmp_path, BAD, trainer=trainer)
    run.config = fake_run_config(patience=UPDATE)
    said = [DIAGNOSIS, "no answer", "none"] * 20
    first = INTERVAL
    run.scripts = {"critic": said, "generator": [proposals(GOAL)]}
    await run.run()
    walk = [(event.node, event.point) for event in run.events if isinstance(event, NodeEntered)]
    judged = [point for node, point in walk if node == "monitor"]
    asked = sorted({point for node, point in walk if node == "critic"})
    assert judged == [first + INTERVAL, first + 2 * INTERVAL]
    assert first + INTERVAL in asked  # one regression does not keep the loop from looking
    assert first + 2 * INTERVAL not in asked
    assert first + 3 * INTERVAL in asked


async def test_one_regression_and_then_recovery_is_none(tmp_path: Path) -> None:
    run = session(tmp_path, BAD, GOOD, BAD, GOOD)
    await run.run()
    assert causes(run) == ["promotion"]
    assert [count for _, count in verdicts(run)][:4] == [1, 0, 1, 0]


@pytest.mark.parametrize("score", [GOOD, 1.0, 0.9])
async def test_what_is_not_surely_worse_by_the_margin_stays(tmp_path: Path, score: float) -> None:
    """0.9: on the margin; its upper bound is 0.032 above it."""
    run = session(tmp_path, score)
    await run.run()
    assert causes(run) == ["promotion"]
    assert {count for _, count in verdicts(run)} == {0}


async def test_every_evaluation_is_judged_once(tmp_path: Path) -> None:
    run = session(tmp_path, GOOD)
    await run.run()
    points = [point for point, _ in verdicts(run)]
    assert points == sorted(set(points))
    assert points[0] == NEXT


async def test_a_control_that_became_the_main_line_does_not_hide_the_promotion(tmp_path: Path) -> None:
    """Its version is in force then, and with it the promoted signal."""
    goal, door = proposal("goal", "-dist_goal / 17"), proposal("door", "-dist_door / 9")  # no kick: the control is kept
    trainer = Trainer(tmp_path)
    run = session(tmp_path, GOOD, BAD, trainer=trainer)
    run.config = fake_run_config(patience=UPDATE)
    trainer.stuck = True
    said = [DIAGNOSIS, DIAGNOSIS, *["no answer"] * 60]
    run.scripts = {"critic": said, "generator": [proposals(goal), proposals(door), proposals(door)]}
    run.pool = FakeBranchPool(tmp_path, lambda job: 1.7 if job.arm == f"p{INTERVAL}-r0-0" else 0.0)
    await run.run()
    assert causes(run)[:3] == ["promotion", "control", "rollback"]
    assert run.trainer.changes[2].key == "rollback:2"
    [event] = [event for event in run.events if isinstance(event, RolledBack)]
    assert (event.undone, event.version, event.proposal) == (1, 3, f"p{INTERVAL}-r0-0")


async def test_what_cannot_be_undone_is_recorded_and_training_goes_on(tmp_path: Path) -> None:
    class Stubborn(Trainer):
        def rollback(self, request: m.Rollback) -> m.Reply:
            return m.ErrorReply(error="snapshot", message="the state before it is gone")

    run = session(tmp_path, BAD, trainer=Stubborn(tmp_path))
    await run.run()
    assert causes(run) == ["promotion"]
    assert run.trainer.requests.count("rollback") == 1
    assert run.trainer.finished
    decision = (await tables(tmp_path))["decisions"][-1]
    assert (decision["id"], decision["verdict"]) == (f"p{NEXT + INTERVAL}-rollback", "conflict")
    assert decision["detail"]["reason"].endswith("it could not be undone: the state before it is gone")
    assert [event.verdict for event in run.events if isinstance(event, Decided)] == ["accept", "conflict"]


# ---------------------------------------------------------------- quarantine


async def test_a_rolled_back_signal_never_comes_again(tmp_path: Path) -> None:
    run = session(tmp_path, BAD)
    run.config = fake_run_config(patience=100_000)
    run.scripts = {
        "critic": [DIAGNOSIS, DIAGNOSIS, *["no answer"] * 20],
        "generator": [proposals(GOAL), proposals(GOAL), "no answer", "none"],
    }
    await run.run()
    kept = await tables(tmp_path)
    first, again = kept["proposals"]
    assert (first["problems"], len(again["problems"])) == ([], 1)
    assert causes(run)[:2] == ["promotion", "rollback"]
    assert len(run.trainer.log) == 1
    store = await LoopStore.open(tmp_path)
    assert await quarantined(store) == {Signal.model_validate(first["signal"]).shape_hash()}
    assert [entry.verdict for entry in await tried(store)] == ["rolled_back", "failed_check"]
    await store.close()


# ---------------------------------------------------------------- an evaluation between decision and promotion


async def test_an_evaluation_of_the_version_before_is_what_later_ones_are_compared_with(tmp_path: Path) -> None:
    run = session(tmp_path)
    store = await LoopStore.open(tmp_path)
    before = {"steps": 10, "mean": 1.0, "sd": 0.1, "episodes": 32, "success_rate": None, "version": 0}
    newer = before | {"steps": 20, "mean": 0.5}
    watch = {
        "version": 1, "proposal": "p", "point": 1, "before": before, "expected": None, "from": 0, "margin": 0.1,
        "bad": 1, "judged": 0, "seen": 10,
    }  # fmt: skip
    status = run.trainer.status().model_dump(mode="json") | {"evaluation": newer}
    runtime: Any = SimpleNamespace(context=await run.context(store, []))
    found = await monitor({"status": status, "watch": watch, "point": 1}, runtime)
    await store.close()
    assert found["watch"] == watch | {"before": newer, "seen": 20, "seen_version": 0}
    assert found["monitoring"] is False


# ---------------------------------------------------------------- killed


async def test_killed_between_rollback_and_checkpoint_it_is_not_rolled_back_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = session(tmp_path, BAD)
    handle = run.trainer.handle

    def killed_after_rollback(request: m.Request) -> m.Reply:
        reply = handle(request)
        if isinstance(request, m.Rollback):
            raise Killed("right after")
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(run.trainer, "handle", killed_after_rollback)
        with pytest.raises(Killed):
            await run.run()
    run.trainer.restart(points_back=1)
    again = LoopSession(tmp_path, run.trainer, run.pool, scripts())
    await again.run()
    assert causes(again) == ["promotion", "rollback"]
    [event] = [event for event in again.events if isinstance(event, RolledBack)]
    assert (event.version, event.repeated) == (2, True)


async def test_killed_before_its_rollback_it_is_rolled_back_where_it_was_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer is found one point back, as after a crash of its own."""
    run = session(tmp_path, BAD)
    handle = run.trainer.handle

    def killed_before_rollback(request: m.Request) -> m.Reply:
        if isinstance(request, m.Rollback):
            raise Killed("right before")
        return handle(request)

    with monkeypatch.context() as patch:
        patch.setattr(run.trainer, "handle", killed_before_rollback)
        with pytest.raises(Killed):
            await run.run()
    run.trainer.restart(points_back=1)
    assert run.trainer.point == NEXT
    await LoopSession(tmp_path, run.trainer, run.pool, scripts()).run()
    assert [change.point for change in run.trainer.changes] == [POINT, NEXT + INTERVAL]


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_effect_from_the_promotion_on_it_ends_as_if_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """It dies at every seventh write or request up to the end."""
    reference = session(tmp_path / "reference", BAD)
    reference.events = counted = Counted()
    assert not await dies_at(reference, counted.fragile, monkeypatch)
    expected, at, died = comparable(await tables(reference.run_dir)), counted.when["promoted"], True
    while died:
        run = session(tmp_path / f"killed-{at}", BAD)
        died = await dies_at(run, Fragile(at, after), monkeypatch)
        if died:
            run.trainer.restart(points_back=at % 2)
            assert isinstance(run.trainer, Trainer)
            await session(run.run_dir, BAD, trainer=run.trainer).run()
        assert run.trainer.changes == reference.trainer.changes, at
        assert comparable(await tables(run.run_dir)) == expected, at
        at += 7
    assert at > counted.when["rolled_back"] > counted.when["promoted"]
