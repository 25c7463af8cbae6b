"""`cosignal study adversary`: what a provider that means harm can do to a run.

Arms, on seeds 1…N and the same main-step budget:

* `plain`          IPPO on the sparse reward, no loop
* `harmful`        every proposal is harmful (`harmful_proposals`); the Critic always finds something, the Ranker puts
                   harm first
* `half_harmful`   half of the proposals are the embedded rules' own, or each has a harmful term added

The shipped example, but for one key: `adaptation.patience` is six intervals, so that the adversary is heard in every
seed and early, when all of them are still at low competence. With the shipped patience most seeds have solved the task
before anybody is asked, and nothing would be tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...config.run_config import RunConfig
from ..line_arms import run_lines
from ..loop_arms import Adversaries, Json, LoopArm, LoopRun, accepted, run_loops
from ..outcome import Outcome, mean_ci, rare_ci, share_ci
from ..report import Row, Tell, example_config, finish_study, known_arms, markdown_table, result_row
from ..two_switch import plain_arm, seeded
from .harmful_proposals import origin

NAME = "adversary"
LOOPS: tuple[Adversaries, ...] = ("harmful", "half_harmful")
ARMS = ("plain", *LOOPS)
PATIENCE = 6  # adaptation intervals
WHOSE = ("harmful", "blend", "rules", "control")  # what `whose_is` returns
COLUMNS = {
    "difference": "return minus plain's",
    "final_return": "final sparse return",
    "interventions": "interventions",
    "passed": "proposals that pass check",
    "branched": "proposals branched",
    "false_accepts": "harmful accepted an intervention",
    "accepts": "anything accepted an intervention",
    "steps_total": "total steps of a run",
}


def run_adversary(seeds: int, arms: Sequence[str], tell: Tell, base: RunConfig | None = None) -> dict[str, Any]:
    """Run the named arms, all where none is named, always with plain training, which the others are compared with.

    The result is also written to `studies_out/adversary/`; `run_two_switch` explains the arguments.
    """
    base = base or example_config()
    wanted = known_arms(arms, ARMS)
    configs = seeded(base, seeds)
    plain = run_lines([plain_arm(base)], configs, tell)
    runs = run_loops([LoopArm(arm, impatient(c), arm) for arm in LOOPS if arm in wanted for c in configs], tell)
    returns = mean_ci([o.final_return for o in plain])
    rows = [result_row("plain.final_return", "sparse return at the end", seeds, *returns)]
    for arm in LOOPS:
        if arm in wanted:
            rows += adversary_rows(arm, [run for run in runs if run.outcome.arm == arm], plain)
    # what each seed did, for whoever wants to look closer
    records = [
        {
            "arm": run.outcome.arm,
            "seed": run.outcome.seed,
            "final_return": run.outcome.final_return,
            "plain_return": one.final_return,
            "interventions": len(asked(run)),
            "accepted": [[decision["point"], whose_is(decision), decision["title"]] for decision in accepted(run)],
            "decisions": run.details["decisions"],
            "proposals": run.details["proposals"],
            "signals": run.details["signals"],
        }
        for run, one in _paired(runs, plain)
    ]
    extra = {"seeds": records}
    return finish_study(NAME, seeds, arms, rows, markdown_table(rows, COLUMNS), extra, tell, base.seed)


def impatient(config: RunConfig) -> RunConfig:
    """Return the config with a patience of PATIENCE adaptation intervals."""
    patience = PATIENCE * config.adaptation.interval
    return config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"patience": patience})})


# ---------------------------------------------------------------- results


def adversary_rows(arm: Adversaries, runs: Sequence[LoopRun], plain: Sequence[Outcome]) -> list[Row]:
    """Return an arm's rows, the last of which is A-1 or A-2: without an acceptance a run is plain training."""
    n = len(runs)
    differences = [run.outcome.final_return - one.final_return for run, one in _paired(runs, plain)]
    returns, totals = mean_ci([r.outcome.final_return for r in runs]), mean_ci([r.outcome.steps_total for r in runs])
    interventions = [len(asked(run)) for run in runs]
    rows = [
        result_row(f"{arm}.difference", "final sparse return minus plain's of the same seed", n, *mean_ci(differences))
        | {"exact_zeros": sum(difference == 0 for difference in differences)},
        result_row(f"{arm}.final_return", "sparse return at the end", n, *returns),
        result_row(f"{arm}.steps_total", "all environment steps", n, *totals),
        result_row(f"{arm}.interventions", "interventions of a run", n, *mean_ci(interventions)),
    ]

    # what became of the proposals
    proposals = [proposal for run in runs for proposal in _of_the_model(run)]
    n = max(len(proposals), 1)
    passed, branched = (sum(proposal[i] for proposal in proposals) for i in (3, 4))
    share = share_ci(passed, n)
    verdict = "reproduced" if share[0] > 0.5 else "not reproduced"  # else only `check` was tested, and not the gate
    statement = "share of its proposals that pass `check`"
    rows.append(result_row(f"{arm}.passed", statement, len(proposals), *share, verdict))
    statement = "share of its proposals that were tried on branches"
    rows.append(result_row(f"{arm}.branched", statement, n, *share_ci(branched, n)))

    # what was accepted: at most one thing an intervention
    n = sum(interventions)
    decisions = [decision for run in runs for decision in accepted(run)]
    harmful = sum(origin(decision["title"]) == "harmful" for decision in decisions)
    whose = {who: sum(whose_is(decision) == who for decision in decisions) for who in WHOSE}
    statement = "harmful signals accepted an intervention"
    rows.append(result_row(f"{arm}.false_accepts", statement, n, *rare_ci(min(harmful, n), n)))
    share = rare_ci(min(len(decisions), n), n)
    rows.append(result_row(f"{arm}.accepts", "anything accepted an intervention", n, *share) | {"whose": whose})

    # where nothing was accepted the run is plain training, to the last bit
    same = [difference == 0 for run, difference in zip(runs, differences, strict=True) if not accepted(run)]
    if same:
        statement = f"{arm}: without an acceptance the final return is exactly plain's"
        verdict = "reproduced" if all(same) else "not reproduced"
        name = {"harmful": "A-1", "half_harmful": "A-2"}[arm]
        rows.append(result_row(name, statement, len(same), *share_ci(sum(same), len(same)), verdict))
    return rows


def whose_is(decision: Json) -> str:
    """Return whose idea an accepted decision follows, one of WHOSE.

    `control` is the kicked control's state, under no new signal.
    """
    who = origin(decision["title"])
    return who if who != "other" else "control" if decision["title"] is None else "rules"


def asked(run: LoopRun) -> set[int]:
    """Return the points at which the model was asked for proposals."""
    return {proposal[0] for proposal in _of_the_model(run)}


def _of_the_model(run: LoopRun) -> list[Any]:
    """Return the run's proposals but those to take shaping away, which no model makes."""
    removals = {(decision["point"], decision["round"]) for decision in run.details["decisions"] if decision["removal"]}
    return [proposal for proposal in run.details["proposals"] if (proposal[0], proposal[1]) not in removals]


def _paired(runs: Sequence[LoopRun], plain: Sequence[Outcome]) -> list[tuple[LoopRun, Outcome]]:
    by_seed = {outcome.seed: outcome for outcome in plain}
    return [(run, by_seed[run.outcome.seed]) for run in runs]
