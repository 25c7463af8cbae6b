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

import asyncio
import json
import multiprocessing
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ..config import RunConfig
from ..errors import ConfigError
from ..rl.config import SignalConfig
from ..rl.signals.signal import PotentialTerm
from .lines import LineArm, run_line
from .markdown import table
from .outcome import Outcome
from .runs import outcome_of, run_loop
from .statistics import mean_ci, median_censored, share_ci

PARALLEL = 2  # runs at a time
OUT = Path("studies_out/two-switch")
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


def run_two_switch(seeds: int, arms: Sequence[str], tell: Callable[[str], None]) -> dict[str, Any]:
    """The named arms, all where none is named; results as plain data, also written to `studies_out/two-switch/`."""
    began = time.monotonic()
    base = RunConfig.load(Path(str(resources.files("cosignal"))) / "examples" / "two_switch.yaml")
    base = base.model_copy(update={"run_dir": OUT / "runs"})
    configs = [base.model_copy(update={"seed": seed}) for seed in range(1, seeds + 1)]
    wanted = _known(arms)
    outcomes = _lines([arm for arm in _line_arms(base) if arm.name in wanted], configs, tell)
    for arm, gated in RUN_ARMS.items():
        if arm in wanted:
            outcomes += asyncio.run(_loops(arm, gated, configs, tell))
    result: dict[str, Any] = {
        "name": "two-switch",
        "command": " ".join(
            [f"cosignal study two-switch --seeds {seeds}", *(f"--arm {arm}" for arm in arms), "--json"]
        ),
        "commit": _commit(),
        "rows": _rows(outcomes, seeds),
        "outcomes": [outcome.as_dict() for outcome in outcomes],
        "wall_s": round(time.monotonic() - began),
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "result.json").write_text(json.dumps(result, indent=1))
    (OUT / "table.md").write_text(table(result["rows"]))
    tell(table(result["rows"]))
    return result


def _known(arms: Sequence[str]) -> tuple[str, ...]:
    for arm in arms:
        if arm not in ARMS:
            raise ConfigError(f"--arm: must be one of {', '.join(ARMS)}, got {arm!r}; leave it out for all")
    return tuple(arms) or ARMS


def _line_arms(config: RunConfig) -> list[LineArm]:
    steps = config.trainer.steps
    hand = SignalConfig(beta=0.5, terms=(HAND_MADE,))
    cap = round(steps / (1 - config.adaptation.max_share))
    return [
        LineArm("plain", SignalConfig(), "go on", steps),
        LineArm("restarts", SignalConfig(), "restart", cap),
        LineArm("shaped", hand, "go on", steps),
        LineArm("shaped_kick", hand, "kick", steps),
    ]


def _lines(arms: list[LineArm], configs: list[RunConfig], tell: Callable[[str], None]) -> list[Outcome]:
    outcomes = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PARALLEL, mp_context=context) as pool:
        jobs = [pool.submit(run_line, config, arm) for arm in arms for config in configs]
        for job in jobs:
            outcomes.append(job.result())
            tell(_told(outcomes[-1]))
    return outcomes


async def _loops(arm: str, gated: bool, configs: list[RunConfig], tell: Callable[[str], None]) -> list[Outcome]:
    at_once = asyncio.Semaphore(PARALLEL)

    async def one(config: RunConfig) -> Outcome:
        adaptation = config.adaptation.model_copy(update={"gated": gated})
        branches = config.branches.model_copy(update={"workers": 1})
        config = config.model_copy(update={"adaptation": adaptation, "branches": branches})
        async with at_once:
            path = await run_loop(config)
            outcome = await asyncio.to_thread(outcome_of, arm, config, path)
        tell(_told(outcome))
        return outcome

    return list(await asyncio.gather(*(one(config) for config in configs)))


# ---------------------------------------------------------------- results


def _rows(outcomes: list[Outcome], seeds: int) -> list[dict[str, Any]]:
    run = {outcome.arm for outcome in outcomes}
    by_arm = {arm: sorted((o for o in outcomes if o.arm == arm), key=lambda o: o.seed) for arm in ARMS if arm in run}
    rows = [row for arm, found in by_arm.items() for row in _arm_rows(arm, found)]
    return rows + (_comparisons(by_arm, seeds) if {"loop", "plain"} <= run else [])


def _arm_rows(arm: str, outcomes: list[Outcome]) -> list[dict[str, Any]]:
    n = len(outcomes)
    share, interval = share_ci(sum(o.solved for o in outcomes), n)
    rows = [_row(f"{arm}.solved", "share of seeds that reach 90 % success", n, share, interval)]
    for name, what in (("main", "main"), ("total", "total")):
        reached = [getattr(o, f"{name}_to_90") for o in outcomes]
        censored = [getattr(o, f"steps_{what}") if x is None else x for o, x in zip(outcomes, reached, strict=True)]
        mean, interval = mean_ci(censored)
        row = _row(
            f"{arm}.{name}_to_90", f"{what} steps to 90 % success, unsolved seeds at their end", n, mean, interval
        )
        rows.append(row | {"censored": sum(x is None for x in reached), "median": median_censored(reached)})
    for field, what in (
        ("final_return", "sparse return at the end"),
        ("steps_total", "all environment steps of a run"),
    ):
        mean, interval = mean_ci([getattr(o, field) for o in outcomes])
        rows.append(_row(f"{arm}.{field}", what, n, mean, interval))
    return rows


def _comparisons(by_arm: dict[str, list[Outcome]], seeds: int) -> list[dict[str, Any]]:
    loop = by_arm["loop"]
    solved = np.mean([o.solved for o in loop])
    target = _row(
        "T-1", "the loop solves every seed", seeds, float(solved), share_ci(sum(o.solved for o in loop), seeds)[1]
    )
    rows = [target | {"verdict": "reproduced" if solved == 1 else "weaker" if solved >= 0.9 else "not reproduced"}]
    differences = [float(a.solved) - float(b.solved) for a, b in zip(loop, by_arm["plain"], strict=True)]
    mean, interval = mean_ci(differences)
    verdict = "reproduced" if interval[0] > 0 else "weaker" if mean > 0 else "not reproduced"
    rows.append(
        _row("T-2", "the loop's share solved is above plain's, paired by seed", seeds, mean, interval)
        | {"verdict": verdict}
    )
    return rows


def _row(name: str, statement: str, seeds: int, mean: float, interval: tuple[float, float]) -> dict[str, Any]:
    return {
        "id": name, "statement": statement, "verdict": "measured", "seeds": seeds,
        "mean": round(mean, 4), "ci95": [round(x, 4) for x in interval],
    }  # fmt: skip


def _told(outcome: Outcome) -> str:
    solved = (
        f"90 % at {outcome.main_to_90:_} main, {outcome.total_to_90:_} total" if outcome.main_to_90 else "never 90 %"
    )
    end = f"ends at return {outcome.final_return:.2f}, {outcome.steps_total:_} total steps"
    return f"{outcome.arm} seed {outcome.seed}: {solved}; {end}"


def _commit() -> str:
    """Of the code that ran, with `-dirty` where it is not what was committed."""
    where = Path(str(resources.files("cosignal")))
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "not a checkout"
