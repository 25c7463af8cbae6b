"""The overlap clock: a verdict that the run has left behind is confirmed once more, or is stale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cosignal.graphs.history import tried
from cosignal.graphs.nodes.confirm import FINISHED, staleness
from cosignal.rl.ipc import messages as m
from cosignal.rl.ipc.messages import BranchJob, BranchResult, TrainerStatus
from cosignal.rl.stage import Stage
from cosignal.runs.events import Decided, Promoted
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, Killed, LoopSession, fake_run_config
from cosignal.testing.fake_run import UPDATE
from hypothesis import given
from hypothesis import strategies as st
from loop_runs import POINT, goal_helps, leave_branch_steps, scripts, tables

FIRST = f"checkpoints/update_{POINT:09d}"
MOST = 20 * UPDATE  # of staleness
KEY = f"p{POINT}-r0"
Happening = Callable[["Trainer"], None]


class Trainer(FakeTrainer):
    """Of a run under the overlap clock. `leaves`: how many statuses it still gives before it is finished."""

    leaves: int | None = None

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir, clock="overlap")

    @property
    def finished(self) -> bool:
        return super().finished or self.leaves == 0

    def handle(self, request: m.Request) -> m.Reply:
        reply = super().handle(request)
        if self.leaves and isinstance(request, m.GetStatus):
            self.leaves -= 1
        return reply


class Pool(FakeBranchPool):
    """While the first branch from `fork` runs (any but the verdict's where it is None), something happens."""

    def __init__(self, run_dir: Path, trainer: Trainer, happenings: dict[str, Happening], **settings: Any) -> None:
        super().__init__(run_dir, settings.pop("gain", goal_helps), **settings)
        self.trainer = trainer
        self.happenings = happenings

    def result(self, job: BranchJob) -> BranchResult:
        happening = self.happenings.pop("verdict" if job.fork == FIRST else "confirmation", None)
        if happening is not None:
            happening(self.trainer)
        return super().result(job)


def moves(updates: int) -> Happening:
    def happen(trainer: Trainer) -> None:
        trainer.point += updates

    return happen


def becomes(stage: Stage) -> Happening:
    def happen(trainer: Trainer) -> None:
        trainer.stage = stage

    return happen


def ends(after_statuses: int) -> Happening:
    def happen(trainer: Trainer) -> None:
        trainer.leaves = after_statuses

    return happen


def session(run_dir: Path, pool: Pool) -> LoopSession:
    run = LoopSession(run_dir, pool.trainer, pool, scripts())
    run.config = fake_run_config(max_staleness=MOST).model_copy(update={"clock": "overlap"})
    return run


async def ran(
    run_dir: Path, happenings: dict[str, Happening], **settings: Any
) -> tuple[LoopSession, dict[str, Any], int]:
    """The run, its only decision, and how many branches confirmed it."""
    run = session(run_dir, Pool(run_dir, Trainer(run_dir), happenings, **settings))
    await run.run()
    kept = await tables(run_dir)
    [decision] = kept["decisions"]
    return run, decision, sum(row["phase"] == "confirm" for row in kept["branches"])


def assert_stale(run: LoopSession, decision: dict[str, Any], words: str) -> None:
    assert run.trainer.changes == []
    assert run.trainer.finished
    assert (decision["verdict"], decision["version"]) == ("stale", None)
    assert words in decision["detail"]["reason"]
    assert "; the gate had accepted: p128-r0-1: gain" in decision["detail"]["reason"]
    assert [event.verdict for event in run.events if isinstance(event, Decided)] == ["accept", "stale"]


@pytest.mark.parametrize("arm", ["control", "p128-r0-1"])
async def test_a_confirmation_that_cannot_be_run_is_stale(tmp_path: Path, arm: str) -> None:
    def fails(job: BranchJob) -> str | None:
        return "no licence" if job.arm == arm and job.fork != FIRST else None

    run, decision, _ = await ran(tmp_path, {"verdict": moves(MOST // UPDATE + 1)}, fails=fails)
    assert_stale(run, decision, f"then a branch of {arm} could not be run to confirm it, seed 0: no licence")


async def test_a_fresh_verdict_is_promoted_and_says_how_old_it_was(tmp_path: Path) -> None:
    run, decision, branches = await ran(tmp_path, {"verdict": moves(19)})
    assert branches == 0
    assert (decision["verdict"], decision["version"], decision["adopted"]) == ("accept", 1, "state")
    assert decision["detail"]["staleness"] == MOST  # the question itself finds it one update further on
    [(key, point, _, _)] = run.trainer.log
    assert (key, point) == (f"{KEY}-1:0", POINT + 21)


async def test_a_verdict_that_is_too_old_is_confirmed_from_where_the_run_is(tmp_path: Path) -> None:
    run, decision, branches = await ran(tmp_path, {"verdict": moves(20)})
    assert branches == 10  # winner and control at the last look's five seeds
    assert (decision["verdict"], decision["version"]) == ("accept", 1)
    detail = decision["detail"]
    assert (
        detail["confirmation"]["why"]
        == f"the run has moved {21 * UPDATE} main steps, adaptation.max_staleness is {MOST}"
    )
    assert detail["confirmation"]["steps_main"] == (POINT + 21) * UPDATE
    assert (detail["judgements"][0]["arm"], detail["confirmation"]["judgement"]["arm"]) == (f"{KEY}-1", f"{KEY}-1")
    assert (detail["confirmation"]["judgement"]["seeds"], detail["staleness"]) == ([0, 1, 2, 3, 4], UPDATE)
    confirmed = [job for job in run.pool.jobs if job.fork != FIRST]
    assert {job.fork for job in confirmed} == {f"checkpoints/update_{POINT + 21:09d}"}
    assert {(job.horizon, job.start == job.fork) for job in confirmed} == {(60_000, True)}
    [(_, _, _, adopt)] = run.trainer.log
    assert adopt in {job.end_state for job in confirmed if job.arm != "control"}


async def test_a_verdict_of_another_stage_is_confirmed(tmp_path: Path) -> None:
    run, decision, branches = await ran(tmp_path, {"verdict": becomes("regressing")})
    assert (branches, decision["verdict"]) == (10, "accept")
    why = f"the stage has changed from plateaued to regressing in {UPDATE} main steps"
    assert decision["detail"]["confirmation"]["why"] == why
    assert len(run.trainer.log) == 1


async def test_what_is_not_confirmed_is_stale(tmp_path: Path) -> None:
    def helped_then(job: BranchJob) -> float:
        return goal_helps(job) if job.fork == FIRST else 0.0

    run, decision, branches = await ran(tmp_path, {"verdict": moves(30)}, gain=helped_then)
    assert branches == 10
    assert_stale(run, decision, "the confirmation did not accept it (p128-r0-1: gain +0.000 over 5 seeds")
    assert decision["detail"]["confirmation"]["judgement"]["verdict"] == "no_difference"
    store = await LoopStore.open(tmp_path)
    assert {entry.proposal_id: entry.verdict for entry in await tried(store)}[f"{KEY}-1"] == "stale"
    await store.close()


@pytest.mark.parametrize(
    ("happening", "words"),
    [
        (becomes("improving"), "the stage has changed from plateaued to improving"),
        (moves(20), f"the run has moved {21 * UPDATE} main steps"),
        (ends(0), FINISHED),
    ],
)
async def test_a_confirmation_that_is_left_behind_itself_is_stale(
    tmp_path: Path, happening: Happening, words: str
) -> None:
    run, decision, branches = await ran(tmp_path, {"verdict": moves(30), "confirmation": happening})
    assert branches == 10
    assert_stale(run, decision, f"; then {words}")


async def test_a_verdict_of_a_run_that_is_over_is_stale(tmp_path: Path) -> None:
    run, decision, branches = await ran(tmp_path, {"verdict": ends(0)})
    assert branches == 0
    assert_stale(run, decision, FINISHED)


async def test_a_run_that_ends_right_before_its_promotion_is_left_alone(tmp_path: Path) -> None:
    run, decision, _ = await ran(tmp_path, {"verdict": ends(1)})
    assert_stale(run, decision, "training was over before the promotion")


async def test_a_confirmation_that_the_share_does_not_pay_for_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round costs 720 000 steps, a confirmation 600 000. The trigger asks for both; here it asks for the first."""
    monkeypatch.setattr("cosignal.graphs.nodes.observe.cost_to_try", lambda *_: 720_000)
    run = session(tmp_path, Pool(tmp_path, Trainer(tmp_path), {"verdict": moves(30)}))
    await leave_branch_steps(tmp_path, run, 1_300_000)
    await run.run()
    [decision] = (await tables(tmp_path))["decisions"]
    assert_stale(run, decision, "adaptation.max_share does not pay for a confirmation")


async def test_no_round_begins_whose_confirmation_could_not_be_paid(tmp_path: Path) -> None:
    run = session(tmp_path, Pool(tmp_path, Trainer(tmp_path), {"verdict": moves(30)}))
    await leave_branch_steps(tmp_path, run, 1_319_999)
    await run.run()
    assert (await tables(tmp_path))["decisions"] == []


async def test_the_kick_alone_is_confirmed_by_the_control_alone(tmp_path: Path) -> None:
    run, decision, branches = await ran(tmp_path, {"verdict": moves(30)}, gain=lambda job: 0.0, kick_revives=True)
    assert branches == 5
    assert (decision["verdict"], decision["winner"], len(run.trainer.log)) == ("accept", "control", 1)
    assert "with the kick alone" in decision["detail"]["confirmation"]["judgement"]["explanation"]


@pytest.mark.parametrize("kill_at", [0, 4, 9])
async def test_killed_while_it_confirms_it_goes_on_from_the_same_snapshot(tmp_path: Path, kill_at: int) -> None:
    trainer = Trainer(tmp_path)
    verdict = 18  # branches
    first = Pool(tmp_path, trainer, {"verdict": moves(30)}, kill_at=verdict + kill_at)
    with pytest.raises(Killed):
        await session(tmp_path, first).run()
    trainer.point += 3  # it goes on training
    second = Pool(tmp_path, trainer, {})
    await session(tmp_path, second).run()
    jobs = first.jobs[verdict:] + second.jobs
    assert len({job.key for job in jobs}) == len(jobs) == 10
    assert {job.fork for job in jobs} == {f"checkpoints/update_{POINT + 31:09d}"}
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["verdict"], decision["version"], len(trainer.log)) == ("accept", 1, 1)


async def test_a_promotion_whose_answer_was_lost_is_not_stale_though_the_run_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tmp_path)
    handle = trainer.handle

    def killed_after_promotion(request: m.Request) -> m.Reply:
        reply = handle(request)
        if isinstance(request, m.Promote):
            raise Killed("right after")
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "handle", killed_after_promotion)
        with pytest.raises(Killed):
            await session(tmp_path, Pool(tmp_path, trainer, {})).run()
    trainer.leaves = 0
    again = session(tmp_path, Pool(tmp_path, trainer, {}))
    await again.run()
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["verdict"], decision["version"], len(trainer.log)) == ("accept", 1, 1)
    assert [event.repeated for event in again.events if isinstance(event, Promoted)] == [True]


# ---------------------------------------------------------------- the rule


def status(run_dir: Path, **changes: Any) -> TrainerStatus:
    found = FakeTrainer(run_dir, steps_budget=0, clock="overlap").status()
    return found.model_copy(update={"state": "training", **changes})


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_moved_is_stale_beyond_the_limit_and_not_at_it(moved: int, most: int) -> None:
    then, now = status(Path(), steps_main=5), status(Path(), steps_main=5 + moved)
    assert (staleness(then, now, most) is None) == (moved <= most)
    assert staleness(then, now.model_copy(update={"stage": "emerging"}), 10**6) is not None
    assert staleness(then, now.model_copy(update={"state": "finished"}), 10**6) == FINISHED
