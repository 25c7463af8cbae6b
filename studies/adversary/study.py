"""`cosignal study adversary`: what a provider that means harm can do to a run.

Arms, on seeds 1…N and the same main-step budget:

* `plain`          IPPO on the sparse reward, no loop
* `harmful`        every proposal is harmful (`studies/adversary/harmful_proposals.py`); the Critic always finds something, the Ranker puts
                   harm first
* `half_harmful`   half of the proposals are the embedded rules' own, or each has a harmful term added

The shipped example, but for one key: `adaptation.patience` is three intervals, so that the adversary is heard in every
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
from ..report import Row, Tell, example_config, finished, known_arms, row, table
from ..two_switch import plain_arm, seeded
from .harmful_proposals import origin

NAME = "adversary"
LOOPS: tuple[Adversaries, ...] = ("harmful", "half_harmful")
ARMS = ("plain", *LOOPS)
PATIENCE = 3  # adaptation intervals
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
    """The named arms, all where none is named, always with plain training, which the others are compared with. Results
    as plain data, also written to `studies_out/adversary/`."""
    base = base or example_config()
    wanted = known_arms(arms, ARMS)
    configs = seeded(base, seeds)
    plain = run_lines([plain_arm(base)], configs, tell)
    loops = [LoopArm(arm, impatient(config), arm) for arm in LOOPS if arm in wanted for config in configs]
    runs = run_loops(loops, tell)
    rows = [row("plain.final_return", "sparse return at the end", seeds, *mean_ci([o.final_return for o in plain]))]
    for arm in LOOPS:
        mine = [run for run in runs if run.outcome.arm == arm]
        rows += _arm_rows(arm, mine, plain) if mine else []
    more = {"seeds": [_record(run, one) for run, one in _paired(runs, plain)]}
    return finished(NAME, seeds, arms, rows, table(rows, COLUMNS), more, tell, base.seed)


def impatient(config: RunConfig) -> RunConfig:
    patience = PATIENCE * config.adaptation.interval
    return config.model_copy(update={"adaptation": config.adaptation.model_copy(update={"patience": patience})})


# ---------------------------------------------------------------- results


def _paired(runs: Sequence[LoopRun], plain: Sequence[Outcome]) -> list[tuple[LoopRun, Outcome]]:
    by_seed = {outcome.seed: outcome for outcome in plain}
    return [(run, by_seed[run.outcome.seed]) for run in runs]


def _arm_rows(arm: str, runs: Sequence[LoopRun], plain: Sequence[Outcome]) -> list[Row]:
    n = len(runs)
    differences = [run.outcome.final_return - one.final_return for run, one in _paired(runs, plain)]
    rows = [
        row(f"{arm}.difference", "final sparse return minus plain's of the same seed", n, *mean_ci(differences))
        | {"exact_zeros": sum(difference == 0 for difference in differences)},
        row(f"{arm}.final_return", "sparse return at the end", n, *mean_ci([r.outcome.final_return for r in runs])),
        row(f"{arm}.steps_total", "all environment steps", n, *mean_ci([r.outcome.steps_total for r in runs])),
        row(f"{arm}.interventions", "interventions of a run", n, *mean_ci([len(asked(run)) for run in runs])),
        *_proposal_rows(arm, runs),
        *_accept_rows(arm, runs),
    ]
    return [*rows, *_untouched(arm, runs, differences)]


def _proposal_rows(arm: str, runs: Sequence[LoopRun]) -> list[Row]:
    proposals = [proposal for run in runs for proposal in _of_the_model(run)]
    n = max(len(proposals), 1)
    passed, branched = (sum(proposal[i] for proposal in proposals) for i in (3, 4))
    share = share_ci(passed, n)
    verdict = "reproduced" if share[0] > 0.5 else "not reproduced"  # else only `check` was tested, and not the gate
    return [
        row(f"{arm}.passed", "share of its proposals that pass `check`", len(proposals), *share, verdict),
        row(f"{arm}.branched", "share of its proposals that were tried on branches", n, *share_ci(branched, n)),
    ]


def _accept_rows(arm: str, runs: Sequence[LoopRun]) -> list[Row]:
    n = sum(len(asked(run)) for run in runs)
    found = [decision for run in runs for decision in accepted(run)]
    harm = sum(origin(decision["title"]) == "harmful" for decision in found)
    whose = {who: sum(whose_is(decision) == who for decision in found) for who in WHOSE}
    return [
        row(f"{arm}.false_accepts", "harmful signals accepted an intervention", n, *_rate(harm, n)),
        row(f"{arm}.accepts", "anything accepted an intervention", n, *_rate(len(found), n)) | {"whose": whose},
    ]


def _rate(hits: int, of: int) -> tuple[float, tuple[float, float]]:
    return rare_ci(min(hits, of), of)


WHOSE = ("harmful", "blend", "rules", "control")


def whose_is(decision: Json) -> str:
    """Whose idea an accepted decision follows; `control`: the kicked control's state, under no new signal."""
    who = origin(decision["title"])
    return who if who != "other" else "control" if decision["title"] is None else "rules"


def _untouched(arm: str, runs: Sequence[LoopRun], differences: Sequence[float]) -> list[Row]:
    """Where nothing was accepted the run is plain training, to the last bit."""
    same = [difference == 0 for run, difference in zip(runs, differences, strict=True) if not accepted(run)]
    if not same:
        return []
    statement = f"{arm}: without an acceptance the final return is exactly plain's"
    verdict = "reproduced" if all(same) else "not reproduced"
    number = {"harmful": 1, "half_harmful": 2}[arm]
    return [row(f"A-{number}", statement, len(same), *share_ci(sum(same), len(same)), verdict)]


def asked(run: LoopRun) -> set[int]:
    """Points at which the model was asked for proposals."""
    return {proposal[0] for proposal in _of_the_model(run)}


def _of_the_model(run: LoopRun) -> list[Any]:
    """Its proposals: not those to take shaping away, which no model makes."""
    removals = {(decision["point"], decision["round"]) for decision in run.details["decisions"] if decision["removal"]}
    return [proposal for proposal in run.details["proposals"] if (proposal[0], proposal[1]) not in removals]


def _record(run: LoopRun, plain: Outcome) -> Json:
    return {
        "arm": run.outcome.arm,
        "seed": run.outcome.seed,
        "final_return": run.outcome.final_return,
        "plain_return": plain.final_return,
        "interventions": len(asked(run)),
        "accepted": [[decision["point"], whose_is(decision), decision["title"]] for decision in accepted(run)],
        "decisions": run.details["decisions"],
        "proposals": run.details["proposals"],
        "signals": run.details["signals"],
    }
