"""TensorBoard events of a run, over main steps."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ..experience.replay_buffer import REPLAY, remove_stale
from ..ipc.messages import EvaluationReport, TrainerState
from ..signals.scorer import FOLDER, Scorers
from ..training.checkpoint import load_snapshot, newest_snapshot, prune, save_snapshot, snapshot_name
from ..training.config import TrainingConfig
from ..training.evaluate import Evaluator
from ..training.line import TrainingLine, UpdateReport
from .database import LoggedSignal, MetricsWriter, read_counter, read_signals, trained_updates

# ---------------------------------------------------------------- MERGED rl.tensorboard

SCALARS = {
    "train_return": "sparse/train_return",
    "train_success": "sparse/train_success",
    "evaluation_return": "sparse/evaluation_return",
    "evaluation_success": "sparse/evaluation_success",
    "signal_version": "signal/version",
    "shaped_share": "signal/shaped_share",
    "entropy": "policy/entropy",
    "policy_loss": "loss/policy",
    "value_loss": "loss/value",
    "episodes_lost": "task/episodes_lost",
    "td_loss": "loss/td",
    "q_mean": "policy/q_mean",
    "epsilon": "policy/epsilon",
}


class Board:
    """Writes scalars; steps after `start` that a crashed process wrote are purged."""

    def __init__(self, directory: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(
            str(directory), purge_step=start + 1 if start else None, max_queue=500, flush_secs=10
        )

    def add(self, steps_main: int, data: dict[str, Any]) -> None:
        for key, tag in SCALARS.items():
            value = data.get(key)
            values = value if isinstance(value, list) else [value]
            for g, x in enumerate(values):
                if x is not None:
                    self._writer.add_scalar(tag if len(values) == 1 else f"{tag}/{g}", x, steps_main)

    def close(self) -> None:
        self._writer.close()


# ---------------------------------------------------------------- MERGED rl.mainline
# DOC """The run's main line with all that is kept of it: snapshots, evaluation, and the records in `trainer.db`."""

REPORT_SEED = 0xE7A1  # evaluation seeds of curves and report; the gate uses others
KEEP_SNAPSHOTS = 3


class MainRun:
    """The main line of `run_dir`, continued from its newest snapshot where there is one.

    `point`: the update of the adaptation point that the line stands at; None between points and when released.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.config = TrainingConfig.model_validate_json((run_dir / "training.json").read_text())
        remove_stale(run_dir / REPLAY)
        self.line = TrainingLine(self.config, run_dir / REPLAY, Scorers(run_dir / FOLDER))
        evaluation = self.config.trainer.evaluation
        self.evaluator = Evaluator(self.config.task, evaluation.episodes, REPORT_SEED + self.config.seed)
        self.evaluation: EvaluationReport | None = None
        self.steps_evaluation = 0
        self.point: int | None = None
        database = run_dir / "trainer.db"
        self.steps_repeated = int(read_counter(database, "steps_repeated") or 0)
        self.looks: list[str] = json.loads(read_counter(database, "looks") or "[]")
        self.log: list[LoggedSignal] = read_signals(database)
        self._known_updates = trained_updates(database)
        self._restore()
        self.writer = MetricsWriter(database)
        self.board = Board(run_dir / "tensorboard", self.line.steps_main)

    @property
    def finished(self) -> bool:
        return self.line.steps_main >= self.config.trainer.steps

    def update(self) -> None:
        """One update with what is due after it: evaluation, records, a snapshot."""
        before = self.line.steps_main
        report = self.line.update()
        if self.line.update_index in self._known_updates:  # a crash lost the state that this update had led to
            self.steps_repeated += self.line.collector.rollout.steps
        self.point = self.line.update_index if self._is_point(before) else None
        evaluated = self._is_due(before, self.config.trainer.evaluation.every_steps) or self.finished
        if evaluated:
            self._evaluate()
        self._record(report, self.evaluation if evaluated else None)
        if self._is_due(before, self.config.trainer.checkpoint_every_steps):
            self.checkpoint()

    def close(self) -> None:
        self.writer.close()
        self.board.close()

    def _is_point(self, before: int) -> bool:
        return self._is_due(before, self.config.pause_every_steps) and not self.finished

    def _is_due(self, before: int, every: int | None) -> bool:
        return every is not None and self.line.steps_main // every > before // every

    # ------------------------------------------------------------ snapshots

    def checkpoint(self) -> str:
        """Snapshot this update boundary, kept as it is where it exists already; its name below the run directory."""
        name = snapshot_name(self.line.update_index)
        extra: dict[str, object] = {
            "steps_evaluation": self.steps_evaluation,
            "evaluation": None if self.evaluation is None else self.evaluation.model_dump(mode="json"),
            "point": self.point,
        }
        self.writer.flush()  # a resumed run goes on from here, so every row up to here must be on disk first
        save_snapshot(self.line, self.run_dir / name, extra)
        needed = [*(snapshot_name(entry.applied_update) for entry in self.log), *self.looks]
        prune(self.run_dir / "checkpoints", KEEP_SNAPSHOTS, {Path(name).name for name in needed})
        return name

    def look(self) -> str:
        """A snapshot that is kept for who looked. A signal that changed at this very boundary is not in it yet."""
        name = snapshot_name(self.line.update_index)
        self.looks = [*(look for look in self.looks if look != name), name][-self.config.trainer.keep_looks :]
        self.writer.counters(looks=json.dumps(self.looks))
        return self.checkpoint()

    def _restore(self) -> None:
        newest = newest_snapshot(self.run_dir / "checkpoints")
        if newest is None:
            return
        extra: dict[str, Any] = load_snapshot(self.line, newest)
        self.point, self.steps_evaluation = extra["point"], extra["steps_evaluation"]
        if extra["evaluation"] is not None:
            self.evaluation = EvaluationReport.model_validate(extra["evaluation"])

    # ------------------------------------------------------------ evaluation and records

    def evaluate_afresh(self) -> None:
        """Evaluate and record a state that no update of this line led to: the first one, or one taken over."""
        self._evaluate()
        line, evaluation = self.line, self.evaluation
        data = self._facts(evaluation) | {
            "train_return": None, "train_success": None, "adopted": line.update_index > 0, "trained": False,
        }  # fmt: skip
        self.writer.metrics(line.update_index, line.steps_main, data)
        self.board.add(line.steps_main, data)

    def log_signal(self, entry: LoggedSignal) -> None:
        """Returns when the entry is on disk."""
        self.writer.log_signal(entry)
        self.log.append(entry)

    def count(self, state: TrainerState, **more: object) -> None:
        """Write the counters down."""
        self.writer.counters(
            state=state, update=self.line.update_index, steps_main=self.line.steps_main, stage=self.line.stage()[0],
            steps_evaluation=self.steps_evaluation, steps_repeated=self.steps_repeated,
            steps_adopted=self.line.steps_adopted, episodes_lost=self.line.episodes_lost, **more,
        )  # fmt: skip

    def _evaluate(self) -> None:
        found = self.evaluator.evaluate(self.line.learner)
        self.steps_evaluation += found.steps
        self.evaluation = EvaluationReport(
            steps=self.line.steps_main, mean=found.mean_return, sd=found.sd, episodes=len(found.returns),
            success_rate=found.success_rate, version=self.line.signal.version,
        )  # fmt: skip

    def _record(self, report: UpdateReport, evaluation: EvaluationReport | None) -> None:
        line, row = self.line, report.row
        data = self._facts(evaluation) | {
            "train_return": row["returns"], "train_success": row["success"], "entropy": row["entropy"],
            "no_effect": row["no_effect"], "shaped_share": report.shaped_share,
            "terms": row["terms"], "adopted": False, "trained": True,
        }  # fmt: skip
        data |= {name: [x.losses[name] for x in report.learned] for name in report.learned[0].losses}
        self.writer.metrics(line.update_index, line.steps_main, data)
        self.board.add(line.steps_main, data)

    def _facts(self, evaluation: EvaluationReport | None) -> dict[str, Any]:
        """What every row of metrics says; the evaluation is null where none was made at this update."""
        return {
            "steps_main": self.line.steps_main, "stage": self.line.stage()[0],
            "signal_version": self.line.signal.version, "steps_evaluation": self.steps_evaluation,
            "episodes_lost": self.line.episodes_lost,
            "evaluation_return": evaluation.mean if evaluation else None,
            "evaluation_success": evaluation.success_rate if evaluation else None,
        }  # fmt: skip


class Cost:
    """What training and talking cost the trainer since this was made: `seam_s` CPU seconds of this thread inside
    `with cost:`, `total_s` CPU seconds of the whole process, `wall_s` seconds."""

    def __init__(self) -> None:
        self.seam_s = 0.0
        self._process, self._clock = time.process_time(), time.monotonic()

    def __enter__(self) -> None:
        self._entered = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.seam_s += time.thread_time() - self._entered

    @property
    def total_s(self) -> float:
        return time.process_time() - self._process

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._clock
