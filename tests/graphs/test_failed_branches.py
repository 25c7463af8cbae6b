"""Branches that cannot be run: an arm is out, or the intervention has no verdict, and training goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cosignal.errors import PreferenceError
from cosignal.graphs.history import tried
from cosignal.graphs.nodes.critic_tools import ProbeRefusedError, launch_branches
from cosignal.graphs.nodes.rank_transitions import rehearse
from cosignal.rl.ipc.messages import BranchFailure, BranchJob, BranchReply, ErrorReply, Promote, Reply, Request
from cosignal.runs.events import BranchFailed, Decided, Promoted, Warned
from cosignal.runs.records import DecisionRecord, FailedBranchRecord
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, Killed, LoopSession, fake_run_config
from cosignal.testing.fake_run import FULL, Fails
from loop_runs import POINT, first_helps, goal_helps, nodes, nothing_helps, scripts

DOOR, GOAL, MATE = (f"p{POINT}-r0-{number}" for number in range(3))
WHY = "rewards must be finite numbers"


def arm_fails(*arms: str, phase: str = "screen", seed: int = 0) -> Fails:
    """A job of these arms cannot be run, from one seed on; in the phase `full` only after screening."""
    horizon = FULL if phase == "full" else FULL // 2
    return lambda job: WHY if job.arm in arms and job.horizon == horizon and job.seed >= seed else None


async def run(
    run_dir: Path, fails: Fails, gain: Callable[[BranchJob], float] = goal_helps, rounds: int = 1
) -> tuple[LoopSession, list[DecisionRecord], list[FailedBranchRecord]]:
    """A run to its end, its decisions, and its branches that failed."""
    session = LoopSession(
        run_dir, FakeTrainer(run_dir), FakeBranchPool(run_dir, gain, fails=fails), scripts(rounds=rounds)
    )
    session.config = fake_run_config(rounds=rounds)
    await session.run()
    assert session.trainer.finished
    store = await LoopStore.open(run_dir)
    decisions, failed = await store.read(DecisionRecord), await store.read(FailedBranchRecord)
    await store.close()
    assert [event.arm for event in session.events if isinstance(event, BranchFailed)] == [row.arm for row in failed]
    return session, decisions, failed


# ---------------------------------------------------------------- candidates and control


async def test_a_candidate_that_fails_is_out_and_the_others_are_judged(tmp_path: Path) -> None:
    session, [decision], [row] = await run(tmp_path, arm_fails(MATE))
    assert (decision.verdict, decision.winner) == ("accept", GOAL)
    assert decision.detail.failed == {MATE: f"seed 0: {WHY}"}
    assert decision.detail.arm(MATE) is None and MATE not in decision.detail.reason
    assert (row.arm, row.phase, row.seed, row.reason, row.steps) == (MATE, "screen", 0, WHY, 700)
    assert [job.seed for job in session.pool.jobs if job.arm == MATE] == [0], "its other seed is not begun"
    assert any(isinstance(event, Promoted) for event in session.events)


@pytest.mark.parametrize("seed", [0, 2])
async def test_a_finalist_that_fails_leaves_the_place_to_the_next(tmp_path: Path, seed: int) -> None:
    _, [decision], _ = await run(
        tmp_path, arm_fails(GOAL, phase="full", seed=seed), gain=lambda job: goal_helps(job) or 1.5
    )
    assert decision.detail.failed == {GOAL: f"seed {seed}: {WHY}"}
    assert decision.winner in (DOOR, MATE)
    assert {arm.arm for arm in decision.detail.arms} == {DOOR, MATE}


@pytest.mark.parametrize(("phase", "seed"), [("screen", 0), ("screen", 1), ("full", 2)])
async def test_without_a_control_there_is_no_verdict_and_no_other_round(tmp_path: Path, phase: str, seed: int) -> None:
    session, [decision], [row] = await run(tmp_path, arm_fails("control", phase=phase, seed=seed), rounds=2)
    assert (decision.verdict, decision.winner) == ("branch_failed", None)
    assert decision.detail.reason == f"a branch of control could not be run, seed {seed}: {WHY}"
    assert (row.arm, row.seed) == ("control", seed)
    assert session.trainer.log == []
    assert "generator" not in nodes(session)[nodes(session).index("decide") :]
    # Whose turn never came is told so.
    assert all("not tried further" in arm.explanation for arm in decision.detail.arms if arm.verdict == "not_tried")


async def test_where_all_candidates_fail_another_round_tries_others(tmp_path: Path) -> None:
    _, (first, second), failed = await run(tmp_path, arm_fails(DOOR, GOAL, MATE), rounds=2)
    assert (first.verdict, second.verdict) == ("branch_failed", "accept")
    assert first.detail.failed.keys() == {DOOR, GOAL, MATE}
    assert len(failed) == 3


async def test_the_history_says_what_failed_and_why(tmp_path: Path) -> None:
    await run(tmp_path, arm_fails(MATE), nothing_helps)
    store = await LoopStore.open(tmp_path)
    [entry] = [entry for entry in await tried(store) if entry.proposal_id == MATE]
    assert (entry.verdict, entry.problems, entry.gain) == ("branch_failed", [f"seed 0: {WHY}"], None)
    # What was spent counts for the budget: in all, and before a later point.
    spent = await store.extra_steps()
    assert spent == await store.extra_steps(before=(POINT + 1, 0))
    assert await store.extra_steps(before=(POINT, 0)) == (0, 0)
    [row] = await store.read(FailedBranchRecord)
    await store.write(row.model_copy(update={"steps": row.steps + 1}))
    assert (await store.extra_steps()).branches == spent.branches + 1
    await store.close()


async def test_a_killed_loop_reuses_the_failure(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)

    def session(kill_at: int | None) -> LoopSession:
        pool = FakeBranchPool(tmp_path, goal_helps, kill_at, fails=arm_fails(MATE))
        return LoopSession(tmp_path, trainer, pool, scripts() if kill_at else {})

    first, second = session(6), session(None)
    with pytest.raises(Killed):
        await first.run()
    assert [job.arm for job in first.pool.jobs].count(MATE) == 1
    await second.run()
    assert MATE not in [job.arm for job in second.pool.jobs]
    [decided] = [event for event in second.events if isinstance(event, Decided)]
    assert (decided.verdict, decided.winner) == ("accept", GOAL)


# ---------------------------------------------------------------- probes, rehearsals, confirmations


async def test_a_probe_or_a_rehearsal_that_fails_costs_only_itself(tmp_path: Path) -> None:
    trainer, pool = FakeTrainer(tmp_path), FakeBranchPool(tmp_path, nothing_helps, fails=lambda _: WHY)
    session = LoopSession(tmp_path, trainer, pool)
    store = await LoopStore.open(tmp_path)
    ctx = await session.context(store, [])
    status = await ctx.client.status()
    state = {"status": status.model_dump(mode="json"), "point": POINT, "round": 0}
    runtime = SimpleNamespace(state=state, context=ctx)
    with pytest.raises(ProbeRefusedError, match=f"a branch of control could not be run, seed 1: {WHY}"):
        await launch_branches.coroutine(steps=1000, runtime=runtime)  # type: ignore[attr-defined]
    with pytest.raises(PreferenceError, match=f"the rehearsal could not be run, seed 1: {WHY}"):
        await rehearse(ctx, 0, 1, status, "checkpoints/f", status.signal)
    assert [row.phase for row in await store.read(FailedBranchRecord)] == ["rehearsal", "probe"]
    await store.close()


# ---------------------------------------------------------------- forks that cannot be played again


class Unreplayable(FakeBranchPool):
    """Episodes cannot be played again: only jobs that ask for fresh ones can be run, but for the first few."""

    lucky = 3

    def reply(self, job: BranchJob) -> BranchReply:
        if job.fresh or len(self.jobs) <= self.lucky:
            return super().reply(job)
        why = "'relay' came out different"
        return BranchFailure(key=job.key, arm=job.arm, seed=job.seed, reason=why, cause="replay")


async def test_forks_that_cannot_be_replayed_begin_fresh_episodes_in_all_arms(tmp_path: Path) -> None:
    pool = Unreplayable(tmp_path, first_helps)
    session = LoopSession(tmp_path, FakeTrainer(tmp_path), pool)
    await session.run()
    first = next(number for number, job in enumerate(pool.jobs) if job.fresh)
    assert first == pool.lucky + 1, "nothing else is begun once it is known"
    again = pool.jobs[first:]
    assert all(job.fresh for job in again)
    # What had run well is run again like the others, so that all arms begin alike.
    assert {(job.arm, job.seed) for job in pool.jobs[:first]} <= {(job.arm, job.seed) for job in again}
    assert [event.message for event in session.events if isinstance(event, Warned)] == ["'relay' came out different"]
    assert any(isinstance(event, Promoted) for event in session.events)
    assert not any(isinstance(event, BranchFailed) for event in session.events)
    store = await LoopStore.open(tmp_path)
    assert await store.get("warnings") == {"replay": "'relay' came out different"}
    await store.close()


# ---------------------------------------------------------------- what is taken over


class Spoilt(FakeTrainer):
    """Cannot read the end state of any branch."""

    def handle(self, request: Request) -> Reply:
        if isinstance(request, Promote) and request.adopt is not None:
            return ErrorReply(error="snapshot", message="no usable snapshot")
        return super().handle(request)


@pytest.mark.parametrize(("gain", "verdict"), [(goal_helps, "conflict"), (nothing_helps, "no_difference")])
async def test_an_end_state_that_cannot_be_read_is_not_taken_over(tmp_path: Path, gain: Any, verdict: str) -> None:
    session = LoopSession(tmp_path, Spoilt(tmp_path), FakeBranchPool(tmp_path, gain), scripts())
    session.config = fake_run_config(rounds=1)
    await session.run()
    assert session.trainer.finished and session.trainer.changes == []
    store = await LoopStore.open(tmp_path)
    [decision] = await store.read(DecisionRecord)
    await store.close()
    assert decision.verdict == verdict
