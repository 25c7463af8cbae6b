"""What was tried before and what its branches said, as models read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..agents.prompt_payload import TriedProposal, Verdict
from ..agents.schemas import Proposal
from ..rl.ipc.messages import TrainerStatus
from ..rl.signals.signal import Signal
from ..runs.store import LoopStore
from .state import State

# ---------------------------------------------------------------- MERGED graphs.history

Row = dict[str, Any]
OVERTURNED: dict[str, Verdict] = {"declined": "declined", "stale": "stale"}  # what the gate had accepted


async def tried(store: LoopStore) -> list[TriedProposal]:
    """All proposals so far, oldest first; those without a decision yet are left out."""
    return tried_by(await store.rows("decisions"), await store.rows("proposals"))


def tried_by(decisions: Sequence[Row], proposals: Sequence[Row]) -> list[TriedProposal]:
    """Those of `proposals` that `decisions` speak of; both are rows of their tables, in the tables' order."""
    undone = {row["winner"] for row in decisions if row["verdict"] == "rollback"}
    decided = {(row["point"], row["round"]): row for row in decisions if not is_of_monitor(row)}
    return [
        _tried(row, decided[row["point"], row["round"]], row["id"] in undone)
        for row in proposals
        if (row["point"], row["round"]) in decided
    ]


def decided_before(decisions: Sequence[Row], point: int, round_: int) -> list[Row]:
    """What was decided when round `round_` of the intervention at `point` began; `monitor` looks before any round."""
    return [
        row
        for row in decisions
        if (row["point"], row["round"]) < (point, round_) or (is_of_monitor(row) and row["point"] <= point)
    ]


async def quarantined(store: LoopStore) -> set[str]:
    """`shape_hash` of the signals that must never come again in this run: those that were promoted and rolled back,
    and those that the human declined."""
    rows = await store.rows("decisions")
    out = {row["winner"] for row in rows if row["verdict"] in ("rollback", "declined")}
    return {
        Signal.model_validate(row["signal"]).shape_hash() for row in await store.rows("proposals") if row["id"] in out
    }


def is_of_monitor(decision: Row) -> bool:
    """Whether it is about a promotion of the past, and no end of a round."""
    return str(decision["id"]).endswith("-rollback")


def arms_of(decision: Row) -> list[Row]:
    """What is recorded of every arm that ran: those that the gate judged, and those that were screened only."""
    return [*decision["detail"]["judgements"], *decision["detail"]["screened"]]


def _tried(proposal: Row, decision: Row, undone: bool) -> TriedProposal:
    arm: Row = next((arm for arm in arms_of(decision) if arm["arm"] == proposal["id"]), {})
    return TriedProposal(
        proposal_id=proposal["id"],
        point=proposal["point"],
        round=proposal["round"],
        verdict="rolled_back" if undone else _verdict(proposal, decision, arm),
        proposal=Proposal.model_validate(proposal["proposal"]),
        gain=arm.get("gain"),
        gain_low=arm.get("lower"),
        gain_high=arm.get("upper"),
        control=arm.get("control"),
        curve=arm.get("curve", []),
        problems=proposal["problems"],
    )


def _verdict(proposal: Row, decision: Row, arm: Row) -> Verdict:
    """The arm's own, except where the gate judged it and no branch of any arm rose: then it was not really tried; or
    where the gate's acceptance was overturned."""
    if proposal["problems"]:
        return "failed_check"
    if decision["winner"] == proposal["id"] and decision["verdict"] in OVERTURNED:
        return OVERTURNED[decision["verdict"]]
    if not arm:
        return "not_tried"
    verdict: Verdict = arm["verdict"]
    judged = verdict not in ("screened_out", "not_tried")
    return "not_informative" if judged and decision["verdict"] == "not_informative" else verdict


# ---------------------------------------------------------------- MERGED graphs.proposals
# DOC """A proposal as the store keeps it: who made it, where, and the signal that it would put in force."""


def proposal_rows(state: State, proposals: Sequence[Proposal]) -> list[dict[str, Any]]:
    """Rows of the table `proposals` for this round, in order."""
    return [_row(state, position, proposal) for position, proposal in enumerate(proposals)]


def signal_of(proposal: Proposal, status: TrainerStatus) -> Signal:
    """What the proposal would put in force after the signal of `status`."""
    return Signal(
        version=status.signal.version + 1,
        parent=status.signal.version,
        stage=status.stage,
        beta=proposal.beta,
        terms=tuple(proposal.terms),
        exploration=proposal.exploration,
    )


def _row(state: State, position: int, proposal: Proposal) -> dict[str, Any]:
    signal = signal_of(proposal, TrainerStatus.model_validate(state["status"]))
    return {
        "id": f"p{state['point']}-r{state['round']}-{position}",
        "point": state["point"],
        "round": state["round"],
        "position": position,
        "proposal": proposal.model_dump(mode="json"),
        "signal": signal.model_dump(mode="json"),
        "problems": [],
        "notes": [],
        "rank": None,
    }
