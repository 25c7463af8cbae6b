"""Arms that are whole runs of the loop, and what is read out of a finished one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..config.run_config import RunConfig
from ..graphs.session.run import start
from ..rl.processes import one_thread
from ..rl.signals.scorer import FOLDER, Scorers
from ..rl.training.checkpoint import load_snapshot, newest_snapshot
from ..rl.training.evaluate import Evaluator
from ..rl.training.line import TrainingLine
from ..runs.store import RunView, steps_of
from .job_cache import Job, run_jobs
from .line_arms import FINAL_EPISODES, FINAL_SEED
from .outcome import Outcome, Point, first_solved, summarise_outcome
from .report import Tell

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from ..agents.config import Role

Adversaries = Literal["harmful", "half_harmful"]
Json = dict[str, Any]


@dataclass(frozen=True)
class LoopArm:
    """`config`: of one seed. `models`: who answers in place of the config's provider."""

    name: str
    config: RunConfig
    models: Adversaries | None = None


@dataclass(frozen=True)
class LoopRun:
    """What a finished run came to. `details`: as `details_of` has it."""

    outcome: Outcome
    details: Json


def run_loops(arms: Sequence[LoopArm], tell: Tell) -> list[LoopRun]:
    """In order; what was run before, under whatever name and in whatever study, is read."""
    values = run_jobs([loop_job(arm) for arm in arms], tell)
    return [
        LoopRun(Outcome(**{**value["outcome"], "arm": arm.name}), value["details"])
        for arm, value in zip(arms, values, strict=True)
    ]


def loop_job(arm: LoopArm) -> Job:
    content = {"config": arm.config.model_dump(mode="json", exclude={"run_dir"}), "models": arm.models}
    name = f"{arm.name} seed {arm.config.seed}"
    return Job("loop", content, work_loop, name, lambda value: summarise_outcome(value["outcome"]))


def work_loop(content: Json, folder: Path) -> Json:
    """Run to the end, or go on with the run in `folder` that was cut off; then read it."""
    config = RunConfig.model_validate({**content["config"], "run_dir": folder})
    path = _finished(config) or asyncio.run(run_loop(config, _chat_models(content["models"], config.seed)))
    one_thread()
    value = {"outcome": outcome_of("loop", config, path).as_dict(), "details": details_of(RunView(path))}
    for large in ("checkpoints", "branches"):  # databases, logs and the report stay
        shutil.rmtree(path / large, ignore_errors=True)
    return value


def _finished(config: RunConfig) -> Path | None:
    """A run that ended, but whose piece was not written down."""
    runs = [path.parent for path in sorted(config.run_dir.glob("*/run.json"))]
    done = [path for path in runs if newest_snapshot(path / "checkpoints") and RunView(path).state() == "done"]
    return done[0] if done else None


async def run_loop(config: RunConfig, models: Mapping[Role, BaseChatModel] | None = None) -> Path:
    """Run to the end; returns the run directory."""
    async with start(config, resume=True, chat_models=models) as run:
        async for _ in run.events():
            pass
        return (await run.result()).path


def _chat_models(name: Adversaries | None, seed: int) -> Mapping[Role, BaseChatModel] | None:
    if name is None:
        return None
    from .adversary.providers import adversary_models

    return adversary_models(name, seed)


# ---------------------------------------------------------------- reading a run


def outcome_of(arm: str, config: RunConfig, path: Path) -> Outcome:
    """Read what a finished run came to, and evaluate its last state on the study's own episodes."""
    view = RunView(path)
    solved = first_solved(points_of(view))
    status = view.status()
    line = TrainingLine(config.training(), scorers=Scorers(path / FOLDER))
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
    """The run's updates with main and total steps: evaluation and every branch up to then, adopted steps once.

    An adopted state counts by its fresh episodes; a control that became the main line is the main line itself, so that
    its training episodes count, as far as its curve tells them.
    """
    branches = view.branches()
    adoptions = [row for row in view.signals() if row["adopt"]]
    rows = view.metrics()
    points: list[Point] = []
    for row in rows:
        spent = sum(steps_of(branch) for branch in branches if branch["point"] < row["update"])
        before = [adoption for adoption in adoptions if adoption["applied_update"] < row["update"]]
        total = row["steps"] + row["steps_evaluation"] + spent - sum(_adopted_steps(a, rows) for a in before)
        kept = row["adopted"] and before[-1]["cause"] == "control"
        if kept:
            points += _within(before[-1], branches, _update_steps(view), total)
        fresh = row["evaluation_success"] if row["adopted"] and not kept else None
        points.append(Point(row["steps"], total, row["train_success"], fresh))
    return points


def _within(adoption: Json, branches: Sequence[Json], update: int, total: int) -> list[Point]:
    """The updates of a control that was adopted: each has the success of its window of the branch's curve. `total`: at
    the adoption, when all of them had been paid."""
    curve = next(row["result"]["curve"] for row in branches if row["result"]["end_state"] == adoption["adopt"])
    points: list[Point] = []
    since = 0
    for end, _, success in curve:
        updates = max((end - since) // update, 1) if since else 1
        since = end
        steps = [adoption["applied_steps"] + end - update * i for i in reversed(range(updates))]
        points += [Point(main, total, success) for main in steps]
    return points


def _update_steps(view: RunView) -> int:
    trainer = view.config["trainer"]
    return int(trainer["envs"] * trainer["rollout"])


def _adopted_steps(adoption: Json, rows: list[Json]) -> int:
    """How far the main line jumped: from the fork to the first row after it; nothing for the state before an undone
    promotion."""
    after = next(row for row in rows if row["update"] > adoption["applied_update"])
    return int(after["steps"] - adoption["applied_steps"])


def details_of(view: RunView) -> Json:
    """What studies ask of a run besides its outcome, as plain data.

    `proposals`: [point, round, title, whether it passed `check`, whether it was branched]. `decisions`: of every round
    its verdict, the winner's id and title, and whether it only was to take shaping away. `signals`: the log, with the
    number of terms that stay. `curve`: evaluations as [main steps, sparse return, success rate].
    """
    proposals, branches = view.proposals(), view.branches()
    branched = {row["arm"] for row in branches}
    titles = {row["id"]: row["proposal"]["title"] for row in proposals}
    return {
        "branch_steps": sum(steps_of(row) for row in branches),
        "proposals": [
            [row["point"], row["round"], titles[row["id"]], not row["problems"], row["id"] in branched]
            for row in proposals
        ],
        "decisions": [_decision(row, titles) for row in view.decisions()],
        "signals": [_logged(row) for row in view.signals()],
        "curve": [
            [row["steps"], row["evaluation_return"], row["evaluation_success"]]
            for row in view.metrics()
            if row["evaluation_return"] is not None
        ],
    }


def accepted(run: LoopRun, removal: bool = False) -> list[Json]:
    """Decisions that changed the run: of interventions to mend it, or of those that took shaping away."""
    return [row for row in run.details["decisions"] if row["verdict"] == "accept" and row["removal"] == removal]


def _decision(row: Json, titles: Mapping[str, str]) -> Json:
    kept = {key: row[key] for key in ("point", "round", "verdict", "winner", "adopted", "version", "created_steps")}
    return kept | {
        "title": titles.get(row["winner"] or ""),
        "removal": bool(row["detail"].get("removing")),
        "reason": row["detail"].get("reason", ""),
    }


def _logged(row: Json) -> Json:
    terms = row["signal"]["terms"]
    return {
        "version": row["version"],
        "cause": row.get("cause"),
        "steps": row["applied_steps"],
        "adopt": bool(row["adopt"]),
        "terms": len(terms),
        "staying": sum(term["kind"] == "potential" and term.get("anneal_steps") is None for term in terms),
    }
