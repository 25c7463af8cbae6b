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
from ..runs.records import BranchRecord, SignalVersion
from ..runs.run_view import RunView
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
    """A run of the loop.

    Attributes:
        name: of the arm.
        config: of one seed.
        models: who answers in place of the config's provider.
    """

    name: str
    config: RunConfig
    models: Adversaries | None = None


@dataclass(frozen=True)
class LoopRun:
    """The outcome of a finished run, with the details that `details_of` reads."""

    outcome: Outcome
    details: Json


def run_loops(arms: Sequence[LoopArm], tell: Tell) -> list[LoopRun]:
    """Run the arms and return what came of them, in order.

    What was run before, under whatever name and in whatever study, is read.
    """
    values = run_jobs([loop_job(arm) for arm in arms], tell)
    return [
        LoopRun(Outcome(**{**value["outcome"], "arm": arm.name}), value["details"])
        for arm, value in zip(arms, values, strict=True)
    ]


def loop_job(arm: LoopArm) -> Job:
    """Make the job of one run; its content is all that its value follows from."""
    content = {"config": arm.config.model_dump(mode="json", exclude={"run_dir"}), "models": arm.models}
    name = f"{arm.name} seed {arm.config.seed}"
    return Job("loop", content, work_loop, name, lambda value: summarise_outcome(value["outcome"]))


def work_loop(content: Json, folder: Path) -> Json:
    """Run to the end, or go on with the run in `folder` that was cut off; then read it."""
    config, path = run_to_end(content, folder)
    value = read_value(config, path)
    delete_large(path)
    return value


def run_to_end(content: Json, folder: Path) -> tuple[RunConfig, Path]:
    """Do the run of a `loop_job`, or go on with that in `folder`; return its config and the directory of the run."""
    config = RunConfig.model_validate({**content["config"], "run_dir": folder})
    # A run may have ended without its value being written down.
    runs = [path.parent for path in sorted(config.run_dir.glob("*/run.json"))]
    done = [path for path in runs if newest_snapshot(path / "checkpoints") and RunView(path).state() == "done"]
    if done:
        path = done[0]
    else:
        # One that is done, but has lost its snapshots before its value was written down, cannot be read any more.
        for run in runs:
            if RunView(run).state() == "done":
                shutil.rmtree(run)
        models: Mapping[Role, BaseChatModel] | None = None
        if content["models"] is not None:
            from .adversary.providers import adversary_models

            models = adversary_models(content["models"], config.seed)
        path = asyncio.run(run_loop(config, models))
    one_thread()
    # The trainer had its own processes; evaluating takes one thread, so that pieces run beside each other.
    return config, path


def read_value(config: RunConfig, path: Path) -> Json:
    """Read the outcome and the details of a finished run, as plain data."""
    return {"outcome": outcome_of("loop", config, path).as_dict(), "details": details_of(RunView(path))}


def delete_large(path: Path) -> None:
    """Delete the states of a run that has been read; databases, logs and the report stay."""
    for large in ("checkpoints", "branches"):
        shutil.rmtree(path / large, ignore_errors=True)


async def run_loop(config: RunConfig, models: Mapping[Role, BaseChatModel] | None = None) -> Path:
    """Run to the end, and return the run directory."""
    async with start(config, resume=True, chat_models=models) as run:
        async for _ in run.events():
            pass
        return (await run.result()).path


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
    rejections = sum(row.verdict in ("reject", "no_difference", "not_informative") for row in view.decisions())
    return Outcome(
        arm=arm,
        seed=config.seed,
        main_to_90=solved.main if solved else None,
        total_to_90=solved.total if solved else None,
        steps_main=status["steps_main"],
        steps_total=status["steps_total"],
        final_return=final.mean_return,
        final_success=final.success_rate or 0.0,
        promotions=status["promotions"],
        rejections=rejections,
    )


def points_of(view: RunView) -> list[Point]:
    """Read the run's updates with main and total steps.

    An adopted state counts by its fresh episodes; a control that became the main line is the main line itself, so that
    its training episodes count, as far as its curve tells them.
    """
    branches, history = view.branches(), view.step_history()
    adoptions = [row for row in view.signals() if row.adopt]
    trainer = view.config["trainer"]
    points: list[Point] = []
    for row in view.metrics():
        steps = history.at(row["update"], row["steps_trained"], row["steps"], row["steps_evaluation"])
        total = steps.total
        # The last state that was adopted before this update has led to its row, if any has.
        before = [adoption for adoption in adoptions if adoption.applied_update < row["update"]]
        kept = row["adopted"] and before[-1].cause == "control"
        if kept:
            [branch, *_] = [branch for branch in branches if branch.result.end_state == before[-1].adopt]
            points += _within(before[-1], branch, int(trainer["envs"] * trainer["rollout"]), total)
        fresh = row["evaluation_success"] if row["adopted"] and not kept else None
        points.append(Point(row["steps"], total, row["train_success"], fresh))
    return points


def _within(adoption: SignalVersion, branch: BranchRecord, update: int, total: int) -> list[Point]:
    """Give the updates of a control that was adopted: each has the success of its window of the branch's curve.

    Args:
        adoption: the line of the signal log.
        branch: the control's.
        update: environment steps of one.
        total: total steps at the adoption, when all of the branch had been paid.
    """
    points: list[Point] = []
    since = 0
    for end, _, success in branch.result.curve:
        # The first window counts as one update, wherever it ends.
        updates = max((end - since) // update, 1) if since else 1
        since = end
        steps = [adoption.applied_steps + end - update * i for i in reversed(range(updates))]
        points += [Point(main, total, success) for main in steps]
    return points


def details_of(view: RunView) -> Json:
    """Read what studies ask of a run besides its outcome, as plain data.

    `proposals`: [point, round, title, whether it passed `check`, whether it was branched]. `decisions`: of every round
    its verdict, the winner's id and title, whether it only was to take shaping away, what the verdict claims, and of a
    race the winner's kind of arm. `signals`: the log, with the number of terms that stay. `curve`: evaluations as [main
    steps, sparse return, success rate].
    """
    proposals, branches = view.proposals(), view.branches()
    branched = {row.arm for row in branches}
    titles = {row.id: row.proposal.title for row in proposals}
    # Arms of all races; a carried one has the name under which it was proposed.
    kinds = {(race.id, arm.name): arm.kind for race in view.races() for arm in race.detail.arms}
    columns = {"point", "round", "verdict", "winner", "adopted", "version", "created_steps"}
    return {
        "branch_steps": sum(row.steps for row in branches),
        "proposals": [
            [row.point, row.round, row.proposal.title, not row.problems, row.id in branched] for row in proposals
        ],
        "decisions": [
            row.model_dump(mode="json", include=columns)
            | {
                "title": titles.get(row.winner or ""),
                "removal": bool(row.detail.removing),
                "claim": row.detail.claim,
                "kind": kinds.get((row.detail.race or "", row.winner or "")),
                "reason": row.detail.reason,
            }
            for row in view.decisions()
        ],
        "signals": [
            {
                "version": row.version,
                "cause": row.cause,
                "steps": row.applied_steps,
                "adopt": bool(row.adopt),
                "terms": len(row.signal.terms),
                "staying": sum(term.kind == "potential" and term.anneal_steps is None for term in row.signal.terms),
            }
            for row in view.signals()
        ],
        "curve": [
            [row["steps"], row["evaluation_return"], row["evaluation_success"]]
            for row in view.metrics()
            if row["evaluation_return"] is not None
        ],
    }


def accepted(run: LoopRun, removal: bool = False) -> list[Json]:
    """Return decisions that changed the run: of interventions to mend it, or of those that took shaping away."""
    return [row for row in run.details["decisions"] if row["verdict"] == "accept" and row["removal"] == removal]
