"""One branch: the trainer's own code, continued from a snapshot or begun anew."""

from __future__ import annotations

import math
import time
from pathlib import Path

from ...errors import BranchError, CosignalError, ReplayDiffers
from ..envs.step_alarm import step_alarm
from ..ipc.messages import BranchJob, BranchResult
from ..signals.scorer import FOLDER
from ..signals.signal import Exploration
from ..stage import window
from ..training.checkpoint import load_snapshot, save_snapshot
from ..training.line import TrainingLine
from .run_evaluation import EVALUATORS, episode_stats

CURVE_POINTS = 20


def run_branch(line: TrainingLine, run_dir: Path, job: BranchJob) -> BranchResult:
    """Train from `job.start` to `job.horizon` steps after the fork, evaluate, and write the end state.

    Args:
        line: training line of the worker; it is overwritten.
        run_dir: directory that the paths in `job` are below.
        job: what to run.

    Raises:
        SnapshotError: the snapshot to start from is missing or does not fit.
        SignalError: the signal does not fit the task.
        ReplayDiffers: the episodes of the snapshot cannot be played again, and the job does not ask for fresh ones.
        BranchError: whatever goes wrong once it trains, with the steps that were spent.
    """
    cpu = time.process_time()
    line.scorers.folder = run_dir / FOLDER  # a worker on another machine gets a folder with each job
    task, envs = line.config.task, line.config.trainer.envs
    with step_alarm(line.task, task, envs):
        fork_steps, fork_return = start_arm(line, run_dir, job)
        before, evaluator = line.steps_main, None
        try:
            # In whole updates, so a little more than the horizon may be run.
            while line.steps_main < fork_steps + job.horizon:
                line.update()
            evaluator = EVALUATORS.get(task, job.evaluation_episodes, job.evaluation_seed)
            with step_alarm(evaluator.task, task, envs):
                evaluation = evaluator.evaluate(line.learner)
            if not math.isfinite(evaluation.mean_return):
                raise BranchError(f"the final return must be a finite number, got {evaluation.mean_return!r}")
            save_snapshot(line, run_dir / job.end_state, {"fork_steps": fork_steps, "fork_return": fork_return})
        except Exception as error:  # whatever task and numbers do
            message = str(error) if isinstance(error, CosignalError) else f"{type(error).__name__}: {error}"
            played = 0 if evaluator is None else evaluator.steps
            raise BranchError(message, steps=line.steps_main - before + played) from error
    return BranchResult(
        key=job.key,
        arm=job.arm,
        seed=job.seed,
        horizon=job.horizon,
        signal=line.signal,
        final_return=evaluation.mean_return,
        success_rate=evaluation.success_rate,
        fork_return=fork_return,
        curve=_curve(line, fork_steps),
        steps=line.steps_main - before,
        steps_evaluation=evaluation.steps,
        end_state=job.end_state,
        end_update=line.update_index,
        episodes=episode_stats(evaluation),
        cpu_s=time.process_time() - cpu,
    )


def start_arm(line: TrainingLine, run_dir: Path, job: BranchJob) -> tuple[int, float]:
    """Load the state to start from; at the fork itself, give the arm its seed, exploration and signal.

    A new line has the job's seed and signal from step 0 on, which is its fork.

    Returns:
        The main steps and the training return at the fork, before any kick.

    Raises:
        ReplayDiffers: the episodes cannot be played again, and the job does not ask for fresh ones.
    """
    if job.new_line and job.start == job.fork:
        # The config's exploration is a run's at step 0, and the job's comes after it, as at any fork.
        line.begin_anew(job.seed, job.signal.model_copy(update={"exploration": Exploration()}))
        line.explore(job.exploration)
        return line.steps_main, line.return_range[0]
    line.replay_difference = None
    extra = load_snapshot(line, run_dir / job.start, fresh=job.fresh)
    if line.replay_difference is not None:
        raise ReplayDiffers(line.replay_difference)
    # An extension goes on as it was; what was measured at the fork is in its snapshot.
    if job.start != job.fork:
        return int(str(extra["fork_steps"])), float(str(extra["fork_return"]))
    # Measured before the arm's seed, signal and kick change anything.
    now = window(line.history, line.steps_main)
    # Seed 0 keeps the main run's random streams.
    if job.seed:
        line.reseed(job.seed)
    learner = line.signal.learner
    if not job.signal.shapes_like(line.signal) or job.signal.learner.over(learner) != learner:
        # Exploration is given to every arm below, so a candidate's own must not act as well.
        line.apply_signal(job.signal.model_copy(update={"exploration": Exploration()}))
    line.explore(job.exploration)
    return line.steps_main, now.returns if now else line.return_range[0]


def _curve(line: TrainingLine, fork_steps: int) -> list[tuple[int, float, float | None]]:
    """Return at most CURVE_POINTS rows of training: (steps since the fork, mean sparse return, success rate)."""
    length = line.steps_main - fork_steps
    # A window is one update at least, else it might have no episodes.
    width = max(length // CURVE_POINTS, line.collector.rollout.steps)
    windows = [w for end in range(line.steps_main, fork_steps, -width) if (w := window(line.history, end, width))]
    return [
        (w.end - fork_steps, round(w.returns, 4), round(w.success, 4) if line.spec.has_success else None)
        for w in reversed(windows)
    ]
