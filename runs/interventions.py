"""Interventions as report and pages show them: proposals, their branches against the control, races, verdicts.

tables of the run ─► Intervention, one a point ─► ShownRound ─► ShownProposal ─► PhaseResult
                                                             └► ShownRace, see `races`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from ..agents.schemas import Diagnosis, Failure
from ..rl.evidence.schema import ReadingEvidence
from ..rl.signals.preview import SignalPreview
from ..rl.signals.signal import Signal, describe_difference
from . import charts
from .races import ShownArm, ShownRace, outcome_in_words, show_race
from .records import (
    BRANCH_FAILED,
    BranchRecord,
    Confirmation,
    DecisionRecord,
    FailedBranchRecord,
    FitRecord,
    JudgedArm,
    Phase,
    ProposalRecord,
    RankingRecord,
    ScreenedArm,
)
from .run_view import RunView

CONTROL = "control"
INTERVAL = 0.9  # two-sided confidence of the intervals that are shown
PHASES: tuple[Phase, ...] = ("screen", "full")  # from the point's own snapshot
SHOWN: tuple[Phase, ...] = (*PHASES, "confirm")  # and from a later one, under the overlap clock


@dataclass(frozen=True)
class PhaseResult:
    """A proposal's branches of one phase against the control's.

    Attributes:
        horizon: environment steps of a branch.
        seeds: how many seeds both arms have.
        candidate: mean final return of the proposal's branches over those seeds.
        control: mean final return of the control's.
        success: mean success rate of the proposal's; None without a success test.
        gain: mean of candidate − control, seed by seed.
        interval: 90 % interval of the gain; None with a single seed, which has no spread.
    """

    phase: Phase
    horizon: int
    seeds: int
    candidate: float
    control: float
    success: float | None
    gain: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class DiffLine:
    """A line of a readable difference of two signals, with its CSS class."""

    kind: str
    text: str

    @classmethod
    def of(cls, text: str) -> DiffLine:
        """Read the kind from the sign that the line begins with."""
        return cls({"+": "enters", "-": "leaves", "~": "changes"}.get(text[:1], "same"), text)


@dataclass(frozen=True)
class ShownProposal:
    """A proposal and what became of it.

    Attributes:
        verdict: what became of it in the end, see `_verdict`.
        outcome: the same in words; of what was put in force with the claim.
        diff: what it would change about the signal that was in force.
        phases: its branches against the control's, phase by phase.
        finals: final return of each seed at its longest horizon from the point's snapshot.
        chart: the curves of its branches and of the control's; None without branches.
        judgement: the gate's; None where the gate did not judge it.
        screening: of a proposal that was screened only.
        failed: why a branch of it could not be run; None where none failed.
        fitted: whether it has fitted terms, which no Generator makes.
        raced: its arm in the round's race; None where it did not race.
        preview: its numbers before any training; None where there are none.
    """

    id: str
    title: str
    reason: str
    addresses: list[Failure]
    rank: int | None
    problems: list[str]
    notes: list[str]
    verdict: str
    outcome: str
    diff: list[DiffLine]
    phases: list[PhaseResult]
    finals: list[float]
    chart: Markup | None
    judgement: JudgedArm | None
    screening: ScreenedArm | None
    failed: str | None
    fitted: bool
    raced: ShownArm | None
    preview: SignalPreview | None


@dataclass(frozen=True)
class ShownRound:
    """A round of an intervention.

    Attributes:
        decision: how it ended; None while it has not.
        outcome: the same in words; of what was put in force with the claim. Empty while there is none.
        reason: the decision's, in words.
        declined_because: why a human has declined what was accepted, in his words; empty where he said nothing.
        race: None where its proposals did not race.
        dots: a chart of where each branch ended; None without branches.
        confirmation: the second judgement under the overlap clock.
        kept_control: environment steps of the control's branch that became the main line.
    """

    number: int
    decision: DecisionRecord | None
    outcome: str
    reason: str
    declined_because: str
    race: ShownRace | None
    proposals: list[ShownProposal]
    dots: Markup | None
    confirmation: Confirmation | None
    kept_control: int | None


@dataclass(frozen=True)
class Intervention:
    """An adaptation point at which the loop intervened.

    Attributes:
        steps: main steps at the point; None while the trainer has not written its metrics.
        readings: what a model said that failed episodes failed of, having read them step by step.
        branch_steps: environment steps of all its branches, with their evaluation, and of the fresh episodes of races.
        failed: its branches that could not be run.
    """

    point: int
    steps: int | None
    diagnosis: Diagnosis | None
    readings: list[ReadingEvidence]
    ranking: RankingRecord | None
    fits: list[FitRecord]
    rounds: list[ShownRound]
    branch_steps: int
    failed: list[FailedBranchRecord]


def interventions(view: RunView) -> list[Intervention]:
    """Read all interventions, oldest first."""
    # Rollbacks are no interventions; they say whose promotion did not last.
    decisions, signals = view.decisions(), view.signals()
    ends = [row for row in decisions if not row.by_monitor]
    undone = {row.winner for row in decisions if row.verdict == "rollback"}
    proposals, branches, failures = view.proposals(), view.branches(), view.failed_branches()
    diagnoses = {row.point: row.diagnosis for row in view.interventions() if row.diagnosis is not None}
    readings = {row.point: row.evidence.get("readings", []) for row in view.interventions()}
    rankings = {row.point: row for row in view.rankings()}
    races, evaluations, fits = view.races(), view.evaluations(), view.fits()
    titles = {row.id: row.proposal.title for row in proposals}
    steps_at = {row["update"]: row["steps"] for row in view.metrics()}
    # A point counts from its diagnosis on, or from whatever was made there without one.
    points = {row.point for rows in (proposals, branches, ends, races) for row in rows} | diagnoses.keys()

    shown: list[Intervention] = []
    for point in sorted(points):
        here = [row for row in branches if row.point == point]
        failed = [row for row in failures if row.point == point]
        played = [row for row in evaluations if row.point == point]
        # The signal that the proposals were tried against: what changed at the point itself came of them.
        before = [row for row in signals if row.applied_update < point or row.version == 0]
        in_force = before[-1].signal if before else Signal()
        tried = [row for row in proposals if row.point == point]
        decided = {row.round: row for row in ends if row.point == point}
        raced = {row.round: show_race(row, decided.get(row.round), titles) for row in races if row.point == point}
        rounds: list[ShownRound] = []
        for number in sorted({row.round for row in tried} | decided.keys() | raced.keys()):
            of_round = [row for row in tried if row.round == number]
            race = raced.get(number)
            rounds.append(_round(number, decided.get(number), race, of_round, here, in_force, undone))
        shown.append(
            Intervention(
                point=point,
                steps=steps_at.get(point),
                diagnosis=diagnoses.get(point),
                readings=[ReadingEvidence.model_validate(row) for row in readings.get(point, [])],
                ranking=rankings.get(point),
                fits=[row for row in fits if row.point == point],
                rounds=rounds,
                branch_steps=sum(row.steps for rows in (here, failed, played) for row in rows),
                failed=failed,
            )
        )
    return shown


# ---------------------------------------------------------------- rounds and proposals


def _round(
    number: int,
    decision: DecisionRecord | None,
    race: ShownRace | None,
    proposals: Sequence[ProposalRecord],
    branches: Sequence[BranchRecord],
    in_force: Signal,
    undone: set[str | None],
) -> ShownRound:
    """Show a round; `branches` are those of its point, `undone` the arms whose promotion was rolled back."""
    # The control's branches under the exploration that this round's arms got. A later round may share an earlier one's,
    # since equal branches are run once.
    arms = {row.id for row in proposals}
    ran = [row for row in branches if row.phase in SHOWN]
    explorations = [row.job.exploration for row in ran if row.arm in arms]
    control = [row for row in ran if row.arm == CONTROL and row.job.exploration in explorations]
    # One range for every chart of a point, so that they can be compared at a glance.
    results = [row.result for row in branches if row.phase in PHASES]
    values = charts.padded([r.final_return for r in results] + [y for r in results for _, y, _ in r.curve])
    shown = [_proposal(row, decision, race, branches, control, in_force, values, undone) for row in proposals]

    # Where each branch ended, one row an arm, the control first.
    dots = None
    tried = [proposal for proposal in shown if proposal.finals]
    if tried:
        winner = decision.winner if decision else None
        rows = [charts.Arm(CONTROL, list(_finals(control).values()), CONTROL)]
        rows += [charts.Arm(row.id, row.finals, "winner" if row.id == winner else "candidate") for row in tried]
        ends = charts.padded([value for arm in rows for value in arm.finals])
        dots = Markup(charts.dots(rows, ends, "Final sparse return of every branch, one dot a seed, a bar at the mean"))
    return ShownRound(
        number=number,
        decision=decision,
        outcome=outcome_in_words(decision) if decision else "",
        reason=decision.detail.reason if decision else "",
        declined_because=decision.detail.declined_because if decision else "",
        race=race,
        proposals=shown,
        dots=dots,
        confirmation=decision.detail.confirmation if decision else None,
        kept_control=decision.detail.kept_control if decision else None,
    )


def _proposal(
    row: ProposalRecord,
    decision: DecisionRecord | None,
    race: ShownRace | None,
    branches: Sequence[BranchRecord],
    control: Sequence[BranchRecord],
    in_force: Signal,
    values: tuple[float, float],
    undone: set[str | None],
) -> ShownProposal:
    # The chart shows the branches from the point's own snapshot, the table the confirmation too.
    mine = [branch for branch in branches if branch.arm == row.id and branch.phase in SHOWN]
    finals = list(_finals(mine).values())
    arm = decision.detail.arm(row.id) if decision else None
    raced = race.arm(row.id) if race else None
    verdict = _verdict(row, decision, arm, raced, bool(finals), row.id in undone)
    taken = decision is not None and decision.winner == row.id and verdict == decision.shown_verdict
    chart = None
    if mine:
        arms = f"the branches of {row.id} (solid) and of the control (dashed)"
        label = f"Sparse return of {arms} over steps since the fork"
        chart = Markup(charts.curves(_curves(control), _curves(mine), values, label))
    return ShownProposal(
        id=row.id,
        title=row.proposal.title,
        reason=row.proposal.reason,
        addresses=row.proposal.addresses,
        rank=row.rank,
        problems=row.problems,
        notes=row.notes,
        verdict=verdict,
        outcome=outcome_in_words(decision) if decision is not None and taken else verdict.replace("_", " "),
        diff=[DiffLine.of(line) for line in describe_difference(in_force, row.signal)],
        phases=[result for phase in SHOWN if (result := _compare(phase, mine, control))],
        finals=finals,
        chart=chart,
        judgement=arm if isinstance(arm, JudgedArm) else None,
        screening=arm if isinstance(arm, ScreenedArm) else None,
        failed=decision.detail.failed.get(row.id) if decision else None,
        fitted=any(term.scorers for term in row.proposal.terms),
        raced=raced,
        preview=row.preview,
    )


def _verdict(
    row: ProposalRecord,
    decision: DecisionRecord | None,
    arm: JudgedArm | ScreenedArm | None,
    raced: ShownArm | None,
    ran: bool,
    undone: bool,
) -> str:
    """Say what became of a proposal.

    Of a winner: the gate's acceptance may be overturned, and a promotion rolled back. Else it is what the gate said, or
    why it said nothing; `screened` while the round is not decided yet. Of an arm of a race: `dropped`, `racing` while
    the round is not decided yet, or `not_adopted`.
    """
    if undone:
        return "rolled_back"
    if decision is not None and decision.winner == row.id:
        return decision.shown_verdict
    if row.problems:
        return "refused"
    if decision is not None and row.id in decision.detail.failed:
        return BRANCH_FAILED
    if arm is not None:
        return arm.verdict
    if raced is not None:
        return "dropped" if raced.dropped_at is not None else "not_adopted" if decision is not None else "racing"
    return "screened" if ran else "not_tried"


# ---------------------------------------------------------------- branches


def _compare(phase: Phase, mine: Sequence[BranchRecord], control: Sequence[BranchRecord]) -> PhaseResult | None:
    """Compare the final returns of both arms at one horizon, seed by seed; None where they share no seed."""
    own, base = ({row.seed: row.result for row in rows if row.phase == phase} for rows in (mine, control))
    seeds = sorted(own.keys() & base.keys())
    if not seeds:
        return None
    gains = [own[seed].final_return - base[seed].final_return for seed in seeds]
    successes = [rate for seed in seeds if (rate := own[seed].success_rate) is not None]
    return PhaseResult(
        phase=phase,
        horizon=max(own[seed].horizon for seed in seeds),
        seeds=len(seeds),
        candidate=fmean(own[seed].final_return for seed in seeds),
        control=fmean(base[seed].final_return for seed in seeds),
        success=fmean(successes) if successes else None,
        gain=fmean(gains),
        interval=mean_interval(gains),
    )


def mean_interval(gains: Sequence[float]) -> tuple[float, float] | None:
    """Return the two-sided interval of the mean gain, by Student's t over seeds; None for a single seed."""
    if len(gains) < 2:
        return None
    from ..rl.branches.gate import gain_bounds  # imports SciPy

    bounds = gain_bounds(gains, level=(1 - INTERVAL) / 2, floor=0.0)
    return bounds.lower, bounds.upper


def _longest(rows: Sequence[BranchRecord]) -> dict[int, BranchRecord]:
    """Return the longest branch of each seed from the point's own snapshot."""
    here = [row for row in rows if row.phase in PHASES]
    return {row.seed: row for row in sorted(here, key=lambda row: row.horizon)}


def _finals(rows: Sequence[BranchRecord]) -> dict[int, float]:
    """Return the final return of each seed at its longest horizon."""
    return {seed: row.result.final_return for seed, row in _longest(rows).items()}


def _curves(rows: Sequence[BranchRecord]) -> list[charts.Branch]:
    """Return one curve a seed, that of its longest branch."""
    return [
        charts.Branch(
            [(steps, value) for steps, value, _ in row.result.curve],
            (row.horizon, row.result.final_return),
        )
        for row in _longest(rows).values()
    ]
