"""`cosignal bench branches`: what snapshots and branches cost, and whether the control repeats the main line.

`snapshot_ms`, `restore_ms`: the state of a training line into memory and back, `_disk_` to disk (synced) and back;
medians. `control_bit_identical`: the end state of the control of seed 0, run in a worker process, holds the arrays of
the main line that went on. `wall_ratio`: wall time of 8 candidates and the control on a pool of `workers` while the
main line waits, divided by that of one branch alone; `cpu_ratio`: the same of the workers' CPU seconds.
`main_slowdown`: steps per second of a main line alone, divided by those of one that trains beside the branches, by wall
time; `main_slowdown_cpu` by CPU seconds of its thread. With fewer cores than workers and main line the wall figures say
mostly that.
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

from ...rl.branches.jobs import branch_key
from ...rl.branches.local_pool import WorkerPool
from ...rl.ipc.messages import BranchJob
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

# ---------------------------------------------------------------- MERGED studies.bench_branches

CANDIDATES, WORKERS = 8, 2
EVALUATION_EPISODES = 64
WARM_UPDATES = 32  # so that the state is of a run that is under way


@dataclass(frozen=True)
class Round:
    """Seconds of one branch alone and of all of them, and the main line alone and beside all of them."""

    one_s: float
    one_cpu_s: float
    all_s: float
    all_cpu_s: float
    alone: Spell
    beside: Spell


def run_branches(tell: Tell, horizon: int = 20_480, rounds: int = 3, repeats: int = 50) -> dict[str, Any]:
    """`horizon`: environment steps of a branch. `repeats`: of each snapshot and restore."""
    one_thread()
    config = training_config("ippo", 64, 32)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        (run_dir / "training.json").write_text(config.model_dump_json())
        line = TrainingLine(config)
        for _ in range(WARM_UPDATES):
            line.update()
        metrics = snapshot_metrics(line, run_dir, repeats)
        tell(f"snapshots: {metrics}")
        metrics |= asyncio.run(_branch_metrics(line, run_dir, horizon, rounds, tell))
    return bench_result("branches", {
        "task": "two_switch", "algorithm": "ippo", "envs": 64, "rollout": 32, "candidates": CANDIDATES,
        "workers": WORKERS, "horizon": horizon, "rounds": rounds, "repeats": repeats,
    }, metrics)  # fmt: skip


# ------------------------------------------------------------ snapshots


def snapshot_metrics(line: TrainingLine, folder: Path, repeats: int) -> dict[str, Any]:
    """Times in ms; `line` trains on between two snapshots, another one takes them over."""
    other = TrainingLine(line.config)
    times = [_snapshot_times(line, other, folder / f"snapshot_{repeat}") for repeat in range(repeats)]
    arrays, _ = line.state_dict()
    size = sum(array.nbytes for array in arrays.values())
    medians = {f"{name}_ms": median([found[name] for found in times]) for name in times[0]}
    return {**medians, "state_kb": round(size / 1000)}


def _snapshot_times(line: TrainingLine, other: TrainingLine, place: Path) -> dict[str, float]:
    line.update()
    taken: list[Any] = []
    return {
        "snapshot": _ms(lambda: taken.extend(line.state_dict())),
        "restore": _ms(lambda: other.load_state_dict(*taken)),
        "snapshot_disk": _ms(lambda: save_snapshot(line, place)),
        "restore_disk": _ms(lambda: load_snapshot(other, place)),
    }


def _ms(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


# ------------------------------------------------------------ branches beside a main line


async def _branch_metrics(line: TrainingLine, run_dir: Path, horizon: int, rounds: int, tell: Tell) -> dict[str, Any]:
    found: list[Round] = []
    async with WorkerPool(run_dir, WORKERS) as pool:
        fork = fork_of(line, run_dir)
        await pool.run([job(fork, f"warm-{worker}", line.signal, 1, 1) for worker in range(WORKERS)])
        control = job(fork, "control", line.signal, 0, horizon)
        await pool.run([control])
        identical = repeats_main_line(line, run_dir, control)
        tell(f"the control repeats the main line: {identical}")
        for number in range(rounds):
            found.append(await _round(pool, line, run_dir, horizon))
            tell(f"round {number + 1}: {metrics([found[-1]])}")
    return {"control_bit_identical": identical, **metrics(found)}


def metrics(rounds: Sequence[Round]) -> dict[str, Any]:
    """Medians and ranges over rounds."""
    by_name = {
        "wall_ratio": [x.all_s / x.one_s for x in rounds],
        "cpu_ratio": [x.all_cpu_s / x.one_cpu_s for x in rounds],
        "main_slowdown": [x.alone.wall_rate / x.beside.wall_rate for x in rounds],
        "main_slowdown_cpu": [x.alone.rate / x.beside.rate for x in rounds],
    }
    medians = {name: median(values, 2) for name, values in by_name.items()}
    ranges = {f"{name}_range": span(values, 2) for name, values in by_name.items()}
    return {**medians, **ranges, "one_branch_wall_s": median([x.one_s for x in rounds], 2), "cores": cores()}


async def _round(pool: WorkerPool, line: TrainingLine, run_dir: Path, horizon: int) -> Round:
    """One branch alone, all branches while the main line waits, the main line alone, and both beside each other."""
    fork = fork_of(line, run_dir)
    jobs = [job(fork, "control", line.signal, 0, horizon)]
    jobs += [job(fork, f"candidate-{k}", candidate(k), 0, horizon) for k in range(CANDIDATES)]
    one_s, one_cpu_s = await timed(pool, [job(fork, "alone", candidate(0), 1, horizon)])
    all_s, all_cpu_s = await timed(pool, jobs)
    end = time.perf_counter() + all_s / 2
    alone = await asyncio.to_thread(_train_while, line, lambda: time.perf_counter() < end)
    running = asyncio.create_task(timed(pool, jobs))
    beside = await asyncio.to_thread(_train_while, line, lambda: not running.done())
    await running
    return Round(one_s, one_cpu_s, all_s, all_cpu_s, alone, beside)


def _train_while(line: TrainingLine, condition: Callable[[], bool]) -> Spell:
    """Train in this thread, whose own CPU seconds count."""
    one_thread()
    wall, cpu, steps = time.perf_counter(), time.thread_time(), line.steps_main
    while condition() or line.steps_main == steps:
        line.update()
    return Spell(line.steps_main - steps, time.thread_time() - cpu, time.perf_counter() - wall)


async def timed(pool: WorkerPool, jobs: Sequence[BranchJob]) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of the workers."""
    start = time.perf_counter()
    results = await pool.run(jobs)
    return time.perf_counter() - start, sum(result.cpu_s for result in results)


# ------------------------------------------------------------ jobs


def candidate(k: int) -> Signal:
    """Differs from candidate j only in its weight, so that all cost the same."""
    term = {
        "name": "nearer", "kind": "potential", "expression": "-dist_nearest_open_switch / 12 - dist_goal / 20",
        "weight": 0.2 + 0.1 * k,
    }  # fmt: skip
    return Signal.model_validate({"terms": [term]})


def job(fork: str, arm: str, signal: Signal, seed: int, horizon: int) -> BranchJob:
    key = branch_key(fork, signal, Exploration(), seed, horizon, 1, EVALUATION_EPISODES)
    return BranchJob(
        key=key, fork=fork, start=fork, arm=arm, signal=signal, exploration=Exploration(), seed=seed, horizon=horizon,
        evaluation_seed=1, evaluation_episodes=EVALUATION_EPISODES, end_state=f"branches/{arm}-{key}",
    )  # fmt: skip


def fork_of(line: TrainingLine, run_dir: Path) -> str:
    name = snapshot_name(line.update_index)
    save_snapshot(line, run_dir / name)
    return name


def repeats_main_line(line: TrainingLine, run_dir: Path, control: BranchJob) -> bool:
    """Train `line` on from the control's fork to where the control ended; do all arrays equal the control's?"""
    arrays, saved = read_snapshot(line, run_dir / control.end_state)
    while line.update_index < saved["line"]["update_index"]:
        line.update()
    own, _ = line.state_dict()
    return own.keys() == arrays.keys() and all(
        np.array_equal(value, arrays[name], equal_nan=value.dtype.kind == "f") for name, value in own.items()
    )


# ---------------------------------------------------------------- MERGED studies.bench_scale
# DOC """`cosignal bench scale`: what a round of 1 to 64 candidates costs on the local pool.
# DOC
# DOC Every round has its candidates and the control, forked from one snapshot of Two-Switch, one seed each, for `horizon`
# DOC steps. `cpu_s` are CPU seconds of the workers, `wall_s` wall time of the round; both by branch as well. Bytes: of the
# DOC snapshot, which a branch reads once and writes once, and which travels to and fro where branches run on a cluster.
# DOC """

SCALE_CANDIDATES = (1, 2, 4, 8, 16, 32, 64)
WORKERS = 2


def run_scale(tell: Tell, candidates: Sequence[int] = SCALE_CANDIDATES, horizon: int = 8_192) -> dict[str, Any]:
    """`horizon`: environment steps of a branch."""
    config = training_config("ippo", 64, 32)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        (run_dir / "training.json").write_text(config.model_dump_json())
        line = TrainingLine(config)
        line.update()
        metrics = asyncio.run(_rounds(line, run_dir, candidates, horizon, tell))
    told = {"task": "two_switch", "algorithm": "ippo", "horizon": horizon, "workers": WORKERS}
    return bench_result("scale", {**told, "candidates": list(candidates)}, metrics)


async def _rounds(
    line: TrainingLine, run_dir: Path, candidates: Sequence[int], horizon: int, tell: Tell
) -> dict[str, Any]:
    fork = fork_of(line, run_dir)
    found: dict[str, Any] = {"snapshot_bytes": packed_size(pack_snapshot(run_dir, fork))}
    async with WorkerPool(run_dir, WORKERS) as pool:
        await pool.run([job(fork, f"warm-{worker}", line.signal, 1, 1) for worker in range(WORKERS)])
        for number in candidates:
            jobs = [job(fork, f"control-{number}", line.signal, 0, horizon)]
            jobs += [job(fork, f"candidate-{number}-{k}", candidate(k % 8), 0, horizon) for k in range(number)]
            wall_s, cpu_s = await timed(pool, jobs)
            found[str(number)] = {
                "branches": len(jobs), "wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2),
                "wall_s_per_branch": round(wall_s / len(jobs), 3), "cpu_s_per_branch": round(cpu_s / len(jobs), 3),
            }  # fmt: skip
            tell(f"{number} candidates: {found[str(number)]}")
    return found
