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
from typing import Any

import numpy as np

from ..config.run_config import RunConfig
from ..rl.signals.config import SignalConfig
from ..rl.signals.terms import PotentialTerm
from .line_arms import LineArm, run_lines
from .loop_arms import LoopArm, run_loops
from .outcome import Outcome, mean_ci, median_censored, share_ci
from .report import Row, Tell, example_config, finished, known_arms, row, table

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


def run_two_switch(seeds: int, arms: Sequence[str], tell: Tell, base: RunConfig | None = None) -> dict[str, Any]:
    """The named arms, all where none is named; results as plain data, also written to `studies_out/two-switch/`."""
    base = base or example_config()
    wanted = known_arms(arms, ARMS)
    configs = seeded(base, seeds)
    outcomes = run_lines([arm for arm in _line_arms(base) if arm.name in wanted], configs, tell)
    gates = {arm: gated for arm, gated in RUN_ARMS.items() if arm in wanted}
    loops = [LoopArm(arm, _gated(config, gated)) for arm, gated in gates.items() for config in configs]
    outcomes += [run.outcome for run in run_loops(loops, tell)]
    rows = _rows(outcomes, seeds)
    more = {"outcomes": [o.as_dict() for o in outcomes]}
    return finished(NAME, seeds, arms, rows, table(rows), more, tell, base.seed)


def seeded(base: RunConfig, seeds: int) -> list[RunConfig]:
    """`base` with its own seed and those that follow it."""
    return [base.model_copy(update={"seed": seed}) for seed in range(base.seed, base.seed + seeds)]


def plain_arm(config: RunConfig) -> LineArm:
    return LineArm("plain", SignalConfig(), "go on", config.trainer.steps)


def _gated(config: RunConfig, gated: bool) -> RunConfig:
    return config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"gated": gated})})


def _line_arms(config: RunConfig) -> list[LineArm]:
    steps = config.trainer.steps
    hand = SignalConfig(beta=0.5, terms=(HAND_MADE,))
    cap = round(steps / (1 - config.adaptation.max_share))
    return [
        plain_arm(config),
        LineArm("restarts", SignalConfig(), "restart", cap),
        LineArm("shaped", hand, "go on", steps),
        LineArm("shaped_kick", hand, "kick", steps),
    ]


# ---------------------------------------------------------------- results


def by_arm(outcomes: Sequence[Outcome], arms: Sequence[str]) -> dict[str, list[Outcome]]:
    """In the order of `arms`, each by seed; arms that did not run are left out."""
    found = {arm: sorted((o for o in outcomes if o.arm == arm), key=lambda o: o.seed) for arm in arms}
    return {arm: those for arm, those in found.items() if those}


def _rows(outcomes: list[Outcome], seeds: int) -> list[Row]:
    arms = by_arm(outcomes, ARMS)
    rows = [row for arm, found in arms.items() for row in arm_rows(arm, found)]
    return rows + (_comparisons(arms, seeds) if {"loop", "plain"} <= arms.keys() else [])


def arm_rows(arm: str, outcomes: Sequence[Outcome]) -> list[Row]:
    """Share solved, steps to 90 % success, return at the end, all steps."""
    n = len(outcomes)
    rows = [
        row(f"{arm}.solved", "share of seeds that reach 90 % success", n, *share_ci(sum(o.solved for o in outcomes), n))
    ]
    rows += [to_90(arm, outcomes, "main"), to_90(arm, outcomes, "total")]
    for field, what in (
        ("final_return", "sparse return at the end"),
        ("steps_total", "all environment steps of a run"),
    ):
        rows.append(row(f"{arm}.{field}", what, n, *mean_ci([getattr(o, field) for o in outcomes])))
    return rows


def to_90(arm: str, outcomes: Sequence[Outcome], what: str) -> Row:
    """`what`: main or total steps."""
    reached = [getattr(o, f"{what}_to_90") for o in outcomes]
    censored = [getattr(o, f"steps_{what}") if x is None else x for o, x in zip(outcomes, reached, strict=True)]
    statement = f"{what} steps to 90 % success, unsolved seeds at their end"
    found = row(f"{arm}.{what}_to_90", statement, len(outcomes), *mean_ci(censored))
    return found | {"censored": sum(x is None for x in reached), "median": median_censored(reached)}


def _comparisons(arms: Mapping[str, Sequence[Outcome]], seeds: int) -> list[Row]:
    loop = arms["loop"]
    solved = float(np.mean([o.solved for o in loop]))
    verdict = "reproduced" if solved == 1 else "weaker" if solved >= 0.9 else "not reproduced"
    interval = share_ci(sum(o.solved for o in loop), seeds)[1]
    rows = [row("T-1", "the loop solves every seed", seeds, solved, interval, verdict)]
    mean, interval = mean_ci([float(a.solved) - float(b.solved) for a, b in zip(loop, arms["plain"], strict=True)])
    verdict = "reproduced" if interval[0] > 0 else "weaker" if mean > 0 else "not reproduced"
    statement = "the loop's share solved is above plain's, paired by seed"
    return [*rows, row("T-2", statement, seeds, mean, interval, verdict)]
