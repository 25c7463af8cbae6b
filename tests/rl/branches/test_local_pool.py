"""The worker pool with real processes that do no training, some of which die."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fake_worker
import psutil
import pytest
from cosignal.errors import BranchError, ProtocolError
from cosignal.rl.branches.jobs import MAX_RESTARTS
from cosignal.rl.branches.local_pool import WorkerPool
from cosignal.rl.branches.run_evaluation import episode_stats
from cosignal.rl.ipc.messages import (
    BranchFailure,
    BranchJob,
    BranchReply,
    BranchResult,
    EvaluationJob,
    EvaluationResult,
)
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.training.checkpoint import save_snapshot
from cosignal.rl.training.evaluate import Evaluator
from training_lines import UPDATE, small_config, trained


def job(seed: int, arm: str = "control") -> BranchJob:
    return BranchJob(
        key=f"{arm}-{seed}", fork="f", start="f", arm=arm, signal=Signal(), exploration=Exploration(), seed=seed,
        horizon=100, evaluation_seed=1, evaluation_episodes=2, end_state=f"branches/{seed}",
    )  # fmt: skip


def pool_of(run_dir: Path, workers: int = 1) -> WorkerPool:
    def command(index: int, address: str) -> list[str]:
        return [sys.executable, str(fake_worker.__file__), str(run_dir), address, str(index)]

    return WorkerPool(run_dir, workers, command=command)


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[WorkerPool]:
    async with pool_of(tmp_path) as started:
        yield started


def failed(reply: BranchReply) -> BranchFailure:
    assert isinstance(reply, BranchFailure)
    return reply


def pids(pool: WorkerPool) -> list[int]:
    return [worker.process.pid for worker in pool._workers if worker.process is not None]


async def test_results_come_in_job_order_and_are_told_as_they_come(tmp_path: Path) -> None:
    told: list[str] = []

    async def tell(job: BranchJob, result: BranchResult) -> None:
        assert job.key == result.key
        told.append(result.key)

    async with pool_of(tmp_path, workers=2) as pool:
        results = await pool.run([job(seed) for seed in range(7)], tell)
    assert [result.final_return for result in results] == [1.5 * seed for seed in range(7)]
    assert sorted(told) == sorted(result.key for result in results)


def evaluation(seed: int, arm: str = "control") -> EvaluationJob:
    return EvaluationJob(key=f"play-{arm}-{seed}", arm=arm, state="f", seed=seed, episodes=2)


async def test_a_batch_may_have_evaluations_among_its_branches(tmp_path: Path) -> None:
    told: list[str] = []

    async def tell(asked: BranchJob | EvaluationJob, reply: Any) -> None:
        assert asked.key == reply.key
        told.append(asked.key)

    batch = [evaluation(3), job(0), evaluation(4, "fail"), evaluation(5, "fail"), job(6, "fail"), evaluation(7, "die")]
    async with pool_of(tmp_path) as pool:
        replies = await pool.run(batch, tell)
    assert [reply.key for reply in replies] == [asked.key for asked in batch]
    played, branch, failure, *skipped, again = replies
    assert isinstance(played, EvaluationResult) and played.episodes.returns == [4.5, 4.5]
    assert isinstance(branch, BranchResult) and isinstance(again, EvaluationResult)
    assert isinstance(failure, BranchFailure) and (failure.seed, failure.cause) == (4, "error")
    assert [reply.cause for reply in skipped if isinstance(reply, BranchFailure)] == ["skipped", "skipped"]
    assert told == ["play-control-3", "control-0", "play-fail-4", "play-die-7"]


async def test_an_evaluation_that_always_kills_its_worker_is_given_up(pool: WorkerPool) -> None:
    [failure] = await pool.run([evaluation(0, "die always")])
    assert isinstance(failure, BranchFailure)
    assert (failure.cause, failure.seed, failure.steps) == ("lost", 0, 0)


async def test_real_workers_run_branches_and_evaluations_as_this_process_does(tmp_path: Path) -> None:
    config = small_config()
    line = trained(config, 2)
    save_snapshot(line, tmp_path / "checkpoints" / "update_000000002")
    (tmp_path / "training.json").write_text(config.model_dump_json())
    fork = "checkpoints/update_000000002"
    fresh = BranchJob(
        key="new", fork=fork, start=fork, arm="fresh_start", signal=Signal(), exploration=Exploration(), seed=3,
        horizon=UPDATE, evaluation_seed=7, evaluation_episodes=4, end_state="branches/new", new_line=True,
    )  # fmt: skip
    play = EvaluationJob(key="play", arm="control", state=fork, seed=7, episodes=4)
    async with WorkerPool(tmp_path, 1) as pool:
        played, branch = await pool.run([play, fresh])
        [again] = await pool.run([play.model_copy(update={"state": "branches/new"})])
    assert isinstance(played, EvaluationResult) and isinstance(branch, BranchResult)
    assert isinstance(again, EvaluationResult)
    evaluator = Evaluator(config.task, 4, 7)
    assert played.episodes == episode_stats(evaluator.evaluate(line.learner))
    run = trained(small_config(seed=3), 1)
    assert branch.episodes == again.episodes == episode_stats(evaluator.evaluate(run.learner))
    assert (played.steps_main, again.steps_main) == (2 * UPDATE, UPDATE)


async def test_no_jobs_no_results(pool: WorkerPool) -> None:
    assert await pool.run([]) == []


async def test_a_job_whose_worker_died_is_sent_again(pool: WorkerPool) -> None:
    results = await pool.run([job(0), job(1, "die"), job(2)])
    assert [result.seed for result in results] == [0, 1, 2]


async def test_a_job_that_always_kills_its_worker_is_given_up_with_its_last_words(
    pool: WorkerPool, tmp_path: Path
) -> None:
    replies = await pool.run([job(0, "die always"), job(1)])
    failure = failed(replies[0])
    assert failure.cause == "lost"
    assert re.search(rf"(?s)ended \(exit status 9\) {MAX_RESTARTS + 1} times; .*out of memory", failure.reason)
    assert failure.steps == (MAX_RESTARTS + 1) * job(0).horizon, "nobody knows how far they had come"
    assert isinstance(replies[1], BranchResult)  # the others go on
    assert (tmp_path / "worker-0.out").read_text().count("out of memory") == MAX_RESTARTS + 1


async def test_a_failure_is_a_reply_and_its_arm_is_not_begun_again(pool: WorkerPool, tmp_path: Path) -> None:
    told: list[str] = []

    async def tell(asked: BranchJob, reply: BranchReply) -> None:
        told.append(asked.key)

    await pool.run([job(0)])
    [pid] = pids(pool)
    replies = await pool.run([job(3, "fail"), job(4), job(5, "fail")], tell)
    assert failed(replies[0]).reason == "the signal is not finite" and failed(replies[0]).steps == 70
    assert isinstance(replies[1], BranchResult)
    assert failed(replies[2]).cause == "skipped"
    assert told == ["fail-3", "control-4"]
    assert pids(pool) != [pid], "nothing of a broken branch is left"


async def test_an_environment_that_hangs_is_not_tried_again(pool: WorkerPool) -> None:
    replies = await pool.run([job(3, "stopped"), job(4)])
    assert "task.step_timeout_s" in failed(replies[0]).reason and failed(replies[0]).steps == job(3).horizon
    assert isinstance(replies[1], BranchResult)


async def test_the_first_error_ends_the_others_and_is_raised_itself(tmp_path: Path) -> None:
    async with pool_of(tmp_path, workers=2) as pool:
        with pytest.raises(BranchError, match="branch 'full', seed 3: the disk is full"):
            await pool.run([job(0, "hang"), job(3, "full")])
        assert [result.seed for result in await pool.run([job(4), job(5)])] == [4, 5]


async def test_an_error_of_the_listener_is_raised_itself(pool: WorkerPool) -> None:
    async def hear(asked: BranchJob, result: BranchResult) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        await pool.run([job(0), job(1)], hear)
    assert (await pool.run([job(2)]))[0].seed == 2


async def test_a_worker_that_is_never_ready_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(_: int, __: str) -> list[str]:
        return [sys.executable, "-c", "import time; time.sleep(600)"]

    monkeypatch.setattr("cosignal.rl.branches.local_pool.READY_TIMEOUT_S", 0.2)
    async with WorkerPool(tmp_path, 1, command=command) as pool:
        [reply] = await pool.run([job(0)])
        assert "was not ready within 0.2 s" in failed(reply).reason and failed(reply).steps == 0
        assert pids(pool) and not any(psutil.pid_exists(pid) for pid in pids(pool))


async def test_workers_that_end_before_they_are_ready_cost_no_steps(tmp_path: Path) -> None:
    def command(_: int, __: str) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no licence left')"]

    async with WorkerPool(tmp_path, 1, command=command) as pool:
        [reply] = await pool.run([job(0)])
    assert re.search(r"(?s)before it was ready \(exit status 1\) 3 times.*no licence left", failed(reply).reason)
    assert failed(reply).steps == 0


async def test_nonsense_is_a_protocol_error(pool: WorkerPool) -> None:
    with pytest.raises(ProtocolError, match="weather"):
        await pool.run([job(0, "nonsense")])


async def test_after_a_cancelled_run_no_late_answer_meets_another_job(pool: WorkerPool, tmp_path: Path) -> None:
    running = asyncio.create_task(pool.run([job(0, "hang")]))
    while not (tmp_path / "hanging").exists():
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await pool.run([job(5)]))[0].key == "control-5"


async def test_a_worker_killed_between_two_jobs_is_replaced(pool: WorkerPool) -> None:
    await pool.run([job(0)])
    [pid] = pids(pool)
    os.kill(pid, 9)
    assert (await pool.run([job(1)]))[0].seed == 1
    assert pids(pool) != [pid]


async def test_two_runs_at_once_wait_for_each_other(pool: WorkerPool) -> None:
    first, second = await asyncio.gather(pool.run([job(0), job(1)]), pool.run([job(2)]))
    assert [result.seed for result in first + second] == [0, 1, 2]


async def test_close_ends_busy_workers_and_removes_the_private_directory(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, workers=2)
    await pool.start()
    runtime = pool._runtime_dir
    assert runtime is not None
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    running = asyncio.create_task(pool.run([job(0, "hang")]))
    while not (tmp_path / "hanging").exists():
        await asyncio.sleep(0.01)
    processes = [psutil.Process(pid) for pid in pids(pool)]
    running.cancel()
    await pool.close()
    await pool.close()
    assert not any(process.is_running() for process in processes)
    assert not runtime.exists()


async def test_workers_see_no_keys_and_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    monkeypatch.setenv("SOME_API_KEY", "secret")

    def command(_: int, __: str) -> list[str]:
        return [sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))"]

    async with WorkerPool(tmp_path, 1, secrets=["MY_KEY"], command=command):
        while not (tmp_path / "worker-0.out").read_text().endswith("\n"):
            await asyncio.sleep(0.01)
    printed = (tmp_path / "worker-0.out").read_text()
    assert "secret" not in printed
    assert '"OMP_NUM_THREADS": "1"' in printed
