"""One seed of one arm of the LCA study: pairs, scorers and training in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...rl.envs.config import TaskConfig
from ...rl.preferences.collect import Act, collect_pairs
from ...rl.preferences.config import ScorerConfig
from ...rl.preferences.fit import Fitted, fit_scorer
from ...rl.preferences.votes import confidence, oracle_votes
from ...rl.processes import one_thread
from ...rl.signals.signal import Signal
from ...rl.signals.terms import LearnedTerm
from ...rl.training.evaluate import Evaluator
from ...rl.training.line import TrainingLine
from ..job_cache import Job, run_jobs
from ..line_arms import FINAL_EPISODES, FINAL_SEED
from ..report import Tell
from .arms import LcaArm, LcaTask, training_config

LAST = 0.1  # share of the budget whose mean is R
HALF_WAY = 0.5


@dataclass(frozen=True)
class Curve:
    """Of one seed, after each update from the first full window on: `steps` [n], and of the last episodes of training
    (`LcaTask.window`) the mean metric return `returns` [n] and the share of successes `successes` [n].

    `agreement`: of each group's scorer with true labels on pairs kept apart. `final_return`, `final_success`: of
    FINAL_EPISODES fresh episodes of the last policy. `pair_steps`: environment steps in which pairs were collected.
    """

    seed: int
    steps: list[int]
    returns: list[float]
    successes: list[float]
    final_return: float
    final_success: float
    agreement: list[float | None]
    pair_steps: int

    def last(self, values: Sequence[float]) -> float:
        """Mean of `returns` or `successes` over the last 10 % of the budget (R of a run)."""
        steps = np.array(self.steps)
        return float(np.array(values)[steps > (1 - LAST) * steps[-1]].mean())

    @property
    def area(self) -> float:
        """Mean return over the whole budget (AUC of a run)."""
        return float(np.mean(self.at(np.linspace(0, self.steps[-1], 501)[1:])))

    def at(self, steps: NDArray[Any]) -> NDArray[np.float64]:
        """The curve at other steps; before its first point that point."""
        return np.asarray(np.interp(steps, self.steps, self.returns))

    def steps_to(self, level: float) -> float:
        """First steps at which the curve is at `level`; the budget where it never is."""
        return float(
            next((s for s, value in zip(self.steps, self.returns, strict=True) if value >= level), self.steps[-1])
        )


Curves = Mapping[str, list[Curve]]  # arm → by seed


def run_curves(task: LcaTask, arms: Sequence[LcaArm], seeds: Sequence[int], tell: Tell) -> dict[str, list[Curve]]:
    """Every arm on every seed; what was run before is read."""
    pieces = [curve_piece(task, arm, seed) for arm in arms for seed in seeds]
    found = iter(run_jobs(pieces, tell))
    return {arm.name: [Curve(**next(found)) for _ in seeds] for arm in arms}


def curve_piece(task: LcaTask, arm: LcaArm, seed: int) -> Job:
    """The arm's names do not count."""
    how = {name: value for name, value in asdict(arm).items() if name not in ("name", "label", "drawn")}
    content = {"task": asdict(task), "arm": how, "seed": seed}
    return Job("lca", content, work_curve, f"{task.name} {arm.name} seed {seed}", _told)


def work_curve(content: dict[str, Any], _folder: Path) -> dict[str, Any]:
    one_thread()
    task = LcaTask(**content["task"])
    return asdict(train_curve(task, LcaArm("arm", "arm", **content["arm"]), content["seed"]))


def train_curve(task: LcaTask, arm: LcaArm, seed: int) -> Curve:
    """Train one seed to its budget."""
    line, fitted, pair_steps = new_line(task, arm, seed)
    points = list[tuple[int, float, float]]()
    while line.steps_main < task.steps:
        line.update()
        if len(line.episodes) >= task.window:
            points.append(_point(line, task))
    final = Evaluator(line.config.task, FINAL_EPISODES, FINAL_SEED).evaluate(line.learner)
    success = final.success_rate or 0.0
    steps, returns, successes = (list(values) for values in zip(*points, strict=True))
    return Curve(
        seed, steps, returns, successes, round(final.mean_return + task.per_success * success, 4), success,
        [None if fit.agreement is None else round(fit.agreement, 4) for fit in fitted], pair_steps,
    )  # fmt: skip


def _point(line: TrainingLine, task: LcaTask) -> tuple[int, float, float]:
    """Steps, and of the last finished episodes the mean metric return and the share of successes."""
    returns, successes = (line.episodes.recent(name)[-task.window :].astype(float) for name in ("returns", "successes"))
    mean = float((returns + task.per_success * successes).mean())
    return line.steps_main, round(mean, 4), round(float(successes.mean()), 4)


# ---------------------------------------------------------------- scorers


def new_line(task: LcaTask, arm: LcaArm, seed: int) -> tuple[TrainingLine, list[Fitted], int]:
    """A line that is paid as the arm says; its scorers, and the steps that their pairs took."""
    line = TrainingLine(training_config(task, arm, seed))
    if not arm.queries:
        return line, [], 0
    fitted, steps = fit_scorers(task, arm, seed)
    pay_by(line, fitted)
    return line, fitted, steps


def pay_by(line: TrainingLine, fitted: Sequence[Fitted]) -> None:
    """Put scorers in force, one a group, in the paper's form. They are in units of their own: one good move is worth
    about 1, beside the team's reward as the task gives it."""
    terms = [
        LearnedTerm(
            name=f"scorer_{group.name}", scorer=line.scorers.add(fit.scorer), agents=group.name, form="difference"
        )
        for group, fit in zip(line.spec.groups, fitted, strict=True)
    ]
    line.apply_signal(Signal(beta=1.0, scale=1.0, terms=tuple(terms)))


def fit_scorers(
    task: LcaTask, arm: LcaArm, seed: int, act: Act | None = None, spread: int = 1
) -> tuple[list[Fitted], int]:
    """One a group, fitted to the votes of an oracle that is right with probability `arm.accuracy`. Moves without a
    preference are left out where votes are wrong: a flipped tie would be noise alone. `act`, `spread`: as
    `collect_pairs` has them."""
    ties, config = task.keep_ties and arm.accuracy == 1.0, TaskConfig.model_validate({"name": task.name})
    found = collect_pairs(config, task.counts, seed, act, keep_ties=ties, spread=spread)
    votes = [confidence(oracle_votes(pairs.label, arm.queries, arm.accuracy, seed)) for pairs in found.pairs]
    fits = [fit_scorer(pairs, each, ScorerConfig(), seed) for pairs, each in zip(found.pairs, votes, strict=True)]
    return fits, found.steps


def half_way(task: LcaTask) -> float:
    """The return at half of the optimum, on the paper's axis where the optimum is 0."""
    return HALF_WAY * task.optimum if task.optimum else task.optimum - HALF_WAY * task.range


def _told(value: Mapping[str, Any]) -> str:
    return f"ends at {value['returns'][-1]:.2f}, success {value['successes'][-1]:.0%}"
