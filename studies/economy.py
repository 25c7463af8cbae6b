"""`cosignal study economy`: what the ideas that make validation cheaper are worth.

The shipped Two-Switch example with the embedded rules, each arm with one of the ideas changed:

* `all`                  the shipped settings
* `no_halving`           every screened candidate is continued to the full horizon, not the best ones only
* `no_kept_control`      the control's branch is thrown away where nothing is accepted, and its steps are run again
* `no_skipping`          the loop also looks when nothing is wrong: the stage is always told to be `exploring`
* `no_patience`          the loop looks after three intervals, before a run had the time to mend itself (on request)
* `none`                 all of them off (on request)

Several changes at once are an arm too, joined by `+`: `no_patience+no_halving` shows what halving is worth in a run
that intervenes often.

A seed in which `all` never intervenes is the same run in every arm that differs in an intervention only, since the same
config and seed give the same run; it is not run again there (`reused` counts such seeds).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..config.run_config import RunConfig
from .loop_arms import LoopArm, LoopRun, accepted, run_loops
from .outcome import mean_ci
from .report import Row, Tell, example_config, finished, known_arms, row, table
from .two_switch import arm_rows, seeded

NAME = "economy"
ARMS = ("all", "no_halving", "no_kept_control", "no_skipping", "no_patience", "none")
WITHIN = ("no_halving", "no_kept_control")  # differ from `all` in interventions only
COLUMNS = {
    "share": "share of steps on branches",
    "per_promotion": "branch steps a promotion",
    "per_solved": "branch steps a solved seed",
    "interventions": "interventions",
    "promotions": "promotions",
    "solved": "share solved",
    "total_to_90": "total steps to 90 %",
    "steps_total": "total steps of a run",
}


def run_economy(seeds: int, arms: Sequence[str], tell: Tell, base: RunConfig | None = None) -> dict[str, Any]:
    """The named arms, the first four where none is named, always with `all`. Results as plain data, also written to
    `studies_out/economy/`."""
    base = base or example_config()
    for arm in arms:
        known_arms(arm.split("+"), ARMS, ARMS)
    wanted = arms or ARMS[:4]
    configs = seeded(base, seeds)
    runs = {"all": run_loops([LoopArm("all", config) for config in configs], tell)}
    idle = {run.outcome.seed: run for run in runs["all"] if not run.details["decisions"]}
    others = [arm for arm in wanted if arm != "all"]
    reused = {arm: idle if arm in WITHIN else {} for arm in ("all", *others)}
    pieces = [LoopArm(arm, without(arm, c)) for arm in others for c in configs if c.seed not in reused[arm]]
    found = {(run.outcome.arm, run.outcome.seed): run for run in run_loops(pieces, tell)}
    for arm in others:
        runs[arm] = [reused[arm].get(config.seed) or found[arm, config.seed] for config in configs]
    rows = [item for arm, mine in runs.items() for item in _rows(arm, mine, len(reused[arm]))]
    more = {"seeds": [_record(arm, run) for arm, mine in runs.items() for run in mine]}
    return finished(NAME, seeds, arms, rows, table(rows, COLUMNS), more, tell, base.seed)


def without(arm: str, config: RunConfig) -> RunConfig:
    """The config with the arm's ideas changed."""
    ideas = set(arm.split("+"))
    branches: dict[str, Any] = {}
    if ideas & {"no_halving", "none"}:
        branches["finalists"] = config.adaptation.candidates
    if ideas & {"no_kept_control", "none"}:
        branches["keep_control"] = False
    adaptation: dict[str, Any] = {"stage": "exploring"} if ideas & {"no_skipping", "none"} else {}
    if ideas & {"no_patience", "none"}:
        adaptation["patience"] = 3 * config.adaptation.interval
    return config.model_copy(
        update={
            "branches": config.branches.model_copy(update=branches),
            "adaptation": config.adaptation.model_copy(update=adaptation),
        }
    )


# ---------------------------------------------------------------- results


def _rows(arm: str, runs: Sequence[LoopRun], reused: int) -> list[Row]:
    n = len(runs)
    outcomes = [run.outcome for run in runs]
    spent = [run.details["branch_steps"] for run in runs]
    shares = [steps / outcome.steps_total for steps, outcome in zip(spent, outcomes, strict=True)]
    promotions = [len(accepted(run)) for run in runs]
    solved = sum(outcome.solved for outcome in outcomes)
    wanted = {f"{arm}.{field}" for field in COLUMNS}
    return [
        row(f"{arm}.share", "branch steps as a share of total steps", n, *mean_ci(shares)) | {"reused": reused},
        _ratio(f"{arm}.per_promotion", "branch steps of all seeds, per promotion (no removal)", spent, sum(promotions)),
        _ratio(f"{arm}.per_solved", "branch steps of all seeds, per solved seed", spent, solved),
        row(f"{arm}.interventions", "interventions of a run", n, *mean_ci([_interventions(run) for run in runs])),
        row(f"{arm}.promotions", "promotions of a run, removals of shaping apart", n, *mean_ci(promotions)),
        *(item for item in arm_rows(arm, outcomes) if item["id"] in wanted),
    ]


def _ratio(name: str, statement: str, spent: Sequence[float], of: int) -> Row:
    """Σ steps / Σ events; its interval is that of Σ steps. Where nothing happened all steps were for nothing."""
    mean, (low, high) = mean_ci(spent)
    by = max(of, 1) / len(spent)
    verdict = "measured" if of else "none of them happened"
    return row(name, statement, of, mean / by, (low / by, high / by), verdict)


def _interventions(run: LoopRun) -> int:
    return len({row["point"] for row in run.details["decisions"] if row["verdict"] != "rollback"})


def _record(arm: str, run: LoopRun) -> dict[str, Any]:
    return run.outcome.as_dict() | {"arm": arm, "reused": run.outcome.arm != arm} | run.details
