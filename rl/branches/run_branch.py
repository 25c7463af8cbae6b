"""Running one branch: the trainer's own code, continued from a snapshot."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

from ..envs.config import TaskConfig
from ..ipc.messages import BranchJob, BranchResult
from ..signals.scorer import FOLDER
from ..signals.signal import Exploration
from ..stage import window
from ..training.checkpoint import load_snapshot, save_snapshot
from ..training.evaluate import Evaluator
from ..training.line import TrainingLine

CURVE_POINTS = 20


def run_branch(line: TrainingLine, run_dir: Path, job: BranchJob) -> BranchResult:
    """Continue `job.start` to `job.horizon` steps after the fork, evaluate, write the end state.

    `line` is a worker's own and is overwritten. Raises SnapshotError or SignalError.
    """
    cpu = time.process_time()
    line.scorers.folder = run_dir / FOLDER  # a worker on another machine gets a folder with each job
    fork_steps, fork_return = _enter(line, run_dir, job)
    before = line.steps_main
    while line.steps_main < fork_steps + job.horizon:
        line.update()
    evaluator = _evaluator(line.config.task.model_dump_json(), job.evaluation_episodes, job.evaluation_seed)
    evaluation = evaluator.evaluate(line.learner)
    save_snapshot(line, run_dir / job.end_state, {"fork_steps": fork_steps, "fork_return": fork_return})
    return BranchResult(
        key=job.key, arm=job.arm, seed=job.seed, horizon=job.horizon, signal=line.signal,
        final_return=evaluation.mean_return, success_rate=evaluation.success_rate, fork_return=fork_return,
        curve=_curve(line, fork_steps), steps=line.steps_main - before, steps_evaluation=evaluation.steps,
        end_state=job.end_state, end_update=line.update_index, cpu_s=time.process_time() - cpu,
    )  # fmt: skip


def _enter(line: TrainingLine, run_dir: Path, job: BranchJob) -> tuple[int, float]:
    """Load the state to start from; at the fork itself, give the arm its seed, exploration and signal.

    Returns the main steps and the training return at the fork, before any kick.
    """
    extra = load_snapshot(line, run_dir / job.start)
    if job.start != job.fork:
        return int(str(extra["fork_steps"])), float(str(extra["fork_return"]))
    now = window(line.history, line.steps_main)
    if job.seed:
        line.reseed(job.seed)
    if not job.signal.shapes_like(line.signal):
        # exploration is given to every arm below, so a candidate's own must not act as well
        line.apply_signal(job.signal.model_copy(update={"exploration": Exploration()}))
    line.explore(job.exploration)
    return line.steps_main, now.returns if now else line.return_range[0]


@lru_cache(maxsize=2)
def _evaluator(task: str, episodes: int, seed: int) -> Evaluator:
    """Built once a process: a worker has one thread, and building the episodes of a slow task takes long. `task`: its
    config as JSON, which is a key where the config is not."""
    return Evaluator(TaskConfig.model_validate_json(task), episodes, seed)


def _curve(line: TrainingLine, fork_steps: int) -> list[tuple[int, float, float | None]]:
    """[steps since the fork, mean sparse return, success rate] of training episodes, at most CURVE_POINTS rows."""
    length = line.steps_main - fork_steps
    width = max(length // CURVE_POINTS, line.collector.rollout.steps)
    rows = [w for end in range(line.steps_main, fork_steps, -width) if (w := window(line.history, end, width))]
    return [
        (w.end - fork_steps, round(w.returns, 4), round(w.success, 4) if line.spec.has_success else None)
        for w in reversed(rows)
    ]
