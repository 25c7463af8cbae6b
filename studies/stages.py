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
from .report import Row, Tell, example_config, finish_study, known_arms, markdown_table, result_row
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
# What is compared: its name, what the row says of it, whether more is better, its value.
MEASURES: tuple[tuple[str, str, bool, Callable[[Outcome], float]], ...] = (
    ("solved", "share solved", True, lambda o: float(o.solved)),
    ("main", "main steps to 90 %", False, lambda o: float(o.main_to_90 or o.steps_main)),
    ("total", "total steps to 90 %", False, lambda o: float(o.total_to_90 or o.steps_total)),
    ("all steps", "total steps of a run", False, lambda o: float(o.steps_total)),
    ("return", "final sparse return", True, lambda o: o.final_return),
)


def run_stages(seeds: int, arms: Sequence[str], tell: Tell, base: RunConfig | None = None) -> dict[str, Any]:
    """Run the named arms, all where none is named, always with `auto`.

    The result is also written to `studies_out/stages/`; `run_two_switch` explains the arguments.
    """
    base = base or example_config()
    wanted = ["auto", *(arm for arm in known_arms(arms, ARMS) if arm != "auto")]
    loops = [
        LoopArm(arm, config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"stage": arm})}))
        for arm in wanted
        for config in seeded(base, seeds)
    ]
    runs = run_loops(loops, tell)
    by_arm = {arm: [run for run in runs if run.outcome.arm == arm] for arm in wanted}
    rows = [row for arm in wanted for row in stage_rows(arm, by_arm[arm])]
    rows += [row for arm in wanted[1:] for row in paired_rows(arm, by_arm[arm], by_arm["auto"])]
    rows += removal_rows(by_arm["auto"])
    extra = {"seeds": [run.outcome.as_dict() | run.details for run in runs]}
    return finish_study(NAME, seeds, arms, rows, markdown_table(rows, COLUMNS), extra, tell, base.seed)


# ---------------------------------------------------------------- results


def stage_rows(arm: str, runs: Sequence[LoopRun]) -> list[Row]:
    """Return an arm's rows."""
    rows = arm_rows(arm, [run.outcome for run in runs])
    promotions = mean_ci([len(accepted(run)) for run in runs])
    rows.append(
        result_row(f"{arm}.promotions", "promotions of a run, removals of shaping apart", len(runs), *promotions)
    )
    if shaped := [run for run in runs if shaped_at(run)]:
        statement = "share of the runs with a promoted potential whose shaping was taken away"
        removed = sum(removed_at(run) is not None for run in shaped)
        rows.append(result_row(f"{arm}.removed", statement, len(shaped), *rare_ci(removed, len(shaped))))
    return rows


def paired_rows(arm: str, runs: Sequence[LoopRun], auto: Sequence[LoopRun]) -> list[Row]:
    """Return auto − arm, seed by seed.

    Positive is in favour of knowing the stage where more is better, and negative where less is.
    """
    rows = []
    for name, label, more_is_better, measure in MEASURES:
        values = [measure(a.outcome) - measure(b.outcome) for a, b in zip(auto, runs, strict=True)]
        mean, interval = mean_ci(values)
        # turned so that positive is always in favour of knowing the stage
        low, high = interval if more_is_better else (-interval[1], -interval[0])
        verdict = "worth it" if low > 0 else "harmful" if high < 0 else "worth nothing that shows"
        if len(values) == 1:
            verdict = "one seed shows nothing"
        statement = f"{label}, stage known minus always {arm}, paired by seed"
        rows.append(result_row(f"auto − {arm}: {name}", statement, len(values), mean, interval, verdict))
    return rows


def removal_rows(runs: Sequence[LoopRun]) -> list[Row]:
    """Return S-1, how often a promoted potential was taken away again, and S-2, what the return did then."""
    shaped = [run for run in runs if shaped_at(run)]
    removed = [run for run in shaped if removed_at(run) is not None]
    if not shaped:
        return []
    share = rare_ci(len(removed), len(shaped))
    rows = [result_row("S-1", "shaping is taken away at convergence", len(shaped), *share)]
    changes = []
    for run in removed:
        # evaluations of the solved task before the removal, any after it; without one of either there is no change
        at, curve = removed_at(run) or 0, run.details["curve"]
        before = [value for steps, value, success in curve if steps <= at and (success or 0.0) >= SOLVED]
        after = [value for steps, value, _ in curve if steps > at]
        if before and after:
            changes.append(sum(after) / len(after) - sum(before) / len(before))
    if changes:
        statement = "sparse return after the removal minus before it, where the task was solved (mean evaluations)"
        rows.append(result_row("S-2", statement, len(changes), *mean_ci(changes)))
    return rows


def shaped_at(run: LoopRun) -> int | None:
    """Return the main steps at which a potential that stays was first put in force, None where none ever was."""
    return next((entry["steps"] for entry in run.details["signals"] if entry["staying"]), None)


def removed_at(run: LoopRun) -> int | None:
    """Return the main steps from which on no potential stays in force, None where one does or none ever did.

    Potentials that fade do not stay.
    """
    since: int | None = None
    for entry in run.details["signals"]:
        since = None if entry["staying"] else entry["steps"] if since is None else since
    return since if shaped_at(run) is not None and (since or 0) > 0 else None
