"""Proposals as the store keeps them, and the history of what was tried, as prompts show it."""

from __future__ import annotations

from collections.abc import Sequence

from ..agents.prompt_payload import (
    MAX_MOVED,
    MAX_REASON,
    MAX_RUNGS,
    TriedProposal,
    Verdict,
    bounded_rows,
)
from ..agents.schemas import Proposal
from ..rl.ipc.messages import TrainerStatus
from ..rl.signals.signal import Signal
from ..runs.race_records import RaceRecord
from ..runs.records import (
    BRANCH_FAILED,
    OUT_OF_REWARD,
    DecisionRecord,
    JudgedArm,
    ProposalRecord,
    ScreenedArm,
    proposal_id,
)
from ..runs.store import LoopStore
from .state import State, status_of

# ---------------------------------------------------------------- proposals


def proposal_records(state: State, proposals: Sequence[Proposal]) -> list[ProposalRecord]:
    """Make the records of a round's proposals, in order; `check` has not seen them yet."""
    status, point, number = status_of(state), state["point"], state["round"]
    return [
        ProposalRecord(
            id=proposal_id(point, number, position),
            point=point,
            round=number,
            position=position,
            proposal=proposal,
            signal=signal_of(proposal, status),
        )
        for position, proposal in enumerate(proposals)
    ]


def signal_of(proposal: Proposal, status: TrainerStatus) -> Signal:
    """Return what the proposal would put in force after the signal of `status`."""
    return Signal(
        version=status.signal.version + 1,
        parent=status.signal.version,
        stage=status.stage,
        beta=proposal.beta,
        terms=tuple(proposal.terms),
        exploration=proposal.exploration,
        learner=proposal.learner,
    )


async def quarantined(store: LoopStore) -> set[str]:
    """Return the `shape_hash` of every signal that must never come again in this run.

    They are those that were promoted and rolled back, and those that the human declined.
    """
    out = {row.winner for row in await store.read(DecisionRecord) if row.verdict in ("rollback", "declined")}
    return {row.signal.shape_hash() for row in await store.read(ProposalRecord) if row.id in out}


# ---------------------------------------------------------------- what was tried


async def tried(store: LoopStore) -> list[TriedProposal]:
    """Return all proposals so far, oldest first; those without a decision yet are left out."""
    return tried_by(await store.read(DecisionRecord), await store.read(ProposalRecord), await store.read(RaceRecord))


def tried_by(
    decisions: Sequence[DecisionRecord], proposals: Sequence[ProposalRecord], races: Sequence[RaceRecord] = ()
) -> list[TriedProposal]:
    """Return those of `proposals` that `decisions` are about, in the order of the proposals.

    A race counts once a decision has ended it. Of a proposal that was carried into another race the last one is shown.
    """
    undone = {row.winner for row in decisions if row.verdict == "rollback"}
    ended = {row.id: row for row in decisions if not row.by_monitor}
    decided = {(row.point, row.round): row for row in ended.values()}
    raced = {arm.name: race for race in races if race.id in ended for arm in race.detail.arms}
    history: list[TriedProposal] = []
    for row in proposals:
        race = raced.get(row.id)
        decision = decided.get((row.point, row.round)) if race is None else ended[race.id]
        if decision is None:
            continue
        # The gain of a screened arm has no bounds.
        arm = decision.detail.arm(row.id)
        judged = arm if isinstance(arm, JudgedArm) else None
        verdict = "rolled_back" if row.id in undone else _verdict(row, decision, arm)
        entry = TriedProposal(
            proposal_id=row.id,
            point=row.point,
            round=row.round,
            verdict=verdict,
            proposal=row.proposal,
            gain=arm.gain if arm else None,
            gain_low=judged.lower if judged else None,
            gain_high=judged.upper if judged else None,
            control=arm.control if arm else None,
            curve=arm.curve if arm else [],
            problems=row.problems or [*filter(None, [decision.detail.failed.get(row.id)])],
            declined_because=(decision.detail.declined_because or None) if verdict == "declined" else None,
            numbers=row.preview and row.preview.summary(),
        )
        history.append(entry if race is None else _with_race(entry, race, decision))
    return history


def _with_race(entry: TriedProposal, race: RaceRecord, decision: DecisionRecord) -> TriedProposal:
    """Return a proposal's entry with what its arm of the race has shown; as it is where that saw no rung."""
    rungs, kinds = race.detail.rungs, {arm.name: arm.kind for arm in race.detail.arms}
    looks = [(rung, look) for rung in rungs for look in rung.arms if look.arm == entry.proposal_id]
    dropped = next((rung.dropped[entry.proposal_id] for rung in rungs if entry.proposal_id in rung.dropped), None)
    if not looks:
        return entry.model_copy(update={"dropped": dropped and dropped[:MAX_REASON]})
    last, look = looks[-1]
    # By milestone: the rung at which most of its episodes reached it.
    moved: dict[str, tuple[str, float, float]] = {}
    for rung, one in looks:
        for name in one.moved:
            share = one.reached.get(name, 0.0)
            if name not in moved or share > moved[name][1]:
                moved[name] = (name, share, rung.control.reached.get(name, 0.0))
    kicked = [
        kick.mean - rung.control.mean
        for rung in rungs
        if rung.number <= last.number
        for kick in rung.arms
        if kinds.get(kick.arm) == "kick"
    ]
    verdict = entry.verdict
    if verdict == "not_tried":
        verdict = "not_adopted"
    return entry.model_copy(
        update={
            "verdict": verdict,
            "gain": look.mean - last.control.mean,
            "control": last.control.mean,
            "race": bounded_rows([(rung.number, one.mean, rung.control.mean) for rung, one in looks], MAX_RUNGS),
            # The sort is stable: of equal shares the first that was reached comes first.
            "moved": sorted(moved.values(), key=lambda row: row[2] - row[1])[:MAX_MOVED],
            "dropped": dropped and dropped[:MAX_REASON],
            "kick_gain": kicked[-1] if kicked else None,
            "won_by": kinds.get(decision.winner or "") if decision.verdict == "accept" else None,
        }
    )


def decided_before(decisions: Sequence[DecisionRecord], point: int, round_: int) -> list[DecisionRecord]:
    """Return what was decided when round `round_` of the intervention at `point` began.

    `monitor` decides before any round of its point.
    """
    return [
        row for row in decisions if (row.point, row.round) < (point, round_) or (row.by_monitor and row.point <= point)
    ]


def _verdict(proposal: ProposalRecord, decision: DecisionRecord, arm: JudgedArm | ScreenedArm | None) -> Verdict:
    """Return the arm's own verdict, but for three cases.

    An acceptance may have been overturned; it may have been one of a policy, which proves nothing of the signal, or of
    potentials that left by their offset, which were not tried at all; and where the gate judged the arm and no branch
    of any arm rose, it was not really tried.
    """
    if proposal.problems:
        return "failed_check"
    if decision.winner == proposal.id and decision.verdict in ("declined", "stale"):
        return decision.verdict
    if decision.winner == proposal.id and decision.verdict == "accept" and decision.detail.claim == "policy":
        return "adopted"
    if decision.winner == proposal.id and decision.shown_verdict == OUT_OF_REWARD:
        return OUT_OF_REWARD
    if proposal.id in decision.detail.failed:
        return BRANCH_FAILED
    if arm is None:
        return "not_tried"
    judged = arm.verdict not in ("screened_out", "not_tried")
    return "not_informative" if judged and decision.verdict == "not_informative" else arm.verdict
