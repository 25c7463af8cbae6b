"""Proposals as the store keeps them, and the history of what was tried, as prompts show it."""

from __future__ import annotations

from collections.abc import Sequence

from ..agents.prompt_payload import TriedProposal, Verdict
from ..agents.schemas import Proposal
from ..rl.ipc.messages import TrainerStatus
from ..rl.signals.signal import Signal
from ..runs.records import BRANCH_FAILED, DecisionRecord, JudgedArm, ProposalRecord, ScreenedArm, proposal_id
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
    return tried_by(await store.read(DecisionRecord), await store.read(ProposalRecord))


def tried_by(decisions: Sequence[DecisionRecord], proposals: Sequence[ProposalRecord]) -> list[TriedProposal]:
    """Return those of `proposals` that `decisions` are about, in the order of the proposals."""
    undone = {row.winner for row in decisions if row.verdict == "rollback"}
    decided = {(row.point, row.round): row for row in decisions if not row.by_monitor}
    history: list[TriedProposal] = []
    for row in proposals:
        decision = decided.get((row.point, row.round))
        if decision is None:
            continue
        # The gain of a screened arm has no bounds.
        arm = decision.detail.arm(row.id)
        judged = arm if isinstance(arm, JudgedArm) else None
        history.append(
            TriedProposal(
                proposal_id=row.id,
                point=row.point,
                round=row.round,
                verdict="rolled_back" if row.id in undone else _verdict(row, decision, arm),
                proposal=row.proposal,
                gain=arm.gain if arm else None,
                gain_low=judged.lower if judged else None,
                gain_high=judged.upper if judged else None,
                control=arm.control if arm else None,
                curve=arm.curve if arm else [],
                problems=row.problems or [*filter(None, [decision.detail.failed.get(row.id)])],
            )
        )
    return history


def decided_before(decisions: Sequence[DecisionRecord], point: int, round_: int) -> list[DecisionRecord]:
    """Return what was decided when round `round_` of the intervention at `point` began.

    `monitor` decides before any round of its point.
    """
    return [
        row for row in decisions if (row.point, row.round) < (point, round_) or (row.by_monitor and row.point <= point)
    ]


def _verdict(proposal: ProposalRecord, decision: DecisionRecord, arm: JudgedArm | ScreenedArm | None) -> Verdict:
    """Return the arm's own verdict, but for two cases.

    The gate's acceptance may have been overturned; and where the gate judged the arm and no branch of any arm rose, it
    was not really tried.
    """
    if proposal.problems:
        return "failed_check"
    if decision.winner == proposal.id and decision.verdict in ("declined", "stale"):
        return decision.verdict
    if proposal.id in decision.detail.failed:
        return BRANCH_FAILED
    if arm is None:
        return "not_tried"
    judged = arm.verdict not in ("screened_out", "not_tried")
    return "not_informative" if judged and decision.verdict == "not_informative" else arm.verdict
