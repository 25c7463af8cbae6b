"""One evaluation: fresh episodes of the policy of a snapshot, and the evaluators that a worker keeps."""

from __future__ import annotations

import time
from pathlib import Path

from ...errors import BranchError, CosignalError
from ..envs.config import TaskConfig
from ..envs.step_alarm import step_alarm
from ..ipc.messages import EpisodeStats, EvaluationJob, EvaluationResult
from ..signals.scorer import FOLDER
from ..training.checkpoint import load_snapshot
from ..training.evaluate import Evaluation, Evaluator
from ..training.line import TrainingLine


def run_evaluation(line: TrainingLine, run_dir: Path, job: EvaluationJob) -> EvaluationResult:
    """Play `job.episodes` episodes with the policy of `job.state`.

    Args:
        line: training line of the worker; it is overwritten.
        run_dir: directory that the paths in `job` are below.
        job: what to run.

    Raises:
        SnapshotError: the snapshot is missing or does not fit.
        BranchError: whatever goes wrong once it plays, with the steps that were spent.
    """
    cpu = time.process_time()
    line.scorers.folder = run_dir / FOLDER  # as for a branch
    task, envs = line.config.task, line.config.trainer.envs
    with step_alarm(line.task, task, envs):
        # Only the policy counts, so what runs in the environments need not be played again.
        load_snapshot(line, run_dir / job.state, fresh=True)
        evaluator = EVALUATORS.get(task, job.episodes, job.seed)
        try:
            with step_alarm(evaluator.task, task, envs):
                evaluation = evaluator.evaluate(line.learner)
        except Exception as error:  # whatever task and numbers do
            message = str(error) if isinstance(error, CosignalError) else f"{type(error).__name__}: {error}"
            raise BranchError(message, steps=evaluator.steps) from error
    return EvaluationResult(
        key=job.key,
        arm=job.arm,
        steps_main=line.steps_main,
        episodes=episode_stats(evaluation),
        cpu_s=time.process_time() - cpu,
    )


def episode_stats(evaluation: Evaluation) -> EpisodeStats:
    """Return the episodes of an evaluation one by one, as they are sent."""
    return EpisodeStats(
        returns=evaluation.returns,
        successes=[success > 0 for success in evaluation.successes] if evaluation.has_success else None,
        lengths=evaluation.lengths,
        reached=evaluation.reached,
        steps=evaluation.steps,
    )


class Evaluators:
    """The last KEPT evaluators: the episodes of a slow task take long to build in a worker's one thread."""

    KEPT = 2

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], Evaluator] = {}  # the one that was asked for last is last

    def get(self, task: TaskConfig, episodes: int, seed: int) -> Evaluator:
        """Return the evaluator of these episodes; one that is built takes the place of the oldest, which is closed."""
        key = task.model_dump_json(), episodes
        if key not in self._kept:
            while len(self._kept) >= self.KEPT:
                self._kept.pop(next(iter(self._kept))).close()
            self._kept[key] = Evaluator(task, episodes, seed)
        self._kept[key] = self._kept.pop(key)
        self._kept[key].seed = seed
        return self._kept[key]

    def close(self) -> None:
        """Close their environments."""
        while self._kept:
            self._kept.popitem()[1].close()


EVALUATORS = Evaluators()  # of this process
