"""Snapshots of plain training at several competences: where gate trials fork."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...config.run_config import RunConfig
from ...rl.evidence.build import build_evidence
from ...rl.evidence.schema import Evidence
from ...rl.ipc.messages import TrainerStatus
from ...rl.processes import one_thread
from ...rl.stage import window
from ...rl.training.checkpoint import save_snapshot, snapshot_name
from ...rl.training.evaluate import Evaluator
from ...rl.training.line import TrainingLine
from ..job_cache import Job, run_jobs
from ..report import Tell

Competence = Literal["start", "early", "emerging", "improving", "solved", "stuck"]
EVALUATION_SEED = 0x5A4E  # of the episodes whose return and success a trainer would report there
RECENT = 16_384  # main steps over whose episodes the success rate is looked at
SUCCESS_RATES: tuple[tuple[Competence, float, float], ...] = (  # from, below
    ("emerging", 0.05, 0.2), ("improving", 0.4, 0.65), ("solved", 0.95, 1.01),
)  # fmt: skip
EARLY, LATE = 98_304, 425_984  # main steps: six adaptation intervals, and where a stalled run has long been stalled


@dataclass(frozen=True)
class Snapshot:
    """A state of plain training.

    Attributes:
        competence: what it stands for.
        config: of the run.
        folder: a run directory as far as branches need one; the snapshot is at `status.snapshot` below it.
        status: what a trainer would report there.
        evidence: what models would see there.
    """

    competence: Competence
    config: RunConfig
    folder: Path
    status: TrainerStatus
    evidence: Evidence

    @property
    def name(self) -> str:
        """Competence and seed."""
        return f"{self.competence}-s{self.config.seed}"


def record_snapshots(configs: Sequence[RunConfig], tell: Tell) -> list[Snapshot]:
    """Train each config plainly, and return its first state at every competence that it passes."""
    values = run_jobs([snapshot_job(config) for config in configs], tell)
    return [
        Snapshot(
            row["competence"], config, Path(row["folder"]), TrainerStatus.model_validate(row["status"]),
            Evidence.model_validate(row["evidence"]),
        )
        for config, rows in zip(configs, values, strict=True)
        for row in rows
    ]  # fmt: skip


def snapshot_job(config: RunConfig) -> Job:
    """Return the job of one plain run."""
    content = {"config": config.model_dump(mode="json", exclude={"run_dir"}), "early": EARLY, "late": LATE}
    name = f"plain training, seed {config.seed}"
    return Job("snapshots", content, work_snapshots, name, lambda rows: ", ".join(row["competence"] for row in rows))


def work_snapshots(content: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Do the work of a `snapshot_job`: train until solved or `late`; keep the first state of each competence."""
    one_thread()
    config = RunConfig.model_validate(content["config"])
    line = TrainingLine(config.training())
    evaluator = Evaluator(config.task, config.trainer.evaluation.episodes, EVALUATION_SEED)
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "branches").mkdir(exist_ok=True)
    rows: dict[Competence, dict[str, Any]] = {}
    while "solved" not in rows and line.steps_main < content["late"]:
        line.update()
        competence = competence_of(line, content["early"], content["late"])
        if competence is None or competence in rows:
            continue
        # save the state, and what a trainer would report and models would see there
        name, evaluation = snapshot_name(line.update_index), evaluator.evaluate(line.learner)
        save_snapshot(line, folder / name)
        status = TrainerStatus(
            state="waiting", update=line.update_index, steps_main=line.steps_main, steps_evaluation=evaluation.steps,
            steps_repeated=0, steps_trained=line.steps_trained, steps_budget=config.trainer.steps,
            waiting_at=line.update_index, snapshot=name, stage=line.stage()[0], signal=line.signal,
            sparse_return=evaluation.mean_return, success_rate=evaluation.success_rate,
        )  # fmt: skip
        rows[competence] = {
            "competence": competence,
            "folder": str(folder),
            "status": status.model_dump(mode="json"),
            "evidence": build_evidence(line, config.trainer.steps).model_dump(mode="json"),
        }
    return list(rows.values())


def competence_of(line: TrainingLine, early: int, late: int) -> Competence | None:
    """Return what this update boundary stands for, None for what lies between.

    Args:
        line: at the boundary.
        early: main steps up to which a run is early.
        late: main steps from which on a run without success is stuck.
    """
    now, steps = window(line.history, line.steps_main, RECENT), line.collector.rollout.steps
    if now is None:
        return None
    if line.steps_main <= early:  # the first boundary with finished episodes, and the last one that is early
        return "early" if line.steps_main > early - steps else "start"
    by_success = (name for name, low, high in SUCCESS_RATES if low <= now.success < high)
    stuck: Competence | None = "stuck" if line.steps_main >= late and now.success < 0.05 else None
    return next(by_success, stuck)
