"""`cosignal study race`: what a race of policies is worth, against plain training, restarts and the gate.

Arms, on the same seeds; `gate` and the races are whole runs of the loop with one provider, the embedded rules or the
signals of `--proposals`:

* `plain`           training on the sparse reward
* `restarts`        plain, begun anew with another seed whenever the loop's trigger would fire, on as many total steps
                    as the loop may take
* `gate`            the loop, whose gate asks whether a signal helps over training seeds (`gate.claim: signal`)
* `race`            the loop, which asks whether a policy is better than the one at hand (`gate.claim: policy`)
* `race_no_fresh`   the same without the arm that begins anew
* `kick`            plain, with the exploration kick whenever the loop's trigger would fire (on request)
* `union`           Victim-Rubble only: `gate` with the rules, and moves ranked by the task's heuristic, an oracle

Trigger, patience and interval are those of one config in all of them. Every environment step counts, those of
evaluations too; arms without a loop evaluate nothing while they train.

Tasks are those of `TASKS`, or "package.module:factory" on the settings of the example. A seed *stalls* when plain
training fails within its budget. All arms run on the first seeds; with `--stalled`, seeds are added until so many have
stalled, and of these further seeds the other arms run on the stalled ones only, which count in rows about stalled
seeds and in no others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..config.given_signals import read_signals
from ..config.run_config import RunConfig
from ..errors import ConfigError
from ..rl.signals.config import SignalConfig
from . import union
from .line_arms import LineArm, run_lines
from .loop_arms import LoopArm, LoopRun, accepted, run_loops
from .outcome import Outcome, mean_ci, median_censored, ratio_ci, share_ci
from .report import Row, Tell, example_config, finish_study, known_arms, markdown_table, result_row
from .two_switch import arm_rows, plain_arm, seeded

NAME = "race"
ARMS = ("plain", "restarts", "gate", "race", "race_no_fresh", "kick", "union")
USUAL = ARMS[:5]
LINES = ("plain", "restarts", "kick")  # arms without a loop
FIRST_SEED = 311
MOST_SEEDS = 40  # that are added for each seed that is to stall
BATCH = 8  # seeds of plain training at a time, while stalled ones are looked for
RELAY_STEPS = 3_000_000
KINDS = {
    "candidate": "a candidate",
    "kick": "the kick alone",
    "fresh_start": "a fresh start",
    "carried": "a carried arm",
}
COLUMNS = {
    "solved": "share solved",
    "total_to_90": "total steps to 90 %",
    "steps_total": "total steps of a run",
    "final_return": "final sparse return",
    "stalled_solved": "stalled: share solved",
    "stalled_total": "stalled: total steps to 90 %",
    "adoptions": "adoptions",
    **{kind: f"of them {words}" for kind, words in KINDS.items()},
}


def run_race(
    seeds: int,
    arms: Sequence[str],
    tell: Tell,
    tasks: Sequence[str] = (),
    proposals: Path | None = None,
    stalled: int | None = None,
    first_seed: int = FIRST_SEED,
    base: RunConfig | None = None,
) -> dict[str, Any]:
    """Run the named arms, always with `plain`; the result is also written to `studies_out/race/TASK/`.

    Args:
        seeds: how many, on which all arms run.
        arms: some of ARMS; the first five where none is named, with `union` on Victim-Rubble.
        tell: is given lines of progress.
        tasks: at most one, `two_switch` where none is named.
        proposals: a file of signals that are the candidates of every loop but `union`, see `adaptation.signals`.
        stalled: how many seeds are to stall, of which plain training is run until there are so many.
        first_seed: the first of the seeds.
        base: config in place of the shipped example's.

    Raises:
        ConfigError: an arm or the task is unknown, `proposals` cannot be used, or too few seeds stall.
    """
    if len(tasks) > 1:
        raise ConfigError(f"--task: must be given once for the study {NAME!r}, got {', '.join(tasks)}; name one")
    task = tasks[0] if tasks else "two_switch"
    config = task_config(task, (base or example_config()).model_copy(update={"seed": first_seed}))
    if "union" in arms and task != "victim_rubble":
        raise ConfigError(f"--arm: union is an arm of victim_rubble only, got the task {task!r}; leave it out")
    wanted = known_arms(arms, ARMS, (*USUAL, "union") if task == "victim_rubble" else USUAL)
    wanted = tuple(dict.fromkeys(("plain", *wanted)))
    given = config if proposals is None else with_signals(config, proposals)

    # Plain training says which seeds stall.
    plain = run_lines([plain_arm(config)], seeded(config, seeds), tell)
    if stalled is not None:
        plain += add_stalled(config, plain, stalled, tell)
    chosen = {outcome.seed for outcome in plain}
    lines = [line_arm(arm, config) for arm in wanted if arm in LINES and arm != "plain"]
    outcomes = [*plain, *run_lines(lines, at_seeds(config, chosen), tell)]
    loops = [
        LoopArm(arm, loop_config(arm, one))
        for arm in wanted
        if arm not in LINES
        for one in at_seeds(config if arm == "union" else given, chosen)
    ]
    runs = run_loops(loops, tell)
    rows = race_rows([*outcomes, *(run.outcome for run in runs)], runs, wanted, range(first_seed, first_seed + seeds))

    options = [f"--task {task}"] if tasks else []
    options += [f"--proposals {proposals}"] if proposals is not None else []
    options += [f"--stalled {stalled}"] if stalled is not None else []
    extra = {
        "provider": "rules" if proposals is None else "given signals",
        "outcomes": [outcome.as_dict() for outcome in outcomes],
        "seeds": [run.outcome.as_dict() | run.details for run in runs],
    }
    part = task.replace(":", "-") + ("" if proposals is None else f"-{proposals.stem}")
    table = markdown_table(rows, COLUMNS)
    return finish_study(NAME, seeds, arms, rows, table, extra, tell, first_seed, options, part)


# ---------------------------------------------------------------- configs


def relay_config(base: RunConfig) -> RunConfig:
    """Return the example's loop on Relay, whose only reward is at its end, for twice as many main steps."""
    settings = base.model_dump(mode="json")
    settings["task"] = {"name": "relay"}
    settings["trainer"] |= {"steps": RELAY_STEPS}
    return RunConfig.model_validate(settings)


TASKS: Mapping[str, Callable[[RunConfig], RunConfig]] = {
    "two_switch": lambda base: base,
    "victim_rubble": union.task_config,
    "relay": relay_config,
}


def task_config(task: str, base: RunConfig) -> RunConfig:
    """Return the config of a task. Raises ConfigError where it is unknown."""
    if task in TASKS:
        return TASKS[task](base)
    if ":" not in task:
        known = ", ".join(TASKS)
        raise ConfigError(f'--task: must be one of {known} or "package.module:factory", got {task!r}; name one of them')
    return RunConfig.model_validate({**base.model_dump(mode="json"), "task": {"env": task}})


def with_signals(config: RunConfig, path: Path) -> RunConfig:
    """Return the config with the signals of a file as the candidates of every intervention. Raises ConfigError."""
    settings = config.model_dump(mode="json")
    settings["adaptation"]["signals"] = read_signals(path)
    return RunConfig.model_validate(settings)


def at_seeds(config: RunConfig, seeds: set[int]) -> list[RunConfig]:
    """Return the config under each of the seeds, in order."""
    return [config.model_copy(update={"seed": seed}) for seed in sorted(seeds)]


def line_arm(arm: str, config: RunConfig) -> LineArm:
    """Return an arm without a loop other than `plain`."""
    steps = config.trainer.steps
    if arm == "kick":
        return LineArm(arm, SignalConfig(), "kick", steps)
    # as many main steps as the loop may take of all kinds
    return LineArm(arm, SignalConfig(), "restart", round(steps / (1 - config.adaptation.max_share)))


def loop_config(arm: str, config: RunConfig) -> RunConfig:
    """Return the config of an arm that is a loop."""
    claim: Literal["policy", "signal"] = "signal" if arm in ("gate", "union") else "policy"
    changes: dict[str, Any] = {"gate": config.gate.model_copy(update={"claim": claim})}
    if arm == "race_no_fresh":
        changes["race"] = config.race.model_copy(update={"fresh_start": False})
    changed = config.model_copy(update=changes)
    return union.ranked_config(arm, changed) if arm == "union" else changed


def add_stalled(config: RunConfig, plain: Sequence[Outcome], stalled: int, tell: Tell) -> list[Outcome]:
    """Train further seeds without a loop, one after the other, until `stalled` in all have failed.

    Returns:
        Those of the further seeds that have failed, in order.

    Raises:
        ConfigError: too few of very many seeds have failed.
    """
    missing = stalled - sum(not outcome.solved for outcome in plain)
    found: list[Outcome] = []
    most, seed = MOST_SEEDS * stalled, config.seed + len(plain)
    while len(found) < missing:
        if seed >= config.seed + most:
            rule = f"of {most} seeds at least {stalled} must stall under plain training, got {stalled - missing}"
            raise ConfigError(f"--stalled: {rule} and {len(found)} more; ask for fewer")
        further = at_seeds(config, set(range(seed, seed + BATCH)))
        found += [outcome for outcome in run_lines([plain_arm(config)], further, tell) if not outcome.solved]
        seed += BATCH
    return found[: max(missing, 0)]


# ---------------------------------------------------------------- results


def race_rows(
    outcomes: Sequence[Outcome], runs: Sequence[LoopRun], arms: Sequence[str], seeds: Sequence[int]
) -> list[Row]:
    """Return the rows of each arm, and its comparisons with restarts and plain training.

    Args:
        outcomes: of every arm and seed.
        runs: those of them that are loops.
        arms: in the order of the table.
        seeds: on which all arms have run; others were added since they stall.
    """
    by_arm = {arm: {o.seed: o for o in outcomes if o.arm == arm} for arm in arms}
    plain = by_arm["plain"]
    stalled = [seed for seed in sorted(plain) if not plain[seed].solved]
    solved = [seed for seed in seeds if plain[seed].solved]
    rows: list[Row] = []
    for arm in arms:
        rows += arm_rows(arm, [by_arm[arm][seed] for seed in seeds])
        rows += stalled_rows(arm, [by_arm[arm][seed] for seed in stalled])
        rows += adoption_rows(arm, [run for run in runs if run.outcome.arm == arm])
    for arm in arms:
        if arm not in ("plain", "restarts") and "restarts" in arms:
            rows += ratio_rows(arm, "restarts", by_arm, stalled, "stalled seeds")
        if arm != "plain":
            rows += ratio_rows(arm, "plain", by_arm, solved, "seeds that plain solves")
    return rows


def stalled_rows(arm: str, outcomes: Sequence[Outcome]) -> list[Row]:
    """Return an arm's share solved and total steps to 90 % over seeds that stall; no rows where none does."""
    n = len(outcomes)
    if not n:
        return []
    share = share_ci(sum(o.solved for o in outcomes), n)
    totals = result_row(
        f"{arm}.stalled_total", "total steps to 90 % over stalled seeds, unsolved ones at their end",
        n, *mean_ci([total_to_90(o) for o in outcomes]),
    )  # fmt: skip
    totals |= {
        "censored": sum(not o.solved for o in outcomes),
        "median": median_censored([o.total_to_90 for o in outcomes]),
    }
    return [result_row(f"{arm}.stalled_solved", "share of stalled seeds that reach 90 % success", n, *share), totals]


def adoption_rows(arm: str, runs: Sequence[LoopRun]) -> list[Row]:
    """Return how often a loop changed its run to mend it, in all and by kind of a race's arm; over all its runs."""
    if not runs:
        return []
    adoptions, n = [accepted(run) for run in runs], len(runs)
    total = mean_ci([len(found) for found in adoptions])
    rows = [result_row(f"{arm}.adoptions", "adoptions of a run, removals of shaping apart", n, *total)]
    if not any(row.get("kind") for found in adoptions for row in found):
        return rows
    for kind, words in KINDS.items():
        counts = [sum(row.get("kind") == kind for row in found) for found in adoptions]
        rows.append(result_row(f"{arm}.{kind}", f"adoptions of {words} in a run", n, *mean_ci(counts)))
    return rows


def ratio_rows(
    arm: str, other: str, by_arm: Mapping[str, Mapping[int, Outcome]], seeds: Sequence[int], which: str
) -> list[Row]:
    """Return the ratio of mean total steps to 90 % of two arms, paired by seed; no row where there is no seed.

    Unsolved seeds count at their end, so that with some of `arm` the ratio is no more than a lower bound, with some of
    `other` no more than an upper one.
    """
    if not seeds:
        return []
    mine, others = ([by_arm[name][seed] for seed in seeds] for name in (arm, other))
    ratio = ratio_ci([total_to_90(o) for o in mine], [total_to_90(o) for o in others])
    unsolved, unsolved_others = (sum(not o.solved for o in found) for found in (mine, others))
    verdict = "measured"
    if unsolved and unsolved_others:
        verdict = f"no bound: {unsolved} seeds of {arm} and {unsolved_others} of {other} are unsolved"
    elif unsolved:
        verdict = f"at least: {unsolved} seeds of {arm} are unsolved"
    elif unsolved_others:
        verdict = f"at most: {unsolved_others} seeds of {other} are unsolved"
    statement = "ratio of mean total steps to 90 %, paired by seed"
    row = result_row(f"{arm} against {other} over {which}", statement, len(seeds), *ratio, verdict)
    return [row | {"censored": unsolved}]


def total_to_90(outcome: Outcome) -> float:
    """Return the total steps to 90 % success, those of the whole run where it never came."""
    return outcome.steps_total if outcome.total_to_90 is None else outcome.total_to_90
