"""`cosignal study stages`: what it is worth that the loop knows the stage of learning.

The shipped Two-Switch example with the embedded rules. `auto` knows the stage; the other arms are told the same one for
ever (`adaptation.stage`): `exploring`, `plateaued`, `improving`. All comparisons are paired by seed with `auto`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..config.run_config import RunConfig
from .loop_arms import LoopArm, LoopRun, accepted, run_loops
from .outcome import SOLVED, Outcome, mean_ci, rare_ci
from .report import Row, Tell, example_config, finished, known_arms, row, table
from .two_switch import arm_rows, seeded

NAME = "stages"
ARMS = ("auto", "exploring", "plateaued", "improving")
COLUMNS = {
    "solved": "share solved",
    "main_to_90": "main steps to 90 %",
    "total_to_90": "total steps to 90 %",
    "final_return": "final sparse return",
    "steps_total": "total steps of a run",
    "promotions": "promotions",
    "removed": "shaping removed",
}


def run_stages(seeds: int, arms: Sequence[str], tell: Tell, base: RunConfig | None = None) -> dict[str, Any]:
    """The named arms, all where none is named, always with `auto`. Results as plain data, also written to
    `studies_out/stages/`."""
    base = base or example_config()
    wanted = ["auto", *(arm for arm in known_arms(arms, ARMS) if arm != "auto")]
    configs = seeded(base, seeds)
    found = run_loops([LoopArm(arm, _told(arm, config)) for arm in wanted for config in configs], tell)
    runs = {arm: [run for run in found if run.outcome.arm == arm] for arm in wanted}
    rows = [item for arm, mine in runs.items() for item in _rows(arm, mine)]
    rows += [item for arm in wanted[1:] for item in _paired(arm, runs[arm], runs["auto"])]
    rows += _removal(runs["auto"])
    more = {"seeds": [run.outcome.as_dict() | run.details for run in found]}
    return finished(NAME, seeds, arms, rows, table(rows, COLUMNS), more, tell, base.seed)


def _told(stage: str, config: RunConfig) -> RunConfig:
    return config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"stage": stage})})


# ---------------------------------------------------------------- results


def _rows(arm: str, runs: Sequence[LoopRun]) -> list[Row]:
    shaped = [run for run in runs if shaped_at(run)]
    removed = [removed_at(run) is not None for run in shaped]
    promotions = mean_ci([len(accepted(run)) for run in runs])
    statement = "share of the runs with a promoted potential whose shaping was taken away"
    return [
        *arm_rows(arm, [run.outcome for run in runs]),
        row(f"{arm}.promotions", "promotions of a run, removals of shaping apart", len(runs), *promotions),
        *([row(f"{arm}.removed", statement, len(shaped), *rare_ci(sum(removed), len(removed)))] if shaped else []),
    ]


def _paired(arm: str, runs: Sequence[LoopRun], auto: Sequence[LoopRun]) -> list[Row]:
    """auto − arm; positive is in favour of knowing the stage where more is better, and negative where less is."""
    measures: tuple[tuple[str, str, bool, Callable[[Outcome], float]], ...] = (
        ("solved", "share solved", True, lambda o: float(o.solved)),
        ("main", "main steps to 90 %", False, lambda o: float(o.main_to_90 or o.steps_main)),
        ("total", "total steps to 90 %", False, lambda o: float(o.total_to_90 or o.steps_total)),
        ("all steps", "total steps of a run", False, lambda o: float(o.steps_total)),
        ("return", "final sparse return", True, lambda o: o.final_return),
    )
    rows = []
    for name, words, more_is_better, measure in measures:
        values = [measure(a.outcome) - measure(b.outcome) for a, b in zip(auto, runs, strict=True)]
        mean, interval = mean_ci(values)
        statement = f"{words}, stage known minus always {arm}, paired by seed"
        verdict = _worth(interval, more_is_better) if len(values) > 1 else "one seed shows nothing"
        rows.append(row(f"auto − {arm}: {name}", statement, len(values), mean, interval, verdict))
    return rows


def _worth(interval: tuple[float, float], more_is_better: bool) -> str:
    low, high = interval if more_is_better else (-interval[1], -interval[0])
    return "worth it" if low > 0 else "harmful" if high < 0 else "worth nothing that shows"


def _removal(runs: Sequence[LoopRun]) -> list[Row]:
    """Of the runs of `auto` with a promoted potential: was it taken away, and what did the return do then?"""
    shaped = [run for run in runs if shaped_at(run)]
    gone = [run for run in shaped if removed_at(run) is not None]
    if not shaped:
        return []
    rows = [row("S-1", "shaping is taken away at convergence", len(shaped), *rare_ci(len(gone), len(shaped)))]
    changes = [change for run in gone if (change := _change(run)) is not None]
    if changes:
        statement = "sparse return after the removal minus before it, where the task was solved (mean evaluations)"
        rows.append(row("S-2", statement, len(changes), *mean_ci(changes)))
    return rows


def shaped_at(run: LoopRun) -> int | None:
    """Main steps at which a potential that stays was first put in force, None where that never happened."""
    return next((entry["steps"] for entry in run.details["signals"] if entry["staying"]), None)


def removed_at(run: LoopRun) -> int | None:
    """Main steps from which on no potential stays in force (those that fade are on their way), None where one does."""
    since: int | None = None
    for entry in run.details["signals"]:
        since = None if entry["staying"] else entry["steps"] if since is None else since
    return since if shaped_at(run) is not None and (since or 0) > 0 else None


def _change(run: LoopRun) -> float | None:
    """None without an evaluation of the solved task on the one side, or any on the other."""
    at = removed_at(run) or 0
    before = [value for steps, value, success in run.details["curve"] if steps <= at and (success or 0.0) >= SOLVED]
    after = [value for steps, value, _ in run.details["curve"] if steps > at]
    return sum(after) / len(after) - sum(before) / len(before) if before and after else None
