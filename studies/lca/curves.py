"""One seed of one arm of the LCA study: pairs of moves, scorers fitted to them, training, and its learning curve."""

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
from ...rl.training.line import TrainingLine
from ..job_cache import Job, run_jobs
from ..line_arms import evaluate_last_policy
from ..report import Tell
from .arms import LcaArm, LcaTask, training_config

LAST = 0.1  # share of the budget whose mean is R
HALF_WAY = 0.5


@dataclass(frozen=True)
class Curve:
    """The learning curve of one seed, with a point after each update from the first full window on.

    Attributes:
        seed: of the run.
        steps: [n] environment steps at each point.
        returns: [n] mean metric return of the last `LcaTask.window` training episodes.
        successes: [n] share of them that succeeded.
        final_return: mean metric return of FINAL_EPISODES fresh episodes of the last policy.
        final_success: share of those that succeeded.
        agreement: [g] share of pairs kept apart on which a group's scorer has the true label; None where unknown.
        pair_steps: environment steps in which pairs were collected.
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
        """Return the mean of `returns` or `successes` over the last 10 % of the budget (R of a run)."""
        steps = np.array(self.steps)
        return float(np.array(values)[steps > (1 - LAST) * steps[-1]].mean())

    @property
    def area(self) -> float:
        """Mean return over the whole budget (AUC of a run)."""
        return float(np.mean(self.at(np.linspace(0, self.steps[-1], 501)[1:])))

    def at(self, steps: NDArray[Any]) -> NDArray[np.float64]:
        """Return the curve at other steps [k]; before its first point that point's return."""
        return np.asarray(np.interp(steps, self.steps, self.returns))

    def steps_to(self, level: float) -> float:
        """Return the first steps at which the curve is at `level`; the budget where it never is."""
        return float(
            next((s for s, value in zip(self.steps, self.returns, strict=True) if value >= level), self.steps[-1])
        )


Curves = Mapping[str, list[Curve]]  # arm → curve of each seed


def run_curves(task: LcaTask, arms: Sequence[LcaArm], seeds: Sequence[int], tell: Tell) -> dict[str, list[Curve]]:
    """Train every arm on every seed; cached curves are read."""
    values = iter(run_jobs([curve_job(task, arm, seed) for arm in arms for seed in seeds], tell))
    return {arm.name: [Curve(**next(values)) for _ in seeds] for arm in arms}


def curve_job(task: LcaTask, arm: LcaArm, seed: int) -> Job:
    """Return the job of one curve; the arm's names do not count."""
    # equal settings are one job, whatever a figure calls the arm
    settings = {name: value for name, value in asdict(arm).items() if name not in ("name", "label", "drawn")}
    content = {"task": asdict(task), "arm": settings, "seed": seed}

    def summarise(value: Mapping[str, Any]) -> str:
        return f"ends at {value['returns'][-1]:.2f}, success {value['successes'][-1]:.0%}"

    return Job("lca", content, work_curve, f"{task.name} {arm.name} seed {seed}", summarise)


def work_curve(content: dict[str, Any], _folder: Path) -> dict[str, Any]:
    """Do the work of a `curve_job`."""
    one_thread()
    task = LcaTask(**content["task"])
    return asdict(train_curve(task, LcaArm("arm", "arm", **content["arm"]), content["seed"]))


def train_curve(task: LcaTask, arm: LcaArm, seed: int) -> Curve:
    """Train one seed to its budget."""
    line, fitted, pair_steps = new_line(task, arm, seed)
    steps, returns, successes = list[int](), list[float](), list[float]()
    while line.steps_main < task.steps:
        line.update()
        if len(line.episodes) < task.window:
            continue
        # of the last full window of training episodes
        last_returns, last_successes = (
            line.episodes.recent(name)[-task.window :].astype(float) for name in ("returns", "successes")
        )
        steps.append(line.steps_main)
        returns.append(round(float((last_returns + task.per_success * last_successes).mean()), 4))
        successes.append(round(float(last_successes.mean()), 4))
    final = evaluate_last_policy(line)
    success = final.success_rate or 0.0
    return Curve(
        seed, steps, returns, successes, round(final.mean_return + task.per_success * success, 4), success,
        [None if fit.agreement is None else round(fit.agreement, 4) for fit in fitted], pair_steps,
    )  # fmt: skip


# ---------------------------------------------------------------- scorers


def new_line(task: LcaTask, arm: LcaArm, seed: int) -> tuple[TrainingLine, list[Fitted], int]:
    """Return a line that is paid as the arm says, its scorers, and the environment steps that their pairs took."""
    line = TrainingLine(training_config(task, arm, seed))
    if not arm.queries:
        return line, [], 0
    fitted, steps = fit_scorers(task, arm, seed)
    pay_by(line, fitted)
    return line, fitted, steps


def pay_by(line: TrainingLine, fitted: Sequence[Fitted]) -> None:
    """Put scorers in force, one for each group, in the paper's form.

    They are in units of their own: one good move is worth about 1, beside the team's reward as the task gives it.
    """
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
    """Fit a scorer for each group to the votes of an oracle.

    Moves without a preference are left out where votes may be wrong: a flipped tie would be noise alone.

    Args:
        task: how many pairs are collected.
        arm: how many votes a pair gets, and how many of them are right.
        seed: fixes the pairs, the votes and the fits.
        act: who plays, as `collect_pairs` has it.
        spread: as `collect_pairs` has it.

    Returns:
        The scorers [g], and the environment steps that were played.
    """
    ties, config = task.keep_ties and arm.accuracy == 1.0, TaskConfig.model_validate({"name": task.name})
    collected = collect_pairs(config, task.counts, seed, act, keep_ties=ties, spread=spread)
    fits = []
    for pairs in collected.pairs:
        votes = confidence(oracle_votes(pairs.label, arm.queries, arm.accuracy, seed))
        fits.append(fit_scorer(pairs, votes, ScorerConfig(), seed))
    return fits, collected.steps


def half_way(task: LcaTask) -> float:
    """Return half of the optimum, or where that is 0 the return half of the paper's axis below it."""
    return HALF_WAY * task.optimum if task.optimum else task.optimum - HALF_WAY * task.range
