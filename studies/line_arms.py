"""Arms that need no loop: one training line driven in a process of its own."""

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
from ..rl.training.evaluate import Evaluator
from ..rl.training.line import TrainingLine
from .job_cache import Job, run_jobs
from .outcome import SOLVED, Outcome, Point, first_solved, told
from .report import Tell

FINAL_EPISODES = 100
FINAL_SEED = 0xF17A1  # of the final evaluation in every arm; neither the gate nor the run's curve uses it
KICK = 0.05


@dataclass(frozen=True)
class LineArm:
    """`signal`: in force from the first step. `when_stalled`: what happens when the loop's own trigger would fire.

    `budget`: main steps; with restarts, of all attempts together.
    """

    name: str
    signal: SignalConfig
    when_stalled: Literal["go on", "kick", "restart"]
    budget: int


def run_lines(arms: Sequence[LineArm], configs: Sequence[RunConfig], tell: Tell) -> list[Outcome]:
    """Every arm on every config, arm by arm; what was run before is read."""
    pieces = [line_piece(config, arm) for arm in arms for config in configs]
    names = [arm.name for arm in arms for _ in configs]
    values = run_jobs(pieces, tell)
    return [Outcome(**{**value, "arm": name}) for name, value in zip(names, values, strict=True)]


def line_piece(config: RunConfig, arm: LineArm) -> Job:
    """One seed of an arm. An arm's name does not count, nor does what only matters to a loop where nothing reacts to
    a stall."""
    settings = config.model_dump(mode="json", exclude={"run_dir", "llm"})
    if arm.when_stalled == "go on":
        settings["adaptation"] = {"enabled": False}
    content = {
        "config": settings,
        "signal": arm.signal.model_dump(mode="json"),
        "when_stalled": arm.when_stalled,
        "budget": arm.budget,
    }
    return Job("line", content, work_line, f"{arm.name} seed {config.seed}", told)


def work_line(content: dict[str, Any], _folder: Path) -> dict[str, Any]:
    arm = LineArm("line", SignalConfig.model_validate(content["signal"]), content["when_stalled"], content["budget"])
    return run_line(RunConfig.model_validate(content["config"]), arm).as_dict()


def run_line(config: RunConfig, arm: LineArm) -> Outcome:
    """Train one seed of an arm to its budget."""
    one_thread()
    spent, attempt, points = 0, 0, list[Point]()
    while True:
        seed = config.seed + 1000 * attempt
        line = _new_line(config, arm, seed)
        stalled = _train(line, config, arm, arm.budget - spent, spent, points)
        spent += line.steps_main
        attempt += 1
        if not stalled or spent >= arm.budget:
            return _outcome(config, arm, line, spent, points)


def _new_line(config: RunConfig, arm: LineArm, seed: int) -> TrainingLine:
    return TrainingLine(config.training().model_copy(update={"seed": seed, "signal": arm.signal}))


def _train(line: TrainingLine, config: RunConfig, arm: LineArm, budget: int, before: int, points: list[Point]) -> bool:
    """Train to the budget, or until a restart is due: then True."""
    last_look = 0
    while line.steps_main < budget and not (arm.when_stalled == "restart" and line.steps_main >= config.trainer.steps):
        row = line.update().row
        points.append(Point(before + line.steps_main, before + line.steps_main, row["success"]))
        if line.steps_main % config.adaptation.interval < line.collector.rollout.steps and _stalled(
            line, config, last_look
        ):
            last_look = line.steps_main
            if arm.when_stalled == "restart":
                return True
            if arm.when_stalled == "kick":
                line.explore(Exploration(kick=KICK))
    return False


def _stalled(line: TrainingLine, config: RunConfig, last_look: int) -> bool:
    """The loop's trigger on a line: something is wrong by the stage rule, and the patience is over."""
    now = window(line.history, line.steps_main)
    unsolved = now is None or now.success < SOLVED
    rule = STAGES[line.stage()[0]]
    patience = int(config.adaptation.patience * rule.patience)
    return unsolved and rule.purpose == "repair" and line.steps_main - last_look >= patience


def _outcome(config: RunConfig, arm: LineArm, line: TrainingLine, spent: int, points: list[Point]) -> Outcome:
    final = Evaluator(config.task, FINAL_EPISODES, FINAL_SEED).evaluate(line.learner)
    solved = first_solved(points)
    return Outcome(
        arm.name, config.seed, solved.main if solved else None, solved.total if solved else None, spent, spent,
        final.mean_return, final.success_rate or 0.0,
    )  # fmt: skip
