"""`cosignal study two-switch`: what the loop is worth, against plain training, restarts and blind shaping.

Arms, all on the same seeds 1…N and main-step budget (restarts: as many total steps as the loop may take):

* `loop`            the shipped example: rules propose, the gate decides
* `plain`           IPPO on the sparse reward
* `restarts`        plain, begun anew with another seed whenever the loop's trigger would fire
* `shaped`          a hand-made potential over the same features, in force from the first step
* `shaped_kick`     the same, and the exploration kick whenever the loop's trigger would fire
* `no_gate`         the loop's first-ranked proposal is put in force without any branch
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..config.run_config import RunConfig
from ..rl.signals.config import SignalConfig
from ..rl.signals.terms import PotentialTerm
from .line_arms import LineArm, run_lines
from .loop_arms import LoopArm, run_loops
from .outcome import Outcome, mean_ci, median_censored, share_ci
from .report import Row, Tell, example_config, finish_study, known_arms, markdown_table, result_row

NAME = "two-switch"
ARMS = ("loop", "plain", "restarts", "shaped", "shaped_kick", "no_gate")
RUN_ARMS = {"loop": True, "no_gate": False}  # arm → whether the gate decides

# What an engineer who knows the task writes: count the switches, walk to the nearest one, then to the goal. 4 is the
# width of the return range, 3 the width of the expression, so that with beta 0.5 crossing it is worth half the range.
HAND_MADE = PotentialTerm(
    name="hand_made",
    expression="switches_triggered / 2 + door_open * (1 - dist_goal / 26)"
    " - (1 - door_open) * dist_nearest_open_switch / 12",
    weight=4 / 3,
)
HAND_SHAPED = SignalConfig(beta=0.5, terms=(HAND_MADE,))


def run_two_switch(seeds: int, arms: Sequence[str], tell: Tell, base: RunConfig | None = None) -> dict[str, Any]:
    """Run the named arms, all where none is named; the result is also written to `studies_out/two-switch/`.

    Args:
        seeds: how many, from the seed of `base` on.
        arms: some of ARMS.
        tell: is given lines of progress.
        base: config of the arms, the shipped example where None.

    Raises:
        ConfigError: an arm is unknown.
    """
    base = base or example_config()
    wanted = known_arms(arms, ARMS)
    configs = seeded(base, seeds)
    # restarts may take as many main steps as the loop may take of all kinds
    steps = base.trainer.steps
    line_arms = [
        plain_arm(base),
        LineArm("restarts", SignalConfig(), "restart", round(steps / (1 - base.adaptation.max_share))),
        LineArm("shaped", HAND_SHAPED, "go on", steps),
        LineArm("shaped_kick", HAND_SHAPED, "kick", steps),
    ]
    outcomes = run_lines([arm for arm in line_arms if arm.name in wanted], configs, tell)
    loops = [
        LoopArm(arm, config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"gated": gated})}))
        for arm, gated in RUN_ARMS.items()
        if arm in wanted
        for config in configs
    ]
    outcomes += [run.outcome for run in run_loops(loops, tell)]
    by_arm = {arm: sorted((o for o in outcomes if o.arm == arm), key=lambda o: o.seed) for arm in ARMS if arm in wanted}
    rows = [row for arm in by_arm for row in arm_rows(arm, by_arm[arm])]
    if {"loop", "plain"} <= by_arm.keys():
        rows += comparison_rows(by_arm, seeds)
    extra = {"outcomes": [o.as_dict() for o in outcomes]}
    return finish_study(NAME, seeds, arms, rows, markdown_table(rows), extra, tell, base.seed)


def seeded(base: RunConfig, seeds: int) -> list[RunConfig]:
    """Return `base` with its own seed and those that follow it, `seeds` in all."""
    return [base.model_copy(update={"seed": seed}) for seed in range(base.seed, base.seed + seeds)]


def plain_arm(config: RunConfig) -> LineArm:
    """Return the arm of plain training: the sparse reward, and nobody reacts to a stall."""
    return LineArm("plain", SignalConfig(), "go on", config.trainer.steps)


# ---------------------------------------------------------------- results


def arm_rows(arm: str, outcomes: Sequence[Outcome]) -> list[Row]:
    """Return an arm's rows: share solved, steps to 90 % success, return at the end, all steps."""
    n = len(outcomes)
    solved = share_ci(sum(o.solved for o in outcomes), n)
    returns, totals = ([getattr(o, field) for o in outcomes] for field in ("final_return", "steps_total"))
    return [
        result_row(f"{arm}.solved", "share of seeds that reach 90 % success", n, *solved),
        steps_to_90_row(arm, outcomes, "main"),
        steps_to_90_row(arm, outcomes, "total"),
        result_row(f"{arm}.final_return", "sparse return at the end", n, *mean_ci(returns)),
        result_row(f"{arm}.steps_total", "all environment steps of a run", n, *mean_ci(totals)),
    ]


def steps_to_90_row(arm: str, outcomes: Sequence[Outcome], which: Literal["main", "total"]) -> Row:
    """Return the row of main or total steps to 90 % success."""
    reached = [getattr(o, f"{which}_to_90") for o in outcomes]
    # a seed that never solves the task counts at its end
    censored = [getattr(o, f"steps_{which}") if x is None else x for o, x in zip(outcomes, reached, strict=True)]
    statement = f"{which} steps to 90 % success, unsolved seeds at their end"
    row = result_row(f"{arm}.{which}_to_90", statement, len(outcomes), *mean_ci(censored))
    return row | {"censored": sum(x is None for x in reached), "median": median_censored(reached)}


def comparison_rows(by_arm: Mapping[str, Sequence[Outcome]], seeds: int) -> list[Row]:
    """Return what the study claims: T-1, the loop solves every seed; T-2, more of them than plain training does."""
    loop = by_arm["loop"]
    solved = float(np.mean([o.solved for o in loop]))
    verdict = "reproduced" if solved == 1 else "weaker" if solved >= 0.9 else "not reproduced"
    interval = share_ci(sum(o.solved for o in loop), seeds)[1]
    rows = [result_row("T-1", "the loop solves every seed", seeds, solved, interval, verdict)]
    pairs = zip(loop, by_arm["plain"], strict=True)
    mean, interval = mean_ci([float(one.solved) - float(plain.solved) for one, plain in pairs])
    verdict = "reproduced" if interval[0] > 0 else "weaker" if mean > 0 else "not reproduced"
    statement = "the loop's share solved is above plain's, paired by seed"
    return [*rows, result_row("T-2", statement, seeds, mean, interval, verdict)]
