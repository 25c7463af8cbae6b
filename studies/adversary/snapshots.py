"""Snapshots of plain training at several competences: where gate trials fork."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...config.run_config import RunConfig
from ...rl.evidence.build import build_evidence
from ...rl.evidence.schema import Evidence
from ...rl.ipc.messages import TrainerStatus
from ...rl.processes import one_thread
from ...rl.stage import Window, window
from ...rl.training.checkpoint import save_snapshot, snapshot_name
from ...rl.training.evaluate import Evaluation, Evaluator
from ...rl.training.line import TrainingLine
from ..job_cache import Job, run_jobs
from ..report import Tell

Competence = Literal["start", "early", "emerging", "improving", "solved", "stuck"]
COMPETENCES: tuple[Competence, ...] = get_args(Competence)
EVALUATION_SEED = 0x5A4E  # of the return and the success that the trainer would report there
RECENT = 16_384  # main steps over whose episodes the success rate is looked at
EARLY, LATE = 98_304, 425_984  # main steps: three adaptation intervals, and where a stalled run has long been stalled


@dataclass(frozen=True)
class Snapshot:
    """`folder`: a run directory as far as branches need one; the snapshot is at `status.snapshot` below it."""

    competence: Competence
    config: RunConfig
    folder: Path
    status: TrainerStatus
    evidence: Evidence

    @property
    def name(self) -> str:
        return f"{self.competence}-s{self.config.seed}"


def record(configs: Sequence[RunConfig], tell: Tell) -> list[Snapshot]:
    """Train each config plainly and keep its first state at every competence that it passes."""
    pieces = [snapshot_piece(config) for config in configs]
    found = run_jobs(pieces, tell)
    return [_read(config, value) for config, values in zip(configs, found, strict=True) for value in values]


def snapshot_piece(config: RunConfig) -> Job:
    content = {"config": config.model_dump(mode="json", exclude={"run_dir"}), "early": EARLY, "late": LATE}
    name = f"plain training, seed {config.seed}"
    return Job("snapshots", content, work_snapshots, name, lambda rows: ", ".join(row["competence"] for row in rows))


def work_snapshots(content: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Train until solved or `late`; at the end of every update see which competence is new."""
    one_thread()
    config = RunConfig.model_validate(content["config"])
    line = TrainingLine(config.training())
    evaluator = Evaluator(config.task, config.trainer.evaluation.episodes, EVALUATION_SEED)
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "branches").mkdir(exist_ok=True)
    rows: dict[Competence, dict[str, Any]] = {}
    while "solved" not in rows and line.steps_main < content["late"]:
        line.update()
        competence = _competence(line, content["early"], content["late"])
        if competence is not None and competence not in rows:
            rows[competence] = _keep(competence, line, evaluator.evaluate(line.learner), config, folder)
    return list(rows.values())


def _competence(line: TrainingLine, early: int, late: int) -> Competence | None:
    """What this update boundary stands for, None for what lies between."""
    now, steps = window(line.history, line.steps_main, RECENT), line.collector.rollout.steps
    if now is None:
        return None
    if line.steps_main <= early:  # the first boundary with finished episodes, and the last one that is early
        return "early" if line.steps_main > early - steps else "start"
    return _by_success(now) or ("stuck" if line.steps_main >= late and now.success < 0.05 else None)


def _by_success(now: Window) -> Competence | None:
    bounds: tuple[tuple[Competence, float, float], ...] = (
        ("emerging", 0.05, 0.2), ("improving", 0.4, 0.65), ("solved", 0.95, 1.01),
    )  # fmt: skip
    return next((name for name, low, high in bounds if low <= now.success < high), None)


def _keep(
    competence: Competence, line: TrainingLine, found: Evaluation, config: RunConfig, folder: Path
) -> dict[str, Any]:
    name = snapshot_name(line.update_index)
    save_snapshot(line, folder / name)
    status = TrainerStatus(
        state="waiting", update=line.update_index, steps_main=line.steps_main, steps_evaluation=found.steps,
        steps_repeated=0, steps_adopted=0, steps_budget=config.trainer.steps, waiting_at=line.update_index,
        snapshot=name, stage=line.stage()[0], signal=line.signal,
        sparse_return=found.mean_return, success_rate=found.success_rate,
    )  # fmt: skip
    evidence = build_evidence(line, config.trainer.steps)
    return {
        "competence": competence,
        "folder": str(folder),
        "status": status.model_dump(mode="json"),
        "evidence": evidence.model_dump(mode="json"),
    }


def _read(config: RunConfig, row: dict[str, Any]) -> Snapshot:
    status, evidence = TrainerStatus.model_validate(row["status"]), Evidence.model_validate(row["evidence"])
    return Snapshot(row["competence"], config, Path(row["folder"]), status, evidence)
