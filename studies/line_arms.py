"""Arms that need no loop: one training line that is driven directly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..config.run_config import RunConfig
from ..rl.processes import one_thread
from ..rl.signals.config import SignalConfig
from ..rl.signals.signal import Exploration
from ..rl.stage import STAGES, window
from ..rl.training.evaluate import Evaluation, Evaluator
from ..rl.training.line import TrainingLine
from .job_cache import Job, run_jobs
from .outcome import SOLVED, Outcome, Point, first_solved, summarise_outcome
from .report import Tell

FINAL_EPISODES = 100
FINAL_SEED = 0xF17A1  # of the final evaluation in every arm; neither the gate nor the run's curve uses it
KICK = 0.05  # strength of the exploration kick


@dataclass(frozen=True)
class LineArm:
    """A training line under one signal.

    Attributes:
        name: of the arm.
        signal: in force from the first step.
        when_stalled: what happens when the loop's own trigger would fire.
        budget: main steps; with restarts, of all attempts together.
    """

    name: str
    signal: SignalConfig
    when_stalled: Literal["go on", "kick", "restart"]
    budget: int


def run_lines(arms: Sequence[LineArm], configs: Sequence[RunConfig], tell: Tell) -> list[Outcome]:
    """Run every arm on every config and return the outcomes, arm by arm; cached ones are read."""
    values = run_jobs([line_job(config, arm) for arm in arms for config in configs], tell)
    names = [arm.name for arm in arms for _ in configs]
    return [Outcome(**{**value, "arm": name}) for name, value in zip(names, values, strict=True)]


def line_job(config: RunConfig, arm: LineArm) -> Job:
    """Return the job of one seed of an arm.

    The arm's name does not count, nor does what only matters to a loop where nothing reacts to a stall.
    """
    settings = config.model_dump(mode="json", exclude={"run_dir", "llm"})
    if arm.when_stalled == "go on":
        settings["adaptation"] = {"enabled": False}
    content = {
        "config": settings,
        "signal": arm.signal.model_dump(mode="json"),
        "when_stalled": arm.when_stalled,
        "budget": arm.budget,
    }
    return Job("line", content, work_line, f"{arm.name} seed {config.seed}", summarise_outcome)


def work_line(content: dict[str, Any], _folder: Path) -> dict[str, Any]:
    """Do the work of a `line_job`."""
    arm = LineArm("line", SignalConfig.model_validate(content["signal"]), content["when_stalled"], content["budget"])
    return run_line(RunConfig.model_validate(content["config"]), arm).as_dict()


def run_line(config: RunConfig, arm: LineArm) -> Outcome:
    """Train one seed of an arm to its budget; with restarts, several lines one after another."""
    one_thread()
    spent, attempt, points = 0, 0, list[Point]()
    stalled = True
    while stalled and (attempt == 0 or spent < arm.budget):
        # a restart is another seed, counted on
        seed = config.seed + 1000 * attempt
        line = TrainingLine(config.training().model_copy(update={"seed": seed, "signal": arm.signal}))
        stalled = _train(line, config, arm, arm.budget - spent, spent, points)
        spent += line.steps_main
        attempt += 1
    return outcome_of_line(line, arm.name, config.seed, points, spent, spent)


def outcome_of_line(
    line: TrainingLine, arm: str, seed: int, points: Sequence[Point], steps_main: int, steps_total: int
) -> Outcome:
    """Evaluate the line's last policy, and return what the seed came to."""
    final, solved = evaluate_last_policy(line), first_solved(points)
    return Outcome(
        arm, seed, solved.main if solved else None, solved.total if solved else None, steps_main, steps_total,
        final.mean_return, final.success_rate or 0.0,
    )  # fmt: skip


def evaluate_last_policy(line: TrainingLine) -> Evaluation:
    """Evaluate the line's policy on the study's own episodes, which are the same for every arm."""
    return Evaluator(line.config.task, FINAL_EPISODES, FINAL_SEED).evaluate(line.learner)


def _train(line: TrainingLine, config: RunConfig, arm: LineArm, budget: int, before: int, points: list[Point]) -> bool:
    """Train to the budget, or until a restart is due; return whether one is."""
    last_look = 0
    while line.steps_main < budget and not (arm.when_stalled == "restart" and line.steps_main >= config.trainer.steps):
        row = line.update().row
        points.append(Point(before + line.steps_main, before + line.steps_main, row["success"]))
        # the first update of every adaptation interval, where a loop would look
        looks = line.steps_main % config.adaptation.interval < line.collector.rollout.steps
        if looks and _stalled(line, config, last_look):
            last_look = line.steps_main
            if arm.when_stalled == "restart":
                return True
            if arm.when_stalled == "kick":
                line.explore(Exploration(kick=KICK))
    return False


def _stalled(line: TrainingLine, config: RunConfig, last_look: int) -> bool:
    """Return whether the loop's trigger would fire: something is wrong by the stage rule, and the patience is over."""
    now = window(line.history, line.steps_main)
    unsolved = now is None or now.success < SOLVED
    rule = STAGES[line.stage()[0]]
    patience = int(config.adaptation.patience * rule.patience)
    return unsolved and rule.purpose == "repair" and line.steps_main - last_look >= patience
