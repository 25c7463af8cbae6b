"""`cosignal study economy`: what the ideas that make validation cheaper are worth.

The shipped Two-Switch example with the embedded rules, each arm with one of the ideas changed:

* `all`                  the shipped settings
* `no_halving`           every screened candidate is continued to the full horizon, not the best ones only
* `no_kept_control`      the control's branch is thrown away where nothing is accepted, and its steps are run again
* `no_skipping`          the loop also looks when nothing is wrong: the stage is always told to be `exploring`
* `no_patience`          the loop looks after six intervals, before a run had the time to mend itself (on request)
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
from .report import Row, Tell, example_config, finish_study, known_arms, markdown_table, result_row
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
    """Run the named arms, the first four where none is named, always with `all`.

    The result is also written to `studies_out/economy/`; `run_two_switch` explains the arguments.
    """
    base = base or example_config()
    # an arm may be several ideas, joined by `+`
    for arm in arms:
        known_arms(arm.split("+"), ARMS, ARMS)
    configs = seeded(base, seeds)
    runs = {"all": run_loops([LoopArm("all", config) for config in configs], tell)}
    # seeds in which nobody ever intervened are the same run in some other arms
    idle = {run.outcome.seed: run for run in runs["all"] if not run.details["decisions"]}
    others = [arm for arm in arms or ARMS[:4] if arm != "all"]
    reused = {arm: idle if arm in WITHIN else {} for arm in ("all", *others)}
    loops = [LoopArm(arm, without(arm, c)) for arm in others for c in configs if c.seed not in reused[arm]]
    by_arm_and_seed = {(run.outcome.arm, run.outcome.seed): run for run in run_loops(loops, tell)}
    for arm in others:
        runs[arm] = [reused[arm].get(config.seed) or by_arm_and_seed[arm, config.seed] for config in configs]
    rows = [row for arm in runs for row in economy_rows(arm, runs[arm], len(reused[arm]))]
    extra = {
        "seeds": [
            run.outcome.as_dict() | {"arm": arm, "reused": run.outcome.arm != arm} | run.details
            for arm in runs
            for run in runs[arm]
        ]
    }
    return finish_study(NAME, seeds, arms, rows, markdown_table(rows, COLUMNS), extra, tell, base.seed)


def without(arm: str, config: RunConfig) -> RunConfig:
    """Return the config with the arm's ideas changed."""
    ideas = set(arm.split("+"))
    branches: dict[str, Any] = {}
    if ideas & {"no_halving", "none"}:
        branches["finalists"] = config.adaptation.candidates
    if ideas & {"no_kept_control", "none"}:
        branches["keep_control"] = False
    adaptation: dict[str, Any] = {"stage": "exploring"} if ideas & {"no_skipping", "none"} else {}
    if ideas & {"no_patience", "none"}:
        adaptation["patience"] = 6 * config.adaptation.interval
    return config.model_copy(
        update={
            "branches": config.branches.model_copy(update=branches),
            "adaptation": config.adaptation.model_copy(update=adaptation),
        }
    )


# ---------------------------------------------------------------- results


def economy_rows(arm: str, runs: Sequence[LoopRun], reused: int) -> list[Row]:
    """Return an arm's rows; `reused` of its runs are those of `all`."""
    n = len(runs)
    outcomes = [run.outcome for run in runs]
    spent = [run.details["branch_steps"] for run in runs]
    shares = [steps / outcome.steps_total for steps, outcome in zip(spent, outcomes, strict=True)]
    interventions = [
        len({decision["point"] for decision in run.details["decisions"] if decision["verdict"] != "rollback"})
        for run in runs
    ]
    promotions = [len(accepted(run)) for run in runs]
    solved = sum(outcome.solved for outcome in outcomes)
    # of the rows that every study has, those with a column here
    wanted = {f"{arm}.{field}" for field in COLUMNS}
    return [
        result_row(f"{arm}.share", "branch steps as a share of total steps", n, *mean_ci(shares)) | {"reused": reused},
        _ratio_row(
            f"{arm}.per_promotion", "branch steps of all seeds, per promotion (no removal)", spent, sum(promotions)
        ),
        _ratio_row(f"{arm}.per_solved", "branch steps of all seeds, per solved seed", spent, solved),
        result_row(f"{arm}.interventions", "interventions of a run", n, *mean_ci(interventions)),
        result_row(f"{arm}.promotions", "promotions of a run, removals of shaping apart", n, *mean_ci(promotions)),
        *(row for row in arm_rows(arm, outcomes) if row["id"] in wanted),
    ]


def _ratio_row(name: str, statement: str, spent: Sequence[float], events: int) -> Row:
    """Return Σ steps / Σ events, with the interval of Σ steps.

    Where nothing happened, all steps were for nothing: they are divided by one.
    """
    mean, (low, high) = mean_ci(spent)
    per_run = max(events, 1) / len(spent)
    verdict = "measured" if events else "none of them happened"
    return result_row(name, statement, events, mean / per_run, (low / per_run, high / per_run), verdict)
