"""What executors of branch jobs have in common: keys, replies, and the end of a batch at its first error."""

from __future__ import annotations

import asyncio

import pytest
from cosignal.errors import BranchError, ProtocolError
from cosignal.rl.branches.jobs import JOB as PARSED
from cosignal.rl.branches.jobs import Failures, branch_key, evaluation_key, parse_reply, reply_to, task_group
from cosignal.rl.ipc.messages import (
    BranchFailure,
    BranchJob,
    BranchResult,
    EpisodeStats,
    ErrorReply,
    EvaluationJob,
    EvaluationResult,
    WorkerReady,
)
from cosignal.rl.signals.signal import Exploration, Signal
from hypothesis import given
from hypothesis import strategies as st

JOB = BranchJob(
    key="k", fork="f", start="f", arm="p1", signal=Signal(), exploration=Exploration(), seed=4, horizon=100,
    evaluation_seed=1, evaluation_episodes=2, end_state="branches/k",
)  # fmt: skip
RESULT = BranchResult(
    key="k", arm="p1", seed=4, horizon=100, signal=Signal(), final_return=1.5, success_rate=None, fork_return=1.0,
    curve=[], steps=100, steps_evaluation=2, end_state="branches/k", end_update=3, cpu_s=0.1,
)  # fmt: skip

FAILURE = BranchFailure(key="k", arm="p1", seed=4, reason="the signal is not finite", cause="error", steps=70)

EVALUATION = EvaluationJob(key="e", arm="p1", state="branches/k", seed=9, episodes=2)
PLAYED = EvaluationResult(
    key="e", arm="p1", steps_main=300, cpu_s=0.1,
    episodes=EpisodeStats(returns=[1, 2], successes=None, lengths=[3, 4], reached={"at goal": [0, 1]}, steps=8),
)  # fmt: skip

# ---------------------------------------------------------------- replies


def test_a_reply_is_a_result_or_a_failure_and_an_error_is_raised() -> None:
    assert reply_to(JOB, parse_reply(RESULT.model_dump_json().encode())) == RESULT
    assert reply_to(JOB, parse_reply(FAILURE.model_dump_json().encode())) == FAILURE
    with pytest.raises(BranchError, match="branch 'p1', seed 4: the disk must have room"):
        reply_to(JOB, ErrorReply(error="branch", message="the disk must have room"))
    with pytest.raises(ProtocolError, match="'k' was answered with"):
        reply_to(JOB, RESULT.model_copy(update={"key": "another"}))
    with pytest.raises(ProtocolError, match="'k' was answered with"):
        reply_to(JOB, WorkerReady(pid=1))
    with pytest.raises(ProtocolError, match="weather"):
        reply_to(JOB, parse_reply(b'{"kind": "weather"}'))


def test_an_evaluation_is_answered_with_its_own_result_or_a_failure() -> None:
    failure = FAILURE.model_copy(update={"key": "e", "seed": 9})
    assert reply_to(EVALUATION, parse_reply(PLAYED.model_dump_json().encode())) == PLAYED
    assert reply_to(EVALUATION, failure) == failure
    with pytest.raises(BranchError, match="evaluation 'p1', seed 9: the disk must have room"):
        reply_to(EVALUATION, ErrorReply(error="branch", message="the disk must have room"))
    for job, reply in (
        (JOB, PLAYED.model_copy(update={"key": "k"})),
        (EVALUATION, RESULT.model_copy(update={"key": "e"})),
    ):
        with pytest.raises(ProtocolError, match=f"'{job.key}' was answered with"):
            reply_to(job, reply)


def test_jobs_of_both_kinds_are_told_apart_as_they_come() -> None:
    assert [PARSED.validate_json(job.model_dump_json()) for job in (JOB, EVALUATION)] == [JOB, EVALUATION]


# ---------------------------------------------------------------- what a failure makes needless


def test_an_evaluation_that_fails_ends_its_arm_and_is_ended_with_it() -> None:
    other = EVALUATION.model_copy(update={"arm": "p2"})
    failures = Failures([PLAYED, FAILURE.model_copy(update={"key": "e", "seed": 9})])
    skipped = failures.skipped(JOB)
    assert skipped is not None and "seed 9 of p1" in skipped.reason
    assert (ended := failures.skipped(EVALUATION)) is not None and (ended.key, ended.seed) == ("e", 9)
    assert failures.skipped(other) is None
    assert Failures([FAILURE.model_copy(update={"arm": "control"})]).skipped(other) is not None


@pytest.mark.parametrize(
    ("arm", "cause", "skipped"),
    [
        ("p1", "error", ["p1"]),
        ("p1", "lost", ["p1"]),
        ("control", "error", ["control", "p1", "p2"]),
        ("p1", "replay", ["control", "p1", "p2"]),  # all arms must begin alike
    ],
)
def test_with_a_branch_its_arm_is_over_and_with_the_control_every_arm(arm: str, cause: str, skipped: list[str]) -> None:
    failures = Failures([RESULT])
    arms = ["control", "p1", "p2"]
    others = [JOB.model_copy(update={"arm": other, "seed": 5, "key": f"{other}-5"}) for other in arms]
    assert not any(map(failures.skipped, others))
    failures.add(FAILURE.model_copy(update={"arm": arm, "cause": cause}))
    replies = [reply for job in others if (reply := failures.skipped(job)) is not None]
    assert [reply.arm for reply in replies] == skipped
    assert all((reply.key, reply.cause, reply.steps) == (f"{reply.arm}-5", "skipped", 0) for reply in replies)
    assert f"seed 4 of {arm} has failed: the signal is not finite" in replies[0].reason


def test_jobs_that_ask_for_nothing_new_are_what_they_were() -> None:
    assert not {"fresh", "new_line"} & JOB.model_dump(mode="json").keys()
    fresh = JOB.model_copy(update={"fresh": True})
    assert BranchJob.model_validate_json(fresh.model_dump_json()).fresh


# ---------------------------------------------------------------- the end of a batch


async def test_the_first_error_is_raised_itself_and_the_others_are_ended_first() -> None:
    ended: list[str] = []
    reason = OSError("a worker is gone")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise BranchError("the first") from reason

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append("work")
            raise BranchError("in the course of ending")

    async def batch() -> None:
        async with task_group() as group:
            await asyncio.wait([group.create_task(work()), group.create_task(fail())])

    with pytest.raises(BranchError, match="the first") as caught:
        await batch()
    assert ended == ["work"]
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (reason, True)
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_a_cancellation_comes_before_an_error() -> None:
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            raise BranchError("in the course of ending")

    async def batch() -> None:
        async with task_group() as group:
            await asyncio.wait([group.create_task(work())])

    running = asyncio.create_task(batch())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(batch(), 0.01)


async def test_tasks_that_are_cancelled_in_the_block_are_no_error() -> None:
    async with task_group() as group:
        group.create_task(asyncio.sleep(60)).cancel()


# ---------------------------------------------------------------- keys

KEY = {
    "fork": "checkpoints/update_000000080",
    "signal": Signal(),
    "exploration": Exploration(),
    "seed": 0,
    "horizon": 100,
    "evaluation_seed": 1,
    "episodes": 8,
}


def test_a_key_is_made_of_content() -> None:
    changes = [
        {"fork": "checkpoints/update_000000096"},
        {"signal": Signal(beta=0.7)},
        {"exploration": Exploration(kick=0.05)},
        {"seed": 1},
        {"horizon": 200},
        {"evaluation_seed": 2},
        {"episodes": 9},
        {"fresh": True},
        {"new_line": True},
    ]
    keys = {branch_key(**{**KEY, **change}) for change in [{}, *changes]}  # type: ignore[arg-type]
    assert len(keys) == 1 + len(changes)
    moved = branch_key(**{**KEY, "fork": "/elsewhere/checkpoints/update_000000080"})  # type: ignore[arg-type]
    relabelled = branch_key(**{**KEY, "signal": Signal(version=4, parent=3, stage="improving")})  # type: ignore[arg-type]
    assert branch_key(**KEY) == moved == relabelled  # type: ignore[arg-type]


def test_keys_are_what_they_were() -> None:
    """Branches that earlier versions have run are found again."""
    assert branch_key(**KEY) == "b58fcaf319befb102138"  # type: ignore[arg-type]
    assert branch_key(**KEY, fresh=True) == "347f3dbd8448ff4eaaea"  # type: ignore[arg-type]


def test_the_key_of_an_evaluation_is_made_of_its_content() -> None:
    keys = {
        evaluation_key("checkpoints/update_000000080", 1, 8),
        evaluation_key("branches/update_000000080", 1, 8),
        evaluation_key("checkpoints/update_000000096", 1, 8),
        evaluation_key("checkpoints/update_000000080", 2, 8),
        evaluation_key("checkpoints/update_000000080", 1, 9),
    }
    assert len(keys) == 5 and all(len(key) == 20 for key in keys)
    assert evaluation_key("/elsewhere/checkpoints/update_000000080", 1, 8) in keys


@given(st.integers(0, 2**31), st.integers(1, 10**7))
def test_a_key_is_a_short_file_name(seed: int, horizon: int) -> None:
    key = branch_key(**{**KEY, "seed": seed, "horizon": horizon})  # type: ignore[arg-type]
    assert len(key) == 20
    assert set(key) <= set("0123456789abcdef")
