"""Arms that are whole runs: the loop, and the loop's proposals without the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..graphs.run import start
from ..rl.checkpoint import load_snapshot, newest_snapshot
from ..rl.evaluate import Evaluator
from ..rl.training import TrainingLine
from ..runs.store import RunView, steps_of
from .lines import FINAL_EPISODES, FINAL_SEED
from .outcome import Outcome, Point, first_solved


async def run_loop(config: RunConfig) -> Path:
    """Run to the end; returns the run directory."""
    async with start(config) as run:
        async for _ in run.events():
            pass
        return (await run.result()).path


def outcome_of(arm: str, config: RunConfig, path: Path) -> Outcome:
    """Read what a finished run came to, and evaluate its last state on the study's own episodes."""
    view = RunView(path)
    solved = first_solved(points_of(view))
    status = view.status()
    line = TrainingLine(config.training())
    newest = newest_snapshot(path / "checkpoints")
    if newest is None:
        raise FileNotFoundError(f"a finished run has a snapshot, {str(path)!r} has none")
    load_snapshot(line, newest)
    final = Evaluator(config.task, FINAL_EPISODES, FINAL_SEED).evaluate(line.learner)
    rejections = sum(row["verdict"] in ("reject", "no_difference", "not_informative") for row in view.decisions())
    return Outcome(
        arm, config.seed, solved.main if solved else None, solved.total if solved else None,
        status["steps_main"], status["steps_total"], final.mean_return, final.success_rate or 0.0,
        status["promotions"], rejections,
    )  # fmt: skip


def points_of(view: RunView) -> list[Point]:
    """The run's updates with main and total steps: evaluation and every branch up to then, adopted steps once."""
    branches = sorted((row["point"], steps_of(row)) for row in view.branches())
    adoptions = [row for row in view.signals() if row["adopt"]]
    rows = view.metrics()
    points = []
    for row in rows:
        spent = sum(steps for point, steps in branches if point < row["update"])
        adopted = sum(_adopted_steps(a, rows) for a in adoptions if a["applied_update"] < row["update"])
        fresh = row["evaluation_success"] if row["adopted"] else None
        total = row["steps"] + row["steps_evaluation"] + spent - adopted
        points.append(Point(row["steps"], total, row["train_success"], fresh))
    return points


def _adopted_steps(adoption: dict[str, Any], rows: list[dict[str, Any]]) -> int:
    """How far the main line jumped: from the fork to the first row after it."""
    after = next(row for row in rows if row["update"] > adoption["applied_update"])
    return int(after["steps"] - adoption["applied_steps"])
