"""How the Ray executor shares out jobs, on a stand-in for Ray: lost actors, errors, cancellation."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_ray
import pytest
from cosignal.errors import BranchError, ConfigError, ProtocolError
from cosignal.rl.branches.jobs import MAX_RESTARTS
from cosignal.rl.ipc.messages import BranchJob, BranchReply, BranchResult, EvaluationJob, EvaluationResult
from cosignal.rl.signals.signal import Exploration, Signal


def job(seed: int, arm: str = "control", fork: str = "f", start: str | None = None) -> BranchJob:
    return BranchJob(
        key=f"{arm}-{seed}", fork=fork, start=start or fork, arm=arm, signal=Signal(), exploration=Exploration(),
        seed=seed, horizon=100, evaluation_seed=1, evaluation_episodes=2, end_state=f"branches/{seed}",
    )  # fmt: skip


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> fake_ray.FakeRay:
    return fake_ray.install(monkeypatch)


@pytest.fixture
def start(ray: fake_ray.FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    ray_pool: Any = importlib.import_module("cosignal.rl.branches.ray_pool")
    unpacked: list[Any] = []
    ray.version = ray_pool.own_version()
    monkeypatch.setattr(ray_pool, "pack_snapshot", lambda run_dir, snapshot: snapshot)
    monkeypatch.setattr(
        ray_pool, "unpack_snapshot", lambda files, run_dir, end_state: unpacked.append((files["of"], end_state))
    )
    (tmp_path / "training.json").write_text("{}")

    def make(workers: int = 1) -> Any:
        executor = ray_pool.RayExecutor(tmp_path, workers, address="127.0.0.1:1")
        executor.unpacked = unpacked  # type: ignore[attr-defined]
        return executor

    return make


async def test_results_come_in_job_order_after_their_end_states(start: Any, ray: fake_ray.FakeRay) -> None:
    heard: list[str] = []

    async def hear(asked: BranchJob, result: BranchResult) -> None:
        assert (result.key, result.end_state) in executor.unpacked
        heard.append(asked.key)

    async with start(workers=3) as executor:
        assert ray.up
        results = await executor.run([job(seed) for seed in range(7)], hear)
        assert await executor.run([]) == []
    assert [result.final_return for result in results] == [1.5 * seed for seed in range(7)]
    assert sorted(heard) == [f"control-{seed}" for seed in range(7)]
    assert not ray.up
    assert ray.killed == ray.started


def evaluation(seed: int, arm: str = "control", state: str = "f") -> EvaluationJob:
    return EvaluationJob(key=f"play-{arm}-{seed}", arm=arm, state=state, seed=seed, episodes=2)


async def test_a_batch_may_have_evaluations_among_its_branches(start: Any, ray: fake_ray.FakeRay) -> None:
    batch = [evaluation(3), job(0), evaluation(4, "fail"), evaluation(5, "fail"), job(6, "fail"), evaluation(7, "die")]
    async with start() as executor:
        replies = await executor.run(batch)
    assert [reply.key for reply in replies] == [asked.key for asked in batch]
    assert [type(reply) for reply in replies[:2]] == [EvaluationResult, BranchResult]
    assert replies[0].episodes.returns == [4.5, 4.5]
    assert [(reply.cause, reply.seed) for reply in replies[2:5]] == [("error", 4), ("skipped", 5), ("skipped", 6)]
    assert isinstance(replies[5], EvaluationResult)
    assert [end_state for _, end_state in executor.unpacked] == ["branches/0"], "an evaluation has none"


async def test_the_snapshot_of_an_evaluation_is_put_into_the_store_as_a_start_is(
    start: Any, ray: fake_ray.FakeRay
) -> None:
    async with start() as executor:
        await executor.run([evaluation(0, state="branches/0"), job(1), evaluation(2)])
        await executor.run([evaluation(3, state="branches/0")])
        assert ray.stored == {"f": 1, "branches/0": 1}


async def test_only_a_job_whose_actor_was_lost_is_run_again(start: Any, ray: fake_ray.FakeRay) -> None:
    async with start(workers=2) as executor:
        results = await executor.run([job(0), job(1, "die"), job(2)])
    assert [result.seed for result in results] == [0, 1, 2]
    assert sorted(ray.sent) == ["control-0", "control-2", "die-1", "die-1"]
    assert len(ray.started) == 3


async def test_a_job_that_loses_every_actor_is_given_up(start: Any, ray: fake_ray.FakeRay) -> None:
    async with start() as executor:
        lost, done = await executor.run([job(0, "die always"), job(1)])
        assert lost.cause == "lost" and lost.steps == (MAX_RESTARTS + 1) * job(0).horizon
        assert re.search(rf"{MAX_RESTARTS + 1} workers died on it; .*out of memory", lost.reason)
        assert done.seed == 1
    assert ray.sent.count("die always-0") == MAX_RESTARTS + 1


@pytest.mark.parametrize(
    ("arm", "kind", "words"),
    [("full", BranchError, "branch 'full', seed 3: the disk is full"), ("nonsense", ProtocolError, "weather")],
)
async def test_an_error_ends_the_batch_and_the_executor_lives_on(
    start: Any, ray: fake_ray.FakeRay, arm: str, kind: type[Exception], words: str
) -> None:
    async with start(workers=2) as executor:
        with pytest.raises(kind, match=words):
            await executor.run([job(0, "hang"), job(3, arm)])
        assert len(ray.killed) == 1, "the actor whose job was given up, and no other"
        assert (await executor.run([job(4)]))[0].seed == 4


async def test_a_failure_is_a_reply_and_its_arm_is_not_begun_again(start: Any, ray: fake_ray.FakeRay) -> None:
    heard: list[str] = []

    async def hear(asked: BranchJob, reply: BranchReply) -> None:
        heard.append(asked.key)

    async with start() as executor:
        failed, done, skipped = await executor.run([job(3, "fail"), job(4), job(5, "fail")], hear)
    assert (failed.reason, failed.steps) == ("the signal is not finite", 70)
    assert done.seed == 4
    assert skipped.cause == "skipped"
    assert heard == ["fail-3", "control-4"]
    assert len(ray.started) == 2, "nothing of a broken branch is left"


async def test_an_error_of_the_listener_is_raised_itself(start: Any) -> None:
    async def hear(asked: BranchJob, result: BranchResult) -> None:
        raise OSError("the disk is full")

    async with start() as executor:
        with pytest.raises(OSError, match="the disk is full"):
            await executor.run([job(0), job(1)], hear)


async def test_after_a_cancelled_run_its_actor_is_killed_and_another_takes_over(
    start: Any, ray: fake_ray.FakeRay
) -> None:
    async with start() as executor:
        running = asyncio.create_task(executor.run([job(0, "hang")]))
        while not ray.sent:
            await asyncio.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert ray.killed == ray.started
        assert (await executor.run([job(5)]))[0].seed == 5


async def test_actors_that_die_at_their_start_are_started_again_but_not_for_ever(
    start: Any, ray: fake_ray.FakeRay
) -> None:
    ray.dead_starts = MAX_RESTARTS
    async with start() as executor:
        assert (await executor.run([job(0)]))[0].seed == 0
    ray.dead_starts = 100
    async with start(workers=2) as executor:
        lost, skipped = await executor.run([job(0), job(1)])
    assert re.search(f"a worker died {MAX_RESTARTS + 1} times at its start; .*no start", lost.reason)
    assert (lost.steps, skipped.cause) == (0, "skipped")


async def test_actors_without_room_are_told(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosignal.rl.branches.ray_pool.READY_TIMEOUT_S", 0.0)
    async with start() as executor:
        with pytest.raises(BranchError, match="1 with a CPU each were asked for; free CPUs"):
            await executor.run([job(0)])


async def test_workers_of_another_version_are_refused(start: Any, ray: fake_ray.FakeRay) -> None:
    ray.version = "cosignal 0.0, protocol 0"
    async with start() as executor:
        with pytest.raises(BranchError, match="a node has 'cosignal 0.0, protocol 0'; install one version"):
            await executor.run([job(0)])


async def test_a_snapshot_is_put_into_the_store_once_a_fork(start: Any, ray: fake_ray.FakeRay) -> None:
    async with start() as executor:
        await executor.run([job(0), job(1)])
        await executor.run([job(2), job(3, start="branches/0")])
        assert ray.stored == {"f": 1, "branches/0": 1}
        await executor.run([job(4, fork="g")])
        await executor.run([job(5)])
        assert ray.stored == {"f": 2, "branches/0": 1, "g": 1}


async def test_a_process_that_is_in_a_ray_already_is_told_so(start: Any, ray: fake_ray.FakeRay) -> None:
    ray.up = True
    with pytest.raises(ConfigError, match="in no Ray yet"):
        async with start():
            pass
    assert ray.up, "it belongs to somebody else"
