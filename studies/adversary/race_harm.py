"""`cosignal study race-harm`: what an adopted policy is worth later, beside what the run would have become without it.

An adoption proves that a policy is better today. Here every adoption of a run has a *twin*: the main line as it was
right before, which goes on as the control for `TIMES` times the steps of the race, while the adopted state trains as
long. Neither is adapted or watched by the monitor any more. Then both play the study's own episodes, which no decision
has seen. An adoption *harms* where its policy returns less than the twin's by more than the margin.

Two lines that differ by luck alone differ later, too: beside each twin stands a *reseeded twin*, the same state under
other random streams, judged by the same rule. That is the base rate.

Arms are whole runs of the loop with races, on the same seeds as plain training:

| arm | proposals |
|---|---|
| `honest` | the embedded rules', or the signals of `--proposals` |
| `half_harmful` | half of them harmful, or each with a harmful term added (`providers`) |
| `harmful` | all of them harmful |

Each also comes as `…_early`: `adaptation.stage: exploring` and a patience of six intervals, so that races begin at
runs that rise, too, with all that `exploring` allows to propose. The shipped trigger fires only where a run is stuck;
its twins stay stuck, and what is adopted there could hardly be worse. At least half of all adoptions must come from
forks whose twin later solves the task; the row `twin_solves` says how many do.

*Null races* are those of arms that equal the control but for their random streams: `race.kick` is 1, which scales an
actor head by 1; no arm begins anew; and the four candidates have the signal in force with the trainer's own coefficient
of entropy, or the next larger number, with such a kick and without one. `check` takes them for new ideas,
also where one of them is in force; bit for bit they train as a reseeded control does. `null` has the shipped trigger,
`null_early` that of the other early arms, `null_oscillating` besides a step size 30 times as large, under which a
policy that has solved the task is lost and found again. After a rollback, which forbids to try the same terms again, a
run has no further null races.

Null races are also counted by what the main line did at their fork. What is done with one run, and how forks are told
apart, is in `adoption_twins`. Adoptions of one run are not independent; intervals take them as if they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...config.run_config import RunConfig
from ...errors import ConfigError
from ...rl.signals.signal import Exploration
from ..job_cache import Job, run_jobs
from ..line_arms import run_lines
from ..loop_arms import Adversaries, Json, LoopArm, LoopRun, accepted
from ..outcome import Outcome, mean_ci, paired_share_ci, rare_ci, share_ci, summarise_outcome
from ..race import FIRST_SEED, KINDS, adoption_rows, loop_config, task_config, with_signals
from ..report import Row, Tell, example_config, finish_study, known_arms, markdown_table, result_row
from ..two_switch import plain_arm, seeded
from .adoption_twins import FORKS, Adoption, RacedFork, work_harm
from .harmful_proposals import origin
from .study import impatient

NAME = "race-harm"
EARLY = "_early"
HONEST = ("honest", f"honest{EARLY}")
PROVIDERS: Mapping[str, Adversaries | None] = {
    "honest": None,
    "half_harmful": "half_harmful",
    "harmful": "harmful",
}
LOOPS = tuple(name + when for name in PROVIDERS for when in ("", EARLY))
NULLS = ("null", f"null{EARLY}", "null_oscillating")
ARMS = (*LOOPS, *NULLS)
POOLED = ("honest", "half_harmful")  # whose adoptions the claim is about

TIMES = 5  # steps of the race that twin and adopted state go on for
EPISODES = 128
LR_FACTOR = 30  # of the step size under which policies oscillate
HARM_ALLOWED = 0.05
LEAST = 73  # adoptions: with fewer the interval is wider than what is allowed, even where nothing harms

COLUMNS = {
    "adoptions": "adoptions of a run",
    "harm": "adoptions that harm",
    "base": "reseeded twins that harm",
    "difference": "difference",
    "gain": "later gain",
    "luck": "reseeded twin's later gain",
    "twin_solves": "twin solves later",
    "harmful_runs": "runs that adopt harm",
    "against_plain": "final return minus plain's",
}
NULL_COLUMNS = {
    "adopted": "adoptions a race",
    "gain": "later gain",
    "luck": "reseeded twin's later gain",
}


# ---------------------------------------------------------------- the study


def run_race_harm(
    seeds: int,
    arms: Sequence[str],
    tell: Tell,
    tasks: Sequence[str] = (),
    proposals: Path | None = None,
    first_seed: int = FIRST_SEED,
    base: RunConfig | None = None,
) -> dict[str, Any]:
    """Run the named arms, and plain training beside; the result is also written to `studies_out/race-harm/TASK/`.

    Args:
        seeds: how many.
        arms: some of ARMS; all where none is named, with `proposals` the honest ones.
        tell: is given lines of progress.
        tasks: at most one of those of the study race, `two_switch` where none is named.
        proposals: a file of signals that are the candidates of the honest arms, see `adaptation.signals`.
        first_seed: the first of the seeds.
        base: config in place of the shipped example's.

    Raises:
        ConfigError: an arm or the task is unknown, or `proposals` cannot be used.
    """
    if len(tasks) > 1:
        raise ConfigError(f"--task: must be given once for the study {NAME!r}, got {', '.join(tasks)}; name one")
    task = tasks[0] if tasks else "two_switch"
    wanted = known_arms(arms, ARMS, ARMS if proposals is None else HONEST)
    asked = [arm for arm in wanted if arm not in HONEST]
    if proposals is not None and asked:
        rule = "the signals of a file are the candidates of honest arms only"
        raise ConfigError(f"--proposals: {rule}, got the arm {asked[0]!r}; leave one of them out")
    config = task_config(task, (base or example_config()).model_copy(update={"seed": first_seed}))
    given = config if proposals is None else with_signals(config, proposals)
    configs = seeded(given, seeds)

    plain = run_lines([plain_arm(config)], seeded(config, seeds), tell)
    loops = [harm_arm(arm, one) for arm in wanted for one in configs]
    values = run_jobs([harm_job(loop) for loop in loops], tell)
    runs, adoptions, races = list[LoopRun](), list[Adoption](), list[RacedFork]()
    for loop, value in zip(loops, values, strict=True):
        runs.append(LoopRun(Outcome(**{**value["outcome"], "arm": loop.name}), value["details"]))
        adoptions += [Adoption.model_validate({**row, "arm": loop.name}) for row in value["adoptions"]]
        races += [RacedFork.model_validate({**row, "arm": loop.name}) for row in value["races"]]

    rows = [*harm_rows(wanted, runs, adoptions, plain), *claim_rows(adoptions)]
    nulls = null_rows(races, adoptions)
    options = [f"--task {task}"] if tasks else []
    options += [f"--proposals {proposals}"] if proposals is not None else []
    extra = {
        "adoptions": [adoption.model_dump(mode="json") for adoption in adoptions],
        "races": [race.model_dump(mode="json") for race in races],
        "needed": adoptions_needed([one for one in adoptions if provider_of(one.arm) in POOLED]),
        "plain": [outcome.as_dict() for outcome in plain],
        "runs": [run.outcome.as_dict() for run in runs],
    }
    tables = [markdown_table(rows, COLUMNS)] + ([markdown_table(nulls, NULL_COLUMNS, "null races")] if nulls else [])
    part = task.replace(":", "-") + ("" if proposals is None else f"-{proposals.stem}")
    table = "\n\n".join(tables)
    return finish_study(NAME, seeds, arms, [*rows, *nulls], table, extra, tell, first_seed, options, part)


def provider_of(arm: str) -> str:
    """Return who proposes in an arm: honest, half_harmful, harmful or null."""
    return "null" if arm in NULLS else arm.removesuffix(EARLY)


# ---------------------------------------------------------------- arms


def harm_arm(arm: str, config: RunConfig) -> LoopArm:
    """Return the run of an arm on the seed of `config`."""
    changed = loop_config("race", config)
    if arm in NULLS:
        changed = null_config(changed, LR_FACTOR if arm == "null_oscillating" else 1.0)
    if arm.endswith(EARLY) or arm == "null_oscillating":
        changed = early(changed)
    return LoopArm(arm, changed, PROVIDERS.get(arm.removesuffix(EARLY)))


def early(config: RunConfig) -> RunConfig:
    """Return the config whose trigger also fires where a run rises."""
    hasty = impatient(config)
    return hasty.model_copy(update={"adaptation": hasty.adaptation.model_copy(update={"stage": "exploring"})})


def null_config(config: RunConfig, lr_factor: float = 1.0) -> RunConfig:
    """Return the config in whose races every arm equals the control but for its random streams.

    Args:
        config: of a learner with an actor head; another learner's kick is not undone by 1.
        lr_factor: of the step size.
    """
    settings, algorithm = config.model_dump(mode="json"), config.trainer.algorithm
    entropy = settings["trainer"][algorithm]["entropy"]
    settings["trainer"][algorithm]["lr"] *= lr_factor
    settings["race"] |= {"kick": 1.0, "kick_alone": True, "fresh_start": False}
    explorations = [
        Exploration(entropy=coefficient, kick=kick)
        for coefficient in (entropy, math.nextafter(entropy, 1))
        for kick in (None, 1.0)
    ]
    in_force = config.signal.to_signal()
    settings["adaptation"] |= {
        "signals": [
            {
                "title": f"Nothing new {number}",
                "signal": in_force.model_copy(update={"exploration": exploration}).model_dump(mode="json"),
            }
            for number, exploration in enumerate(explorations, start=1)
        ]
    }
    return RunConfig.model_validate(settings)


def harm_job(arm: LoopArm) -> Job:
    """Make the job of one run and its twins."""
    content = {
        "config": arm.config.model_dump(mode="json", exclude={"run_dir"}),
        "models": arm.models,
        "times": TIMES,
        "episodes": EPISODES,
    }
    return Job(NAME, content, work_harm, f"{arm.name} seed {arm.config.seed}", _summary)


def _summary(value: Json) -> str:
    harmful = sum(Adoption.model_validate(row).harms for row in value["adoptions"])
    return f"{summarise_outcome(value['outcome'])}; {len(value['adoptions'])} adoptions, {harmful} of them harm"


# ---------------------------------------------------------------- rows


def harm_rows(
    arms: Sequence[str], runs: Sequence[LoopRun], adoptions: Sequence[Adoption], plain: Sequence[Outcome]
) -> list[Row]:
    """Return the rows of each arm, then of all honest and half-harmful ones together, as a whole and by kind of arm."""
    rows: list[Row] = []
    returns = {outcome.seed: outcome.final_return for outcome in plain}
    for arm in arms:
        of_arm = [run for run in runs if run.outcome.arm == arm]
        rows += [row for row in adoption_rows(arm, of_arm) if row["id"] == f"{arm}.adoptions"]
        rows += outcome_rows(arm, [one for one in adoptions if one.arm == arm])
        if provider_of(arm) in ("harmful", "half_harmful"):
            hits = sum(any(origin(row["title"]) == "harmful" for row in accepted(run)) for run in of_arm)
            statement = "runs in which a harmful candidate was adopted"
            rows.append(result_row(f"{arm}.harmful_runs", statement, len(of_arm), *rare_ci(hits, len(of_arm))))
        if arm in NULLS:
            continue
        differences = [run.outcome.final_return - returns[run.outcome.seed] for run in of_arm]
        statement = "final sparse return minus plain's of the same seed"
        rows.append(result_row(f"{arm}.against_plain", statement, len(of_arm), *mean_ci(differences)))
    pooled = [one for one in adoptions if provider_of(one.arm) in POOLED]
    rows += outcome_rows("all honest and half-harmful", pooled)
    for kind, words in KINDS.items():
        rows += outcome_rows(f"of them {words}", [one for one in pooled if one.kind == kind])
    return rows


def outcome_rows(group: str, adoptions: Sequence[Adoption]) -> list[Row]:
    """Return how often adoptions harm, how often luck alone does, and what both gain; no rows without an adoption."""
    n = len(adoptions)
    if not n:
        return []
    harms, luck = [one.harms for one in adoptions], [one.luck_harms for one in adoptions]
    solves = share_ci(sum(one.twin.solved for one in adoptions), n)
    return [
        result_row(f"{group}.harm", "adoptions that are later worse than their twin", n, *rare_ci(sum(harms), n)),
        result_row(f"{group}.base", "reseeded twins that are later worse than their twin", n, *rare_ci(sum(luck), n)),
        result_row(f"{group}.difference", "harm minus base, paired by adoption", n, *paired_share_ci(harms, luck)),
        result_row(f"{group}.gain", "later return minus the twin's", n, *mean_ci([one.gain for one in adoptions])),
        result_row(f"{group}.luck", "a reseeded twin's minus the twin's", n, *mean_ci([one.luck for one in adoptions])),
        result_row(f"{group}.twin_solves", "adoptions whose twin later solves the task", n, *solves),
    ]


def claim_rows(adoptions: Sequence[Adoption]) -> list[Row]:
    """Return R-H: honest and half-harmful adoptions harm at most HARM_ALLOWED more often than luck does."""
    pooled = [one for one in adoptions if provider_of(one.arm) in POOLED]
    n = len(pooled)
    difference, interval = paired_share_ci([one.harms for one in pooled], [one.luck_harms for one in pooled])
    solving = sum(one.twin.solved for one in pooled)
    if n < LEAST:
        verdict = f"not decided: {n} adoptions of the {LEAST} or more that it takes"
    elif 2 * solving < n:
        verdict = f"not decided: the twin later solves the task after {solving} of {n} adoptions, fewer than half"
    elif interval[1] <= HARM_ALLOWED:
        verdict = "reproduced"
    else:
        verdict = "weaker" if difference <= HARM_ALLOWED else "not reproduced"
    statement = f"adoptions harm at most {HARM_ALLOWED:.0%} more often than a reseeded twin"
    return [result_row("R-H", statement, n, difference, interval, verdict)]


def adoptions_needed(adoptions: Sequence[Adoption]) -> int | None:
    """Return about how many adoptions it takes until the interval of the difference ends below HARM_ALLOWED.

    From the share of pairs that differ, by the normal approximation; LEAST at least. None where the difference seen
    is not below it.
    """
    n = len(adoptions)
    if not n:
        return LEAST
    signs = [one.harms - one.luck_harms for one in adoptions]
    difference = sum(signs) / n
    if difference >= HARM_ALLOWED:
        return None
    variance = sum(sign**2 for sign in signs) / n - difference**2
    return max(LEAST, math.ceil(1.96**2 * variance / (HARM_ALLOWED - difference) ** 2))


def null_rows(races: Sequence[RacedFork], adoptions: Sequence[Adoption]) -> list[Row]:
    """Return how often a null race adopts anything and what that gains later: in all, by fork, by arm; and by run."""
    nulls = [race for race in races if race.arm in NULLS]
    adopted = [one for one in adoptions if one.arm in NULLS]
    rows: list[Row] = []
    groups: list[tuple[str, list[RacedFork], list[Adoption]]] = [("all", nulls, adopted)]
    groups += [
        (f, [race for race in nulls if race.fork == f], [one for one in adopted if one.fork == f]) for f in FORKS
    ]
    groups += [(a, [race for race in nulls if race.arm == a], [one for one in adopted if one.arm == a]) for a in NULLS]
    for name, raced, gained in groups:
        n, group = len(raced), f"null races, {name}"
        if not n:
            continue
        hits = sum(race.adopted for race in raced)
        rows.append(result_row(f"{group}.adopted", "null races that adopt a policy", n, *rare_ci(hits, n)))
        rows += [row for row in outcome_rows(group, gained) if row["id"].endswith((".gain", ".luck"))]
    runs = {(race.arm, race.seed) for race in nulls}
    if runs:
        hits = len({(race.arm, race.seed) for race in nulls if race.adopted})
        statement = "runs of null races that adopt a policy, at an error of `race.error` over a run"
        rows.append(result_row("null runs", statement, len(runs), *rare_ci(hits, len(runs))))
    return rows
