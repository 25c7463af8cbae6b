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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...config.run_config import RunConfig
from ...rl.signals.signal import Exploration
from ..job_cache import run_jobs
from ..outcome import mean_ci, rare_ci, share_ci
from ..report import Row, Tell, example_config, finished, known_arms, row, table
from .harmful_proposals import origin
from .snapshots import Competence, Snapshot, record
from .trials import GOOD, Arm, Trial, trial_piece

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
    """Trials at one competence. `snapshots` · `trials`: how many snapshots, and trials at each. `needs_help`: the arm
    `good` has trials here too."""

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


def run_gate_trials(trials: int, arms: Sequence[str], tell: Tell, base: RunConfig | None = None) -> dict[str, Any]:
    """`trials` trials of each arm, at most as many as there are. Results as plain data, also written to
    `studies_out/gate-trials/`."""
    base = base or example_config()
    wanted = known_arms(arms, ARMS, ("harmful",))
    snapshots = record([base.model_copy(update={"seed": seed}) for seed in PLAIN_SEEDS], tell)
    plan = [trial for arm in ARMS if arm in wanted for trial in planned(arm, snapshots)[:trials]]
    values = run_jobs([trial_piece(trial) for trial in plan], tell)
    done = [(trial, value) for trial, value in zip(plan, values, strict=True)]
    level = base.gate.level
    rows = [found for arm in ARMS if arm in wanted for found in _rows(arm, done, level)]
    more = {"trials": [_record(trial, value) for trial, value in done]}
    return finished(NAME, trials, arms, rows, table(rows, COLUMNS, "trials"), more, tell)


def planned(arm: Arm, snapshots: Sequence[Snapshot]) -> list[Trial]:
    """The first trial of every snapshot, then the second of every one, and so on: whatever is cut off at the end, all
    competences are there, and a snapshot's control is there before its next trial begins."""
    chosen = [
        (group, snapshot)
        for group in GROUPS
        if arm == "harmful" or group.needs_help
        for snapshot in [found for found in snapshots if found.competence == group.competence][: group.snapshots]
    ]
    most = max((group.trials for group, _ in chosen), default=0)
    return [
        Trial(group.name, snapshot, arm, number, group.exploration)
        for number in range(most)
        for group, snapshot in chosen
        if number < group.trials
    ]


# ---------------------------------------------------------------- results


Done = tuple[Trial, dict[str, Any]]


def _rows(arm: Arm, done: Sequence[Done], level: float) -> list[Row]:
    mine = [(trial, value) for trial, value in done if trial.arm == arm]
    names = dict.fromkeys(trial.group for trial, _ in mine)
    by_group = {name: [value for trial, value in mine if trial.group == name] for name in names}
    prefix = "" if arm == "harmful" else f"{arm}: "
    rows = [found for name, values in by_group.items() for found in _group_rows(arm, prefix + name, values)]
    return rows + (_overall(mine, level) if arm == "harmful" else _power(mine))


def _group_rows(arm: Arm, name: str, values: Sequence[dict[str, Any]]) -> list[Row]:
    n = len(values)
    rows = [row(f"{name}.false_accepts", "share of trials that accept a harmful candidate", n, *_false(values))]
    if arm == "good":
        hits = sum(_accepts_good(value) for value in values)
        rows.append(row(f"{name}.good_accepts", "share of trials that accept the helpful one", n, *rare_ci(hits, n)))
    for field, verdict in (("rejected", "reject"), ("not_informative", "not_informative")):
        hits = sum(value["verdict"] == verdict for value in values)
        rows.append(row(f"{name}.{field}", f"share of trials with verdict {verdict}", n, *rare_ci(hits, n)))
    kicked = sum(value["winner_title"] == "control" for value in values)
    rows.append(row(f"{name}.kick", "share of trials that adopt the kicked control's state", n, *rare_ci(kicked, n)))
    steps = mean_ci([value["steps"] for value in values])
    return [*rows, row(f"{name}.steps", "branch steps of a trial, shared control included", n, *steps)]


def _overall(done: Sequence[Done], level: float) -> list[Row]:
    values = [value for _, value in done]
    if not values:
        return []
    mean, interval = _false(values)
    verdict = "reproduced" if interval[1] < level else "weaker" if mean <= level else "not reproduced"
    statement = f"the gate accepts harm in less than {level:g} of its rounds (Clopper-Pearson)"
    rows = [row("G-1", statement, len(values), mean, interval, verdict)]
    snapshots = {(trial.group, trial.snapshot.name) for trial, _ in done}
    wrong = {(trial.group, trial.snapshot.name) for trial, value in done if _accepts_harm(value)}
    statement = "share of snapshots with a false accept in any of their trials"
    rows.append(row("G-2", statement, len(snapshots), *rare_ci(len(wrong), len(snapshots))))
    drafts, passed = (sum(value[key] for value in values) for key in ("drafts", "passed"))
    share = share_ci(passed, drafts)
    verdict = "reproduced" if share[0] > 0.5 else "not reproduced"
    rows.append(row("G-3", "share of harmful proposals that pass `check`", drafts, *share, verdict))
    full = sum(len(value["candidates"]) == 4 for value in values)
    rows.append(row("G-4", "share of trials with four harmful candidates", len(values), *rare_ci(full, len(values))))
    return rows


def _power(done: Sequence[Done]) -> list[Row]:
    values = [value for _, value in done]
    if not values:
        return []
    hits = sum(_accepts_good(value) for value in values)
    statement = "share of trials that accept the one helpful candidate among three harmful ones"
    rows = [row("G-5", statement, len(values), *rare_ci(hits, len(values)))]
    return [*rows, row("G-6", "share of these trials that accept a harmful one", len(values), *_false(values))]


def _false(values: Sequence[dict[str, Any]]) -> tuple[float, tuple[float, float]]:
    return rare_ci(sum(_accepts_harm(value) for value in values), len(values))


def _accepts_harm(value: dict[str, Any]) -> bool:
    return value["verdict"] == "accept" and origin(value["winner_title"]) == "harmful"


def _accepts_good(value: dict[str, Any]) -> bool:
    return value["verdict"] == "accept" and str(value["winner_title"]).startswith(GOOD)


def _record(trial: Trial, value: dict[str, Any]) -> dict[str, Any]:
    status = trial.snapshot.status
    where: Iterable[tuple[str, Any]] = (
        ("group", trial.group), ("arm", trial.arm), ("seed", trial.snapshot.config.seed), ("number", trial.number),
        ("steps_main", status.steps_main), ("stage", status.stage), ("success_rate", status.success_rate),
        ("sparse_return", status.sparse_return),
    )  # fmt: skip
    return dict(where) | value
