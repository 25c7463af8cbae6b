"""The Ray executor on a real cluster of two nodes on this machine: `make test-ray`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from cosignal.errors import ConfigError
from cosignal.rl.branches.config import BranchConfig
from cosignal.rl.branches.executors import executor_for
from cosignal.rl.branches.jobs import MAX_RESTARTS
from cosignal.rl.branches.local_pool import WorkerPool
from cosignal.rl.ipc.messages import BranchJob, BranchResult
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.training.checkpoint import save_snapshot
from safetensors.numpy import load_file
from training_lines import UPDATE, small_config, trained

if TYPE_CHECKING:
    from cosignal.rl.branches.ray_pool import RayExecutor

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    # Ray leaves pipes and log files of the processes that it has ended to the garbage collector.
    pytest.mark.filterwarnings("ignore:subprocess [0-9]+ is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file <_io.*ray:ResourceWarning"),
]

FORK = "checkpoints/update_000000004"
STORE = 80 * 2**20  # bytes, about the least that Ray takes
LONG = 500  # updates: some seconds
AT_WORK_S = 120.0  # a worker that is started anew imports torch first
SHAPED = Signal.model_validate(
    {"version": 1, "terms": [{"name": "near", "kind": "potential", "expression": "-dist_nearest_open_switch / 12"}]}
)
UNKNOWN = Signal.model_validate({"terms": [{"name": "far", "kind": "potential", "expression": "-dist_moon / 12"}]})


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the rule for all tests: Ray's processes talk to each other at this machine's own address."""


def job(arm: str, signal: Signal, seed: int, updates: int, start: str = FORK) -> BranchJob:
    key = f"{arm}-{seed}-{updates}"
    return BranchJob(
        key=key, fork=FORK, start=start, arm=arm, signal=signal, exploration=Exploration(), seed=seed,
        horizon=updates * UPDATE, evaluation_seed=5, evaluation_episodes=4, end_state=f"branches/{key}",
    )  # fmt: skip


def jobs(updates: int) -> list[BranchJob]:
    return [job(arm, s, seed, updates) for arm, s in (("control", Signal()), ("p1", SHAPED)) for seed in (0, 1)]


@pytest.fixture
def run_dir(tmp_path: Path) -> Callable[[str], Path]:
    """Makes run directories with one snapshot, all the same."""
    config = small_config()
    line = trained(config, 4)

    def make(name: str) -> Path:
        folder = tmp_path / name
        for inner in ("checkpoints", "branches"):
            (folder / inner).mkdir(parents=True)
        (folder / "training.json").write_text(config.model_dump_json())
        save_snapshot(line, folder / FORK)
        return folder

    return make


def told(results: list[BranchResult]) -> list[BranchResult]:
    return [result.model_copy(update={"cpu_s": 0.0}) for result in results]


def assert_same_end_states(one: Path, other: Path) -> None:
    """Every array and everything else, bit for bit; and nothing half written."""
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in other.iterdir())
    for state in one.iterdir():
        for name in ("state.safetensors", "recorded.safetensors"):
            arrays, others = load_file(state / name), load_file(other / state.name / name)
            assert arrays.keys() == others.keys()
            for key, value in arrays.items():
                assert np.array_equal(value, others[key], equal_nan=value.dtype.kind == "f"), (state, key)
        texts = [json.loads((folder / state.name / "state.json").read_text()) for folder in (one, other)]
        assert texts[0] == texts[1]


class Cluster:
    """Two nodes, each with one CPU; the loop's is the head."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        arguments = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
        self._cluster = RayCluster(initialize_head=True, head_node_args=arguments)
        self.other = self.add()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self) -> Any:
        return self._cluster.add_node(num_cpus=1, object_store_memory=STORE)

    def replace(self) -> None:
        self.other = self.add()

    def lose(self) -> None:
        self._cluster.remove_node(self.other, allow_graceful=False)

    def shutdown(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One for all tests, since it takes long; its nodes inherit an environment with keys in it."""
    variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    keys = {"MY_KEY": "secret-of-mine", "SOME_API_KEY": "secret-of-some"}
    # Two blocks: the folder, whose path must be short, goes last.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # noqa: SIM117
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**variables, **keys, "RAY_TMPDIR": folder}.items():
                patch.setenv(name, value)
            started = Cluster()
            yield started
            started.shutdown()


def executor(folder: Path, cluster: Cluster | None = None, workers: int = 2) -> RayExecutor:
    address = None if cluster is None else cluster.address
    config = BranchConfig(executor="ray", ray_address=address, workers=workers)
    made: Any = executor_for(config, folder, secrets=["MY_KEY"])
    return made  # type: ignore[no-any-return]


async def locally(folder: Path, todo: list[BranchJob]) -> list[BranchResult]:
    async with WorkerPool(folder, 1) as pool:
        return await pool.run(todo)


def counted(made: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the jobs that were sent to a worker, in order."""
    sent: list[str] = []
    run_job = made._run_job

    async def counting(place: Any, attempt: Any) -> Any:
        sent.append(attempt.job.key)
        return await run_job(place, attempt)

    monkeypatch.setattr(made, "_run_job", counting)
    return sent


def at_work(below: int | None = None) -> list[psutil.Process]:
    """Workers that run a branch now; `below`: of the node whose raylet has this pid."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[:1] == ["ray::RayWorker.run"] and below in (None, process.ppid()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


async def until_at_work(number: int, below: int | None = None) -> list[psutil.Process]:
    """Fails where that does not come about: then the branches are too short to be caught at work."""
    async with asyncio.timeout(AT_WORK_S):
        while len(found := at_work(below)) < number:
            await asyncio.sleep(0.02)
    return found


def raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


# ---------------------------------------------------------------- on a cluster of two nodes


async def test_results_and_end_states_are_those_of_local_workers(
    run_dir: Callable[[str], Path], cluster: Cluster
) -> None:
    here, there = run_dir("local"), run_dir("ray")
    extended = job("p1", SHAPED, 1, 6, start="branches/p1-1-3")
    expected = [*await locally(here, jobs(3)), *await locally(here, [extended])]
    heard: list[str] = []

    async def hear(asked: BranchJob, result: BranchResult) -> None:
        assert (there / result.end_state / "state.json").exists(), "told before its end state is there"
        heard.append(asked.key)

    async with executor(there, cluster) as ray_executor:
        results = [*await ray_executor.run(jobs(3), hear), *await ray_executor.run([extended])]
        assert await ray_executor.run([]) == []
    assert told(results) == told(expected)
    assert sorted(heard) == sorted(result.key for result in results[:4])
    assert_same_end_states(here / "branches", there / "branches")
    assert not list(there.rglob("*.partial"))


async def test_a_job_whose_worker_is_killed_is_sent_again(
    run_dir: Callable[[str], Path], cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    here, there = run_dir("local"), run_dir("ray")
    todo = [job("p1", SHAPED, 0, LONG), job("control", Signal(), 0, LONG)]
    async with executor(there, cluster) as ray_executor:
        sent = counted(ray_executor, monkeypatch)
        running = asyncio.create_task(ray_executor.run(todo))
        (victim, _) = await until_at_work(2)
        victim.kill()
        results = await running
        assert len(sent) == 3, "only the killed one is run again"
    assert capfd.readouterr().out == "", "standard output belongs to the command line"
    assert told(results) == told(await locally(here, todo))
    assert_same_end_states(here / "branches", there / "branches")


async def test_a_lost_node_costs_only_the_branches_that_ran_on_it(
    run_dir: Callable[[str], Path], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = run_dir("local"), run_dir("ray")
    todo = [job("p1", SHAPED, seed, LONG) for seed in (0, 1)] + jobs(3)
    async with executor(there, cluster) as ray_executor:
        sent = counted(ray_executor, monkeypatch)
        running = asyncio.create_task(ray_executor.run(todo))
        await until_at_work(2)
        assert len(at_work(raylet(cluster.other))) == 1
        await asyncio.to_thread(cluster.lose)
        results = await running
        assert len(sent) == len(todo) + 1, "of what ran on the other node, nothing is run again"
        assert len(await ray_executor.run(jobs(4))) == 4  # the node that is left goes on
        cluster.replace()  # sets a signal handler, so it needs this thread
        again = asyncio.create_task(ray_executor.run([job("p1", SHAPED, seed, 50 * LONG) for seed in (2, 3)]))
        await until_at_work(2)  # the new node is used
        again.cancel()
        with pytest.raises(asyncio.CancelledError):
            await again
    expected = await locally(here, todo)
    assert told(results) == told(expected)


async def test_what_is_wrong_with_a_job_is_the_error_that_a_local_worker_gives(
    run_dir: Callable[[str], Path], cluster: Cluster
) -> None:
    here, there = run_dir("local"), run_dir("ray")
    wrong = [job("p9", UNKNOWN, 3, 2), job("p9", SHAPED, 3, 2, start="branches/nowhere")]
    words = [reply.reason for asked in wrong for reply in await locally(here, [asked])]
    async with executor(there, cluster) as ray_executor:
        [by_ray] = await ray_executor.run([wrong[0]])
        assert by_ray.reason == words[0]
        [nowhere] = await ray_executor.run([wrong[1]])
        assert re.search(r"no usable snapshot at .*branches/nowhere", nowhere.reason)
        assert (await ray_executor.run(jobs(1)))[0].seed == 0  # it lives on


async def test_a_job_that_kills_every_worker_is_given_up(run_dir: Callable[[str], Path], cluster: Cluster) -> None:
    async with executor(run_dir("ray"), cluster, workers=1) as ray_executor:
        running = asyncio.create_task(ray_executor.run([job("p1", SHAPED, 0, 50 * LONG)]))
        killed = set()
        while not running.done():
            for process in at_work():
                if process.pid not in killed:
                    killed.add(process.pid)
                    process.kill()
            await asyncio.sleep(0.02)
        assert f"{MAX_RESTARTS + 1} workers died on it" in (await running)[0].reason
        assert len(killed) == MAX_RESTARTS + 1


async def test_after_a_cancelled_run_its_workers_are_killed_and_others_take_over(
    run_dir: Callable[[str], Path], cluster: Cluster
) -> None:
    async with executor(run_dir("ray"), cluster, workers=1) as ray_executor:
        running = asyncio.create_task(ray_executor.run([job("p1", SHAPED, 0, 50 * LONG)]))
        [worker] = await until_at_work(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        psutil.wait_procs([worker], timeout=60)
        assert not worker.is_running()
        assert (await ray_executor.run([job("p1", SHAPED, 1, 1)]))[0].seed == 1


async def test_workers_have_no_keys_and_one_thread_though_their_node_has_keys(
    run_dir: Callable[[str], Path], cluster: Cluster
) -> None:
    async with executor(run_dir("ray"), cluster, workers=1) as ray_executor:
        running = asyncio.create_task(ray_executor.run([job("p1", SHAPED, 0, 50 * LONG)]))
        [worker] = await until_at_work(1)
        environment = worker.environ()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert psutil.Process(raylet(cluster.other)).environ()["MY_KEY"] == "secret-of-mine"
    assert "secret-of" not in json.dumps(environment)
    assert environment["OMP_NUM_THREADS"] == environment["NUMBA_NUM_THREADS"] == "1"


async def test_a_fork_is_put_into_the_store_once(
    run_dir: Callable[[str], Path], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    put: list[int] = []
    real = ray.put
    monkeypatch.setattr(ray, "put", lambda files: put.append(len(files)) or real(files))
    async with executor(run_dir("ray"), cluster) as ray_executor:
        await ray_executor.run(jobs(1))
        await ray_executor.run(jobs(2))
        assert put == [3]
        await ray_executor.run([job("p1", SHAPED, 1, 3, start="branches/p1-1-2")])
        assert put == [3, 3]


async def test_a_process_that_is_in_a_ray_already_is_told_so(run_dir: Callable[[str], Path], cluster: Cluster) -> None:
    async with executor(run_dir("one"), cluster, workers=1):
        with pytest.raises(ConfigError, match="in no Ray yet"):
            async with executor(run_dir("two"), cluster, workers=1):
                pass


# ---------------------------------------------------------------- a Ray of its own


async def test_a_ray_of_its_own_gives_the_same_and_leaves_nothing(
    run_dir: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-of-mine")
    monkeypatch.setenv("SOME_API_KEY", "secret-of-some")
    here, there, elsewhere = run_dir("local"), run_dir("ray"), psutil.Process().children(recursive=True)
    before, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    expected = await locally(here, jobs(3))
    for _ in range(2):  # a second one in the same process has another token
        async with executor(there) as ray_executor:
            assert told(await ray_executor.run(jobs(3))) == told(expected)
            family = [p for p in psutil.Process().children(recursive=True) if p not in elsewhere]
            assert len(family) > 4
            assert not [p for p in family if "secret-of" in json.dumps(p.environ())]
            assert {p.environ().get("RAY_USAGE_STATS_ENABLED", "0") for p in family} == {"0"}
        psutil.wait_procs(family, timeout=60)
        assert not [p for p in family if p.is_running()]
    assert_same_end_states(here / "branches", there / "branches")
    changed = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
    assert {name for name in changed if name != "RAY_CLIENT_MODE"} == set()
    assert signal.getsignal(signal.SIGTERM) == handler


LOOP = """
import asyncio, sys
from pathlib import Path
from cosignal.rl.branches.ray_pool import RayExecutor

async def main():
    async with RayExecutor(Path(sys.argv[1]), 1) as executor:
        print("up", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_when_the_loop_is_killed_its_ray_ends(run_dir: Callable[[str], Path]) -> None:
    loop = subprocess.Popen([sys.executable, "-c", LOOP, run_dir("ray")], stdout=subprocess.PIPE, text=True)
    assert loop.stdout is not None
    with loop.stdout:
        assert loop.stdout.readline() == "up\n"
        family = psutil.Process(loop.pid).children(recursive=True)
        loop.kill()
        loop.wait()
    psutil.wait_procs(family, timeout=120)  # Ray's agents find out within a minute
    assert len(family) > 4
    assert not [p for p in family if p.is_running()]


async def test_an_address_where_no_ray_is_is_told_at_once(run_dir: Callable[[str], Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    config = BranchConfig(executor="ray", ray_address=f"127.0.0.1:{port}")
    began = time.monotonic()
    with pytest.raises(ConfigError, match=rf"must be the address of a Ray cluster's head, got '127.0.0.1:{port}'"):
        executor_for(config, run_dir("ray"))
    assert time.monotonic() - began < 60
