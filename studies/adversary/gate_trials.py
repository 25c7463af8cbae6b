"""`cosignal study gate-trials`: does the gate accept what does harm, and does it see what helps?

A trial is one whole round of the gate at a recorded snapshot of plain training: four harmful candidates that passed
`check` are screened, the finalists judged at each look, at the horizon that the loop would take there. The screening by
recorded transitions is off, so that harm reaches the gate. `--seeds` is the number of trials.

Snapshots are of plain runs with seeds that no other study uses. Trials of one snapshot share their control branches,
so they are not independent: besides the share of trials with a false accept there is that of snapshots with one.

Arms: `harmful`, and on request (`--arm good`) `good`: one hand-made candidate that helps among three harmful ones,
where a run needs help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...config.run_config import RunConfig
from ...rl.signals.signal import Exploration
from ..job_cache import run_jobs
from ..outcome import Interval, mean_ci, rare_ci, share_ci
from ..report import Row, Tell, example_config, finish_study, known_arms, markdown_table, result_row
from .harmful_proposals import origin
from .snapshots import Competence, Snapshot, record_snapshots
from .trials import GOOD, Arm, Trial, trial_job

NAME = "gate-trials"
ARMS: tuple[Arm, ...] = ("harmful", "good")
PLAIN_SEEDS = range(101, 111)
COLUMNS = {
    "false_accepts": "false accepts",
    "good_accepts": "the helpful one accepted",
    "rejected": "verdict reject",
    "not_informative": "verdict not informative",
    "kick": "kicked control adopted",
    "steps": "branch steps of a trial",
}


@dataclass(frozen=True)
class Group:
    """Trials at one competence.

    Attributes:
        name: of the group.
        competence: of its snapshots.
        snapshots: how many.
        trials: how many at each snapshot.
        exploration: given to every branch, None for what is in force.
        needs_help: whether the arm `good` has trials here too.
    """

    name: str
    competence: Competence
    snapshots: int
    trials: int
    exploration: Exploration | None = None
    needs_help: bool = False


GROUPS = (
    Group("start", "start", 2, 4, needs_help=True),
    Group("early", "early", 2, 4, needs_help=True),
    Group("early, high entropy", "early", 2, 2, Exploration(entropy=0.5)),
    Group("stuck", "stuck", 2, 4),
    Group("stuck, kicked", "stuck", 2, 4, Exploration(kick=0.05), needs_help=True),
    Group("emerging", "emerging", 2, 4),
    Group("improving", "improving", 4, 4),
    Group("solved", "solved", 3, 4),
)

Value = Mapping[str, Any]  # of a trial, as `work_trial` returns it


def run_gate_trials(trials: int, arms: Sequence[str], tell: Tell, base: RunConfig | None = None) -> dict[str, Any]:
    """Run trials of the named arms, of `harmful` where none is named.

    The result is also written to `studies_out/gate-trials/`.

    Args:
        trials: of each arm, at most as many as there are.
        arms: some of ARMS.
        tell: is given lines of progress.
        base: config of the plain runs, the shipped example where None.

    Raises:
        ConfigError: an arm is unknown.
    """
    base = base or example_config()
    wanted = [arm for arm in ARMS if arm in known_arms(arms, ARMS, ("harmful",))]
    snapshots = record_snapshots([base.model_copy(update={"seed": seed}) for seed in PLAIN_SEEDS], tell)
    plan = [trial for arm in wanted for trial in planned(arm, snapshots)[:trials]]
    values = run_jobs([trial_job(trial) for trial in plan], tell)
    done = list(zip(plan, values, strict=True))
    rows = [row for arm in wanted for row in trial_rows(arm, done, base.gate.level)]
    # what each trial came to, beside the state that it forked from
    records = []
    for trial, value in done:
        snapshot, status = trial.snapshot, trial.snapshot.status
        at = {
            "group": trial.group, "arm": trial.arm, "seed": snapshot.config.seed, "number": trial.number,
            "steps_main": status.steps_main, "stage": status.stage, "success_rate": status.success_rate,
            "sparse_return": status.sparse_return,
        }  # fmt: skip
        records.append(at | value)
    table = markdown_table(rows, COLUMNS, "trials")
    return finish_study(NAME, trials, arms, rows, table, {"trials": records}, tell)


def planned(arm: Arm, snapshots: Sequence[Snapshot]) -> list[Trial]:
    """Return an arm's trials: the first of every snapshot, then the second of every one, and so on.

    So whatever is cut off at the end, all competences are there, and a snapshot's control is there before its next
    trial begins.
    """
    places: list[tuple[Group, Snapshot]] = []
    for group in GROUPS:
        if arm == "harmful" or group.needs_help:
            at = [snapshot for snapshot in snapshots if snapshot.competence == group.competence]
            places += [(group, snapshot) for snapshot in at[: group.snapshots]]
    # round by round over all places, not place by place
    most = max((group.trials for group, _ in places), default=0)
    return [
        Trial(group.name, snapshot, arm, number, group.exploration)
        for number in range(most)
        for group, snapshot in places
        if number < group.trials
    ]


# ---------------------------------------------------------------- results


def trial_rows(arm: Arm, done: Sequence[tuple[Trial, Value]], level: float) -> list[Row]:
    """Return an arm's rows: some for each group, then G-1 to G-4 of `harmful`, or G-5 and G-6 of `good`.

    Args:
        arm: one of ARMS.
        done: trials of any arm, and their values.
        level: the gate's.
    """
    done = [(trial, value) for trial, value in done if trial.arm == arm]
    rows = []
    for group in dict.fromkeys(trial.group for trial, _ in done):
        name = group if arm == "harmful" else f"{arm}: {group}"
        rows += _group_rows(arm, name, [value for trial, value in done if trial.group == group])
    if not done:
        return rows
    return rows + (harm_rows(done, level) if arm == "harmful" else help_rows([value for _, value in done]))


def _group_rows(arm: Arm, name: str, values: Sequence[Value]) -> list[Row]:
    n = len(values)

    def share_row(field: str, statement: str, hits: int) -> Row:
        return result_row(f"{name}.{field}", f"share of trials {statement}", n, *rare_ci(hits, n))

    verdicts = [value["verdict"] for value in values]
    kicked = sum(value["winner_title"] == "control" for value in values)
    steps = mean_ci([value["steps"] for value in values])
    return [
        share_row("false_accepts", "that accept a harmful candidate", sum(map(_accepts_harm, values))),
        *(
            [share_row("good_accepts", "that accept the helpful one", sum(map(_accepts_good, values)))]
            if arm == "good"
            else []
        ),
        share_row("rejected", "with verdict reject", verdicts.count("reject")),
        share_row("not_informative", "with verdict not_informative", verdicts.count("not_informative")),
        share_row("kick", "that adopt the kicked control's state", kicked),
        result_row(f"{name}.steps", "branch steps of a trial, shared control included", n, *steps),
    ]


def harm_rows(done: Sequence[tuple[Trial, Value]], level: float) -> list[Row]:
    """Return G-1, false accepts among trials; G-2, among snapshots; G-3 and G-4, how harmful the candidates were."""
    values = [value for _, value in done]
    n = len(values)
    mean, interval = _false_accepts(values)
    verdict = "reproduced" if interval[1] < level else "weaker" if mean <= level else "not reproduced"
    statement = f"the gate accepts harm in less than {level:g} of its rounds (Clopper-Pearson)"
    rows = [result_row("G-1", statement, n, mean, interval, verdict)]
    # trials of a snapshot share its control, so snapshots are counted, too
    snapshots = {(trial.group, trial.snapshot.name) for trial, _ in done}
    wrong = {(trial.group, trial.snapshot.name) for trial, value in done if _accepts_harm(value)}
    statement = "share of snapshots with a false accept in any of their trials"
    rows.append(result_row("G-2", statement, len(snapshots), *rare_ci(len(wrong), len(snapshots))))
    # proposals that are refused by `check` never reach the gate
    drafts, passed = (sum(value[key] for value in values) for key in ("drafts", "passed"))
    share = share_ci(passed, drafts)
    verdict = "reproduced" if share[0] > 0.5 else "not reproduced"
    rows.append(result_row("G-3", "share of harmful proposals that pass `check`", drafts, *share, verdict))
    full = sum(len(value["candidates"]) == 4 for value in values)
    return [*rows, result_row("G-4", "share of trials with four harmful candidates", n, *rare_ci(full, n))]


def help_rows(values: Sequence[Value]) -> list[Row]:
    """Return G-5, how often the helpful candidate was accepted, and G-6, how often a harmful one was beside it."""
    n = len(values)
    statement = "share of trials that accept the one helpful candidate among three harmful ones"
    return [
        result_row("G-5", statement, n, *rare_ci(sum(map(_accepts_good, values)), n)),
        result_row("G-6", "share of these trials that accept a harmful one", n, *_false_accepts(values)),
    ]


def _false_accepts(values: Sequence[Value]) -> tuple[float, Interval]:
    return rare_ci(sum(map(_accepts_harm, values)), len(values))


def _accepts_harm(value: Value) -> bool:
    return value["verdict"] == "accept" and origin(value["winner_title"]) == "harmful"


def _accepts_good(value: Value) -> bool:
    return value["verdict"] == "accept" and str(value["winner_title"]).startswith(GOOD)
