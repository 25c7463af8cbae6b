"""The run's main line with what is recorded of it: snapshots, evaluation, rows in `trainer.db`, TensorBoard events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..evidence.episodes import play_episodes
from ..evidence.schema import EpisodeEvidence
from ..experience.replay_buffer import REPLAY, remove_stale
from ..ipc.messages import EvaluationReport, TrainerState
from ..signals.scorer import FOLDER, Scorers
from ..training.checkpoint import prune_snapshots, save_snapshot, snapshot_name
from ..training.config import TrainingConfig
from ..training.evaluate import Evaluator
from ..training.line import TrainingLine, UpdateReport
from .database import SIGNAL_LOG, LoggedSignal, MetricsWriter, log_digests
from .recovery import SNAPSHOT, load_newest, read_records

REPORT_SEED = 0xE7A1  # evaluation seeds of curves and report; the gate uses others
KEEP_SNAPSHOTS = 3
TAGS = {
    "train_return": "sparse/train_return",
    "train_success": "sparse/train_success",
    "evaluation_return": "sparse/evaluation_return",
    "evaluation_success": "sparse/evaluation_success",
    "signal_version": "signal/version",
    "shaped_share": "signal/shaped_share",
    "entropy": "policy/entropy",
    "episodes_lost": "task/episodes_lost",
}  # names in the metrics → tags of TensorBoard, whatever the algorithm


class MainRun:
    """The main line of `run_dir`, continued from its newest snapshot where there is one.

    Attributes:
        evaluation: the last one, None before the first.
        played: environment steps of the episodes that were played for evidence, by the update at which they were.
        steps_repeated: steps that were trained again after a crash.
        point: the update of the adaptation point that the line stands at; None between points and when released.
        looks: names of the snapshots that stay for who looked, oldest first.
        signal_log: every change of the signal so far.
        warnings: what was damaged at the start, and how it was made good.
    """

    def __init__(self, run_dir: Path, closing: ExitStack | None = None) -> None:
        """Continue the run; what must be closed at last, environments, goes onto the stack as soon as it is built.

        Raises:
            SnapshotError: snapshots or `trainer.db` are damaged, and it cannot be made good.
        """
        closing = closing or ExitStack()
        self.run_dir = run_dir
        self.config = TrainingConfig.of_run(run_dir)
        # what the database has over restarts
        records = read_records(run_dir)
        self.steps_repeated = records.steps_repeated
        self.looks: list[str] = json.loads(records.looks or "[]")
        self.played: dict[str, int] = json.loads(records.played or "{}")
        self.signal_log = records.signal_log
        self._log_digests = records.digests
        self._known_updates = records.updates
        # transitions of killed trainers
        remove_stale(run_dir / REPLAY)
        # environments
        self.line = TrainingLine(self.config, run_dir / REPLAY, Scorers(run_dir / FOLDER))
        closing.callback(self.line.close)
        evaluation = self.config.trainer.evaluation
        self.evaluator = Evaluator(self.config.task, evaluation.episodes, REPORT_SEED + self.config.seed)
        closing.callback(self.evaluator.close)
        self.evaluation: EvaluationReport | None = None
        self._evaluated = 0  # steps of evaluations, without `played`
        self.point: int | None = None
        # the newest state of the line
        extra, self.warnings = load_newest(self.line, run_dir, records)
        if extra is not None:
            self.point, self._evaluated = extra["point"], extra["steps_evaluation"] - extra.get("steps_played", 0)
            if extra["evaluation"] is not None:
                self.evaluation = EvaluationReport.model_validate(extra["evaluation"])
        self.writer = MetricsWriter(run_dir / "trainer.db")
        self._curve = "" if extra is None else str(extra.get("curve", ""))  # older snapshots are of the first one
        self.board = self._board(self.line.steps_main + 1 if self.line.steps_main else None)

    @property
    def finished(self) -> bool:
        return self.line.steps_main >= self.config.trainer.steps

    @property
    def steps_evaluation(self) -> int:
        """Environment steps that evaluation has taken, and those of episodes that were played for evidence."""
        return self._evaluated + sum(self.played.values())

    def update(self) -> None:
        """Make one update, and what is due after it: evaluation, records, a snapshot."""
        before = self.line.steps_main

        def is_due(every: int | None) -> bool:
            """Return whether the update crossed a multiple of `every` main steps."""
            return every is not None and self.line.steps_main // every > before // every

        report = self.line.update()
        if self.line.update_index in self._known_updates:  # a crash lost the state that this update had led to
            self.steps_repeated += self.line.collector.rollout.steps
        # an adaptation point, at which a lockstep trainer waits
        is_point = is_due(self.config.pause_every_steps) and not self.finished
        self.point = self.line.update_index if is_point else None
        # records: the evaluation comes first, so that its row has it
        evaluates = is_due(self.config.trainer.evaluation.every_steps) or self.finished
        if evaluates:
            self._evaluate()
        self._record(report, self.evaluation if evaluates else None)
        if is_due(self.config.trainer.checkpoint_every_steps):
            self.checkpoint()

    def close(self) -> None:
        self.writer.close()
        self.board.close()

    # ------------------------------------------------------------ snapshots

    def checkpoint(self) -> str:
        """Snapshot this update boundary, and return the name below the run directory; one that exists stays."""
        name = snapshot_name(self.line.update_index)
        extra: dict[str, object] = {
            "steps_evaluation": self.steps_evaluation,
            "steps_played": sum(self.played.values()),
            "evaluation": None if self.evaluation is None else self.evaluation.model_dump(mode="json"),
            "point": self.point,
            "curve": self._curve,
            SIGNAL_LOG: self._log_digests[self.line.signal.version],
        }
        self.writer.flush()  # a resumed run goes on from here, so every row up to here must be on disk first
        save_snapshot(self.line, self.run_dir / name, extra)
        self.writer.counters(**{SNAPSHOT: self.line.update_index})
        # the state before every change, for a replay or a rollback
        needed = [*(snapshot_name(entry.applied_update) for entry in self.signal_log), *self.looks]
        prune_snapshots(self.run_dir / "checkpoints", KEEP_SNAPSHOTS, {Path(name).name for name in needed})
        return name

    def look(self) -> str:
        """Snapshot this update boundary for who looks, and return its name; the last `trainer.keep_looks` stay.

        A signal that changed at this very boundary is not in it yet.
        """
        name = snapshot_name(self.line.update_index)
        self.looks = [*(look for look in self.looks if look != name), name][-self.config.trainer.keep_looks :]
        self.writer.counters(looks=json.dumps(self.looks))
        return self.checkpoint()

    def play_episodes(self) -> list[EpisodeEvidence]:
        """Play fresh episodes of the policy for evidence. An update at which they were played before counts once."""
        episodes, steps = play_episodes(self.line)
        # On disk before anybody hears of them: a run that is killed now may not ask again.
        self.played[str(self.line.update_index)] = steps
        self.writer.counters(played=json.dumps(self.played))
        self.writer.flush()
        return episodes

    # ------------------------------------------------------------ a state taken over

    def go_on_from(self, update_before: int, steps_before: int) -> None:
        """Record that the line has just taken a state over, and evaluate it.

        Args:
            update_before: the line's update until then. Rows between it and now are of a crash, and are taken out.
            steps_before: its main steps until then. Where the state has fewer, its events are a curve of their own:
                TensorBoard orders a curve by steps, and would draw the two lines as one.
        """
        self.writer.drop_metrics(update_before, self.line.update_index)
        if self.line.steps_main < steps_before:
            self.board.close()
            self._curve = f"from_version_{self.line.signal.version}"
            self.board = self._board(self.line.steps_main)
        self.evaluate_afresh()  # the branch's own figures chose it, so its curve goes on from fresh episodes

    def _board(self, purge: int | None) -> TensorBoardWriter:
        """Open the events of the curve in force; those from `purge` main steps on are of a crashed process."""
        tags = {**TAGS, **self.line.learner.tensorboard_tags}
        return TensorBoardWriter(self.run_dir / "tensorboard" / self._curve, purge, tags)

    # ------------------------------------------------------------ evaluation and records

    def evaluate_afresh(self) -> None:
        """Evaluate and record a state that no update of this line led to: the first one, or one taken over."""
        self._evaluate()
        row = self._common_columns(self.evaluation) | {
            "train_return": None,
            "train_success": None,
            "adopted": self.line.update_index > 0,
            "trained": False,
        }
        self._write_row(row)

    def log_signal(self, entry: LoggedSignal) -> None:
        """Append an entry to the signal log; it is on disk when this returns."""
        self.writer.log_signal(entry)
        self.signal_log.append(entry)
        self._log_digests = log_digests(self.run_dir / "trainer.db")

    def write_counters(self, state: TrainerState, **more: object) -> None:
        """Write the counters of the line, and `more` of them."""
        line = self.line
        self.writer.counters(
            state=state,
            update=line.update_index,
            steps_main=line.steps_main,
            stage=line.stage()[0],
            steps_evaluation=self.steps_evaluation,
            steps_repeated=self.steps_repeated,
            steps_trained=line.steps_trained,
            episodes_lost=line.episodes_lost,
            **more,
        )

    def _evaluate(self) -> None:
        evaluation = self.evaluator.evaluate(self.line.learner)
        self._evaluated += evaluation.steps
        self.evaluation = EvaluationReport(
            steps=self.line.steps_main,
            mean=evaluation.mean_return,
            sd=evaluation.sd,
            episodes=len(evaluation.returns),
            success_rate=evaluation.success_rate,
            version=self.line.signal.version,
        )

    def _record(self, report: UpdateReport, evaluation: EvaluationReport | None) -> None:
        """Write the row of an update; `evaluation`: None where none was made after it."""
        history = report.row
        row = self._common_columns(evaluation) | {
            "train_return": history["returns"],
            "train_success": history["success"],
            "entropy": history["entropy"],
            "no_effect": history["no_effect"],
            "shaped_share": report.shaped_share,
            "terms": history["terms"],
            "adopted": False,
            "trained": True,
        }
        if (factors := self.line.learner.term_factors) is not None:
            row["term_factors"] = dict(zip(history["terms"], factors, strict=True))
        row |= {name: [x.losses[name] for x in report.metrics] for name in report.metrics[0].losses}
        self._write_row(row)

    def _common_columns(self, evaluation: EvaluationReport | None) -> dict[str, Any]:
        """Return what every row of metrics has."""
        return {
            "steps_main": self.line.steps_main,
            "steps_trained": self.line.steps_trained,
            "stage": self.line.stage()[0],
            "signal_version": self.line.signal.version,
            "steps_evaluation": self.steps_evaluation,
            "episodes_lost": self.line.episodes_lost,
            "evaluation_return": evaluation.mean if evaluation else None,
            "evaluation_success": evaluation.success_rate if evaluation else None,
        }

    def _write_row(self, row: dict[str, Any]) -> None:
        self.writer.metrics(self.line.update_index, self.line.steps_main, row)
        self.board.add(self.line.steps_main, row)


class TensorBoardWriter:
    """Writes scalars over main steps."""

    def __init__(self, directory: Path, purge: int | None, tags: Mapping[str, str]) -> None:
        """Open the event file.

        Args:
            directory: of the events of one curve.
            purge: main steps from which on what is there was written by a crashed process, None where nothing is.
            tags: names in the metrics → tags; what has no tag is in `trainer.db` only.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._tags = tags
        self._writer = SummaryWriter(str(directory), purge_step=purge, max_queue=500, flush_secs=10)

    def add(self, steps_main: int, row: dict[str, Any]) -> None:
        """Write what has a tag; a list has one value a group, under tags of their own where there are several."""
        for name, tag in self._tags.items():
            value = row.get(name)
            values = value if isinstance(value, list) else [value]
            for g, x in enumerate(values):
                if x is not None:
                    self._writer.add_scalar(tag if len(values) == 1 else f"{tag}/{g}", x, steps_main)

    def close(self) -> None:
        self._writer.close()
