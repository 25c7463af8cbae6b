"""`cosignal bench branches` and `cosignal bench scale`: the cost of snapshots and branches.

`branches` also says whether the control repeats the main line. `snapshot_ms`, `restore_ms`: the state of a training
line into memory and back, `_disk_` to disk (synced) and back; medians. `control_bit_identical`: the end state of the
control of seed 0, run in a worker process, holds the arrays of the main line that went on. `wall_ratio`: wall time of 8
candidates and the control on a pool of `workers` while the main line waits, divided by that of one branch alone;
`cpu_ratio`: the same of the workers' CPU seconds. `main_slowdown`: steps per second of a main line alone, divided by
those of one that trains beside the branches, by wall time; `main_slowdown_cpu` by CPU seconds of its thread. With fewer
cores than workers and main line the wall figures say mostly that.

`scale` runs rounds of 1 to 64 candidates on the local pool. Every round has its candidates and the control, forked from
one snapshot of Two-Switch, one seed each, for `horizon` steps. `cpu_s` are CPU seconds of the workers, `wall_s` wall
time of the round; both by branch as well. `snapshot_bytes`: the size of the snapshot, which a branch reads once and
writes once, and which travels to and fro where branches run on a cluster.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BranchError
from ...rl.branches.jobs import branch_key
from ...rl.branches.local_pool import WorkerPool
from ...rl.ipc.messages import BranchFailure, BranchJob
from ...rl.processes import one_thread
from ...rl.signals.signal import Exploration, Signal
from ...rl.training.checkpoint import (
    load_snapshot,
    pack_snapshot,
    packed_size,
    read_snapshot,
    save_snapshot,
    snapshot_name,
)
from ...rl.training.line import TrainingLine
from ..report import Tell
from .measure import Spell, bench_result, cores, median, span
from .trainer import training_config

ENVS, ROLLOUT = 64, 32
CANDIDATES, WORKERS = 8, 2
EVALUATION_EPISODES = 64
WARM_UPDATES = 32  # so that the state is of a run that is under way
SCALE_CANDIDATES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Round:
    """The times of one round of `bench branches`.

    Attributes:
        one_s: wall seconds of one branch alone.
        one_cpu_s: its CPU seconds.
        all_s: wall seconds of all branches while the main line waits.
        all_cpu_s: their CPU seconds.
        alone: the main line alone.
        beside: the main line beside all branches.
    """

    one_s: float
    one_cpu_s: float
    all_s: float
    all_cpu_s: float
    alone: Spell
    beside: Spell


def run_branches(tell: Tell, horizon: int = 20_480, rounds: int = 3, repeats: int = 50) -> dict[str, Any]:
    """Measure snapshots, and branches beside a main line.

    Args:
        tell: is given lines of progress.
        horizon: environment steps of a branch.
        rounds: of branches.
        repeats: of each snapshot and restore.
    """
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        line = new_line(run_dir, WARM_UPDATES)
        measured = snapshot_metrics(line, run_dir, repeats)
        tell(f"snapshots: {measured}")
        measured |= asyncio.run(branch_metrics(line, run_dir, horizon, rounds, tell))
    return bench_result("branches", {
        "task": "two_switch", "algorithm": "ippo", "envs": ENVS, "rollout": ROLLOUT, "candidates": CANDIDATES,
        "workers": WORKERS, "horizon": horizon, "rounds": rounds, "repeats": repeats,
    }, measured)  # fmt: skip


def run_scale(tell: Tell, candidates: Sequence[int] = SCALE_CANDIDATES, horizon: int = 8_192) -> dict[str, Any]:
    """Measure a round of each number of candidates.

    Args:
        tell: is given lines of progress.
        candidates: how many there are beside the control, round by round.
        horizon: environment steps of a branch.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        line = new_line(run_dir, 1)
        measured = asyncio.run(scale_metrics(line, run_dir, candidates, horizon, tell))
    sizes = {"task": "two_switch", "algorithm": "ippo", "horizon": horizon, "workers": WORKERS}
    return bench_result("scale", {**sizes, "candidates": list(candidates)}, measured)


def new_line(run_dir: Path, updates: int) -> TrainingLine:
    """Return a line after some updates, and write its config where workers look for it."""
    config = training_config("ippo", ENVS, ROLLOUT)
    (run_dir / "training.json").write_text(config.model_dump_json())
    line = TrainingLine(config)
    for _ in range(updates):
        line.update()
    return line


# ---------------------------------------------------------------- snapshots


def snapshot_metrics(line: TrainingLine, folder: Path, repeats: int) -> dict[str, Any]:
    """Return times in ms; `line` trains on between two snapshots, another one takes them over."""
    other = TrainingLine(line.config)
    times = [snapshot_times(line, other, folder / f"snapshot_{repeat}") for repeat in range(repeats)]
    arrays, _ = line.state_dict()
    state_kb = round(sum(array.nbytes for array in arrays.values()) / 1000)
    return {**{f"{name}_ms": median([row[name] for row in times]) for name in times[0]}, "state_kb": state_kb}


def snapshot_times(line: TrainingLine, other: TrainingLine, place: Path) -> dict[str, float]:
    """Train one update, then hand the state of `line` to `other` in memory and on disk; return the times in ms."""

    def ms(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - start)

    line.update()
    state: list[Any] = []
    return {
        "snapshot": ms(lambda: state.extend(line.state_dict())),
        "restore": ms(lambda: other.load_state_dict(*state)),
        "snapshot_disk": ms(lambda: save_snapshot(line, place)),
        "restore_disk": ms(lambda: load_snapshot(other, place)),
    }


# ---------------------------------------------------------------- branches beside a main line


async def branch_metrics(line: TrainingLine, run_dir: Path, horizon: int, rounds: int, tell: Tell) -> dict[str, Any]:
    """Return whether the control repeats the main line, and the metrics of rounds."""
    measured: list[Round] = []
    async with WorkerPool(run_dir, WORKERS) as pool:
        fork = fork_of(line, run_dir)
        await warm_up(pool, line, fork)
        control = job(fork, "control", line.signal, 0, horizon)
        await pool.run([control])
        identical = repeats_main_line(line, run_dir, control)
        tell(f"the control repeats the main line: {identical}")
        for number in range(rounds):
            measured.append(await measure_round(pool, line, run_dir, horizon))
            tell(f"round {number + 1}: {round_metrics([measured[-1]])}")
    return {"control_bit_identical": identical, **round_metrics(measured)}


def round_metrics(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return medians and ranges over rounds."""
    by_name = {
        "wall_ratio": [x.all_s / x.one_s for x in rounds],
        "cpu_ratio": [x.all_cpu_s / x.one_cpu_s for x in rounds],
        "main_slowdown": [x.alone.wall_rate / x.beside.wall_rate for x in rounds],
        "main_slowdown_cpu": [x.alone.rate / x.beside.rate for x in rounds],
    }
    medians = {name: median(values, 2) for name, values in by_name.items()}
    ranges = {f"{name}_range": span(values, 2) for name, values in by_name.items()}
    return {**medians, **ranges, "one_branch_wall_s": median([x.one_s for x in rounds], 2), "cores": cores()}


async def measure_round(pool: WorkerPool, line: TrainingLine, run_dir: Path, horizon: int) -> Round:
    """Run one branch alone, all branches while the main line waits, the main line alone, and both beside each other."""
    fork = fork_of(line, run_dir)
    jobs = [job(fork, "control", line.signal, 0, horizon)]
    jobs += [job(fork, f"candidate-{k}", candidate(k), 0, horizon) for k in range(CANDIDATES)]
    one_s, one_cpu_s = await timed(pool, [job(fork, "alone", candidate(0), 1, horizon)])
    all_s, all_cpu_s = await timed(pool, jobs)
    # half as long as the branches took is enough for the main line's rate
    end = time.perf_counter() + all_s / 2
    alone = await asyncio.to_thread(train_while, line, lambda: time.perf_counter() < end)
    running = asyncio.create_task(timed(pool, jobs))
    beside = await asyncio.to_thread(train_while, line, lambda: not running.done())
    await running
    return Round(one_s, one_cpu_s, all_s, all_cpu_s, alone, beside)


def train_while(line: TrainingLine, condition: Callable[[], bool]) -> Spell:
    """Train in this thread, one update at least; the CPU seconds are this thread's own."""
    one_thread()
    wall, cpu, steps = time.perf_counter(), time.thread_time(), line.steps_main
    while condition() or line.steps_main == steps:
        line.update()
    return Spell(line.steps_main - steps, time.thread_time() - cpu, time.perf_counter() - wall)


async def timed(pool: WorkerPool, jobs: Sequence[BranchJob]) -> tuple[float, float]:
    """Run the jobs, and return wall seconds and CPU seconds of the workers. Raises BranchError where one fails."""
    start = time.perf_counter()
    replies = await pool.run(jobs)
    wall_s, cpu_s = time.perf_counter() - start, 0.0
    for reply in replies:
        if isinstance(reply, BranchFailure):
            raise BranchError(f"branch {reply.arm!r}, seed {reply.seed}: {reply.reason}")
        cpu_s += reply.cpu_s
    return wall_s, cpu_s


def repeats_main_line(line: TrainingLine, run_dir: Path, control: BranchJob) -> bool:
    """Train `line` on from the control's fork to where the control ended; return whether all arrays are equal."""
    # the fork was the line's own state, so it need not be loaded
    arrays, saved = read_snapshot(line.spec.name, run_dir / control.end_state)
    while line.update_index < saved["line"]["update_index"]:
        line.update()
    of_line, _ = line.state_dict()
    return of_line.keys() == arrays.keys() and all(
        np.array_equal(value, arrays[name], equal_nan=value.dtype.kind == "f") for name, value in of_line.items()
    )


# ---------------------------------------------------------------- rounds of many candidates


async def scale_metrics(
    line: TrainingLine, run_dir: Path, candidates: Sequence[int], horizon: int, tell: Tell
) -> dict[str, Any]:
    """Return the size of the snapshot, and the times of a round for each number of candidates."""
    fork = fork_of(line, run_dir)
    metrics: dict[str, Any] = {"snapshot_bytes": packed_size(pack_snapshot(run_dir, fork))}
    async with WorkerPool(run_dir, WORKERS) as pool:
        await warm_up(pool, line, fork)
        for number in candidates:
            jobs = [job(fork, f"control-{number}", line.signal, 0, horizon)]
            jobs += [job(fork, f"candidate-{number}-{k}", candidate(k % 8), 0, horizon) for k in range(number)]
            wall_s, cpu_s = await timed(pool, jobs)
            metrics[str(number)] = {
                "branches": len(jobs), "wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2),
                "wall_s_per_branch": round(wall_s / len(jobs), 3), "cpu_s_per_branch": round(cpu_s / len(jobs), 3),
            }  # fmt: skip
            tell(f"{number} candidates: {metrics[str(number)]}")
    return metrics


# ---------------------------------------------------------------- jobs


async def warm_up(pool: WorkerPool, line: TrainingLine, fork: str) -> None:
    """Run a branch of one step on every worker, so that none is cold when it counts."""
    await pool.run([job(fork, f"warm-{worker}", line.signal, 1, 1) for worker in range(WORKERS)])


def candidate(k: int) -> Signal:
    """Return a signal that differs from candidate j only in its weight, so that all cost the same."""
    term = {
        "name": "nearer", "kind": "potential", "expression": "-dist_nearest_open_switch / 12 - dist_goal / 20",
        "weight": 0.2 + 0.1 * k,
    }  # fmt: skip
    return Signal.model_validate({"terms": [term]})


def job(fork: str, arm: str, signal: Signal, seed: int, horizon: int) -> BranchJob:
    """Return a job under the exploration that is in force."""
    key = branch_key(fork, signal, Exploration(), seed, horizon, 1, EVALUATION_EPISODES)
    return BranchJob(
        key=key, fork=fork, start=fork, arm=arm, signal=signal, exploration=Exploration(), seed=seed, horizon=horizon,
        evaluation_seed=1, evaluation_episodes=EVALUATION_EPISODES, end_state=f"branches/{arm}-{key}",
    )  # fmt: skip


def fork_of(line: TrainingLine, run_dir: Path) -> str:
    """Snapshot the line, and return the snapshot's directory."""
    name = snapshot_name(line.update_index)
    save_snapshot(line, run_dir / name)
    return name
