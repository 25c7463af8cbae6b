"""Environments in processes: equal to those in this one, and started again when they crash or hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import structlog
from cosignal.errors import EnvironmentLost, SnapshotError, TaskImportError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task
from cosignal.rl.envs.pettingzoo.batch import MAX_LOSSES
from cosignal.rl.envs.pettingzoo.process_batch import ProcessTask
from cosignal.rl.processes import child_environment
from cosignal.rl.task import BatchedTask, Step, episode_seed
from fragile_envs import DIES, FINE, FINE_TOO, GIVES_NO_FEATURE, HANGS, LOCKED, RAISES

ENVS = 5


def make(workers: int, num_envs: int = ENVS, **more: Any) -> Any:
    return make_task(TaskConfig(**{"env": "fragile_envs:FragileTask", "workers": workers, **more}), num_envs)


@pytest.fixture(scope="module")
def made() -> Iterator[list[BatchedTask]]:
    """Made once, for starting takes long: without processes, and with 1, 2 and 3."""
    tasks = [make(workers) for workers in (0, 1, 2, 3)]
    yield tasks
    for task in tasks:
        task.close()


@pytest.fixture
def two() -> Iterator[ProcessTask]:
    """Environments 0 and 1 in one process, 2 to 4 in another."""
    task = make(2, step_timeout_s=20.0)
    task.reset(3)
    yield task
    task.close()


def actions(rng: np.random.Generator, first: int | None = None) -> list[Any]:
    """Harmless ones; `first`: what environment 2's first worker does."""
    workers = np.stack([rng.choice([FINE, FINE_TOO, LOCKED], ENVS), rng.integers(0, LOCKED + 1, ENVS)], axis=1)
    if first is not None:
        workers[2, 0] = first
    return [workers, rng.uniform(-1, 1, (ENVS, 1, 2)).astype(np.float32)]


def as_bytes(step: Step) -> dict[str, list[bytes]]:
    values = {name: value if isinstance(value, list) else [value] for name, value in vars(step).items()}
    return {name: [array.tobytes() for array in value] for name, value in values.items()}


def assert_all_equal(steps: list[Step]) -> None:
    first, *others = [as_bytes(step) for step in steps]
    assert all(other == first for other in others)


def processes(task: ProcessTask) -> list[psutil.Process]:
    found: list[Any] = [child._process for child in task._children]
    return [psutil.Process(process.pid) for process in found]


def until(condition: Any, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_any_number_of_processes_is_equal_to_none_bit_for_bit(made: list[BatchedTask]) -> None:
    rng = np.random.default_rng(0)
    assert len({task.spec.model_dump_json() for task in made}) == 1
    assert_all_equal([task.reset(7) for task in made])
    for t in range(25):
        if t == 10:
            for task in made:
                task.reseed(99)
        chosen = actions(rng)
        steps = [task.step(chosen) for task in made]
        assert_all_equal(steps)
    assert (steps[0].masks or [])[0].any() and not (steps[0].masks or [])[0].all()
    assert_all_equal([task.observe() for task in made])
    assert_all_equal([task.reset(8) for task in made])


def test_an_environment_that_raises_is_lost_alone_wherever_it_is(made: list[BatchedTask]) -> None:
    rng = np.random.default_rng(1)
    for task in made:
        task.reset(5)
    before = made[0].step(actions(np.random.default_rng(2))).obs[0].copy()
    for task in made[1:]:
        task.step(actions(np.random.default_rng(2)))
    chosen = actions(rng, RAISES)
    with structlog.testing.capture_logs() as logs:
        steps = [task.step(chosen) for task in made]
    assert_all_equal(steps)
    lost = steps[0]
    assert lost.lost is not None and lost.lost.tolist() == [False, False, True, False, False]
    assert (bool(lost.truncated[2]), bool(lost.terminated[2]), float(lost.reward[2])) == (True, False, 0.0)
    assert lost.last_obs[0][2].tobytes() == before[2].tobytes()  # s' = s
    assert lost.obs[0][2, :, 0].tolist() == [0, 0]  # the next episode
    seed = episode_seed(5, 2, 0)
    error = f"RuntimeError: the simulator has lost its licence (in step 2 of the episode with reset seed {seed})"
    assert logs == [{"event": "environment restarted", "env": 2, "error": error, "log_level": "warning"}] * 4
    for _ in range(6):
        chosen = actions(rng)
        steps = [task.step(chosen) for task in made]
        assert_all_equal(steps)
        assert steps[0].lost is not None and not steps[0].lost.any()


def test_a_state_goes_from_any_number_of_processes_to_any_other(made: list[BatchedTask]) -> None:
    rng = np.random.default_rng(2)
    for seed, task in enumerate(made):
        task.reset(seed)
        for _ in range(seed):
            task.step(actions(rng))
    state = made[2].state_dict()
    for task in made:
        task.load_state_dict(state)
    states = [task.state_dict() for task in made]
    for name, array in state.items():
        assert all(other[name].tobytes() == array.tobytes() and other[name].dtype == array.dtype for other in states)
    assert_all_equal([task.observe() for task in made])
    for _ in range(10):
        chosen = actions(rng)
        assert_all_equal([task.step(chosen) for task in made])


def test_a_state_of_other_environments_is_refused(made: list[BatchedTask]) -> None:
    state = make(0, 6).state_dict()
    for task in made:
        with pytest.raises(SnapshotError, match="trainer.envs"):
            task.load_state_dict(state)


def test_a_replay_that_differs_in_one_environment_starts_all_afresh(made: list[BatchedTask]) -> None:
    rng, told = np.random.default_rng(7), []
    made[0].reset(3)
    made[0].step(actions(rng))
    changed = made[0].state_dict()
    changed["obs_0"][4, 1, 0] += 1  # in the last environment
    for task in made:
        told.append(task.load_state_dict(changed))
        assert task.state_dict()["episodes"].tolist() == [1] * ENVS
    assert told[0] is not None and "agent 'worker_1'" in told[0] and told == [told[0]] * 4
    assert_all_equal([task.observe() for task in made])
    state = made[0].state_dict()
    assert [task.load_state_dict(state, fresh=True) for task in made] == [None] * 4
    assert_all_equal([task.observe() for task in made])


def test_bad_actions_and_an_episode_as_text(made: list[BatchedTask]) -> None:
    too_many = actions(np.random.default_rng(0))
    too_many[0][4, 1] = LOCKED + 1
    told = []
    for task in made:
        before = task.state_dict()["lengths"]
        with pytest.raises(ValueError, match=r"in 0\.\.6"):
            task.step(too_many)
        assert task.state_dict()["lengths"].tolist() == before.tolist()
        told.append(task.episode_text(4, [np.array([[1, 2], [0, 0]]), np.zeros((2, 1, 2), np.float32)]))
    assert told == [told[0]] * 4
    assert len(told[0].lines) == 2


@pytest.mark.parametrize(("choice", "error"), [(DIES, "SIGSEGV"), (HANGS, "did not answer in time")])
def test_a_process_that_dies_or_hangs_is_started_again(choice: int, error: str) -> None:
    rng, task, alone = np.random.default_rng(3), make(2, step_timeout_s=2.0), make(0)
    try:
        before = task.step(actions(np.random.default_rng(9))).obs[0].copy()
        with structlog.testing.capture_logs() as logs:
            step = task.step(actions(rng, choice))
        assert len(logs) == 1 and logs[0]["envs"] == "2..4" and error in logs[0]["error"]
        assert step.lost.tolist() == [False, False, True, True, True]
        assert step.truncated.tolist() == step.lost.tolist() and not step.terminated.any()
        assert not step.reward[2:].any() and step.reward[:2].all() and not step.events[0][2:].any()
        assert step.last_obs[0][2:].tobytes() == before[2:].tobytes()
        assert task.state_dict()["episodes"].tolist() == [0, 0, 1, 1, 1]
        alone.begin(0, [0, 0, 1, 1, 1])
        assert step.obs[0][2:].tobytes() == alone.observe().obs[0][2:].tobytes()
        assert not task.step(actions(rng)).lost.any()
    finally:
        task.close()


def test_a_process_killed_between_steps_is_noticed_by_whatever_comes_next(two: ProcessTask) -> None:
    rng = np.random.default_rng(4)
    two.step(actions(rng))
    for ask in (lambda: None, two.state_dict, lambda: two.reseed(1)):
        old = processes(two)[1]
        old.kill()
        ask()
        step = two.step(actions(rng))
        assert step.lost is not None and step.lost.tolist() == [False, False, True, True, True]
        assert not old.is_running()
        again = two.step(actions(rng)).lost
        assert again is not None and not again.any()
    state = two.state_dict()
    processes(two)[1].kill()
    two.load_state_dict(state)  # nothing is lost: this is what was asked for
    step = two.step(actions(rng))
    assert step.lost is not None and not step.lost.any()


@pytest.mark.parametrize(("workers", "choice"), [(0, RAISES), (1, RAISES), (1, DIES)])
def test_an_environment_that_is_lost_again_and_again_is_told(
    workers: int, choice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = MAX_LOSSES if choice == RAISES else 2
    monkeypatch.setattr("cosignal.rl.envs.pettingzoo.process_batch.MAX_LOSSES", most)
    task, rng = make(workers), np.random.default_rng(0)
    try:
        for _ in range(most - 1):
            task.step(actions(rng, choice))
        with pytest.raises(EnvironmentLost, match=r"mend|raise task\.step_timeout_s"):
            task.step(actions(rng, choice))
    finally:
        task.close()


def test_a_process_that_never_gets_to_the_end_of_an_episode_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosignal.rl.envs.pettingzoo.process_batch.MAX_LOST_EPISODES", 2)
    task, rng = make(1), np.random.default_rng(0)
    try:
        for choice in (FINE, DIES, FINE):
            task.step(actions(rng, choice))
        with pytest.raises(EnvironmentLost, match=r"1 times without the end of an episode.*SIGSEGV"):
            task.step(actions(rng, DIES))
        task.reset(0)  # a new beginning, in a new process
        for choice in (FINE, FINE, FINE, FINE, DIES):
            task.step(actions(rng, choice))
    finally:
        task.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_reset_that_raises_is_tried_with_the_next_episode(workers: int) -> None:
    task = make(workers, env_args={"bad_resets": 1})
    try:
        task.reset(11)
        seeds = task.state_dict()["seeds"]
        assert (seeds % 3 != 0).all() and task.state_dict()["episodes"].any()
        for _ in range(8):
            assert not task.step(actions(np.random.default_rng(0))).lost.any()
    finally:
        task.close()


def test_what_is_wrong_with_a_config_is_told_as_without_processes(two: ProcessTask) -> None:
    with pytest.raises(TaskImportError, match="no 'nothing'"):
        make(1, env="fragile_envs:nothing")
    with structlog.testing.capture_logs() as logs:
        lost = two.step(actions(np.random.default_rng(0), GIVES_NO_FEATURE)).lost
    assert lost is not None and lost.tolist() == [False, False, True, False, False]
    assert len(logs) == 1 and "gave agent 'crane' no 'step'" in logs[0]["error"]
    with pytest.raises(ValueError, match=r"task\.workers are for environments of PettingZoo"):
        TaskConfig(name="two_switch", workers=2)


def test_processes_have_no_keys_one_thread_and_a_session_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    task = make(1)
    (process,) = processes(task)
    environment = process.environ()
    assert "SOME_API_KEY" not in environment and environment["OMP_NUM_THREADS"] == "1"
    assert os.getsid(process.pid) == process.pid != os.getsid(0)  # Ctrl-C in a terminal does not reach it
    assert not any("torch" in Path(file.path).name for file in process.memory_maps())
    task.close()


@pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is a temporary file elsewhere")
def test_shared_memory_has_no_name_that_could_be_left_behind() -> None:
    task = make(1)
    for process in (*processes(task), psutil.Process()):
        paths = [file.path for file in process.memory_maps(grouped=False)]
        assert any(path.startswith("/memfd:cosignal") for path in paths)
        assert not any(path.startswith("/dev/shm") for path in paths)
        assert not [file for file in process.open_files() if "memfd" in file.path]
    task.close()


def test_close_ends_the_processes_and_may_be_repeated() -> None:
    task = make(9, 3)  # no more processes than environments
    found = processes(task)
    assert len(found) == 3
    task.close()
    task.close()
    assert not any(process.is_running() for process in found)
    with pytest.raises(OSError):
        task.reset(0)
    forgotten = make(1)
    found = processes(forgotten)
    del forgotten
    assert not found[0].is_running()


OWNER = """
import sys, numpy as np
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task
task = make_task(TaskConfig(env="fragile_envs:FragileTask", workers=2), 2)
print(*[child._process.pid for child in task._children], flush=True)
if sys.argv[1] == "raise":
    raise RuntimeError("on purpose")
sys.stdin.readline()
task.step([np.array([[int(sys.argv[1]), 0], [0, 0]]), np.zeros((2, 1, 2), np.float32)])
"""


@pytest.mark.parametrize("doing", [str(FINE), str(HANGS), "raise"])
def test_nothing_is_left_of_an_owner_that_is_killed_or_raises(doing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process may hang in C code and hold the interpreter's lock: then only the kernel can end it."""
    code = OWNER.replace("workers=2", "workers=2, step_timeout_s=1.0")
    with subprocess.Popen(
        [sys.executable, "-c", code, doing], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=child_environment(), text=True,
    ) as owner:  # fmt: skip
        assert owner.stdin is not None and owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 2
        if doing == str(HANGS):
            owner.stdin.write("\n")
            owner.stdin.flush()
            time.sleep(0.5)
        if doing != "raise":
            owner.send_signal(signal.SIGKILL)
        owner.wait()
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
