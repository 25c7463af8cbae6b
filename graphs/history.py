"""What was tried before and what its branches said, as models read it."""

from __future__ import annotations

from typing import Any

from ..agents.context import Tried, Verdict
from ..agents.schemas import Proposal
from ..runs.store import LoopStore

Row = dict[str, Any]


async def tried(store: LoopStore) -> list[Tried]:
    """All proposals so far, oldest first; those without a decision yet are left out."""
    decisions = {(row["point"], row["round"]): row for row in await store.rows("decisions")}
    return [
        _tried(row, decisions[row["point"], row["round"]])
        for row in await store.rows("proposals")
        if (row["point"], row["round"]) in decisions
    ]


def arms_of(decision: Row) -> list[Row]:
    """What is recorded of every arm that ran: those that the gate judged, and those that were screened only."""
    return [*decision["detail"]["judgements"], *decision["detail"]["screened"]]


def _tried(proposal: Row, decision: Row) -> Tried:
    arm: Row = next((arm for arm in arms_of(decision) if arm["arm"] == proposal["id"]), {})
    return Tried(
        proposal_id=proposal["id"],
        point=proposal["point"],
        round=proposal["round"],
        verdict=_verdict(proposal, decision, arm),
        proposal=Proposal.model_validate(proposal["proposal"]),
        gain=arm.get("gain"),
        gain_low=arm.get("lower"),
        gain_high=arm.get("upper"),
        control=arm.get("control"),
        curve=arm.get("curve", []),
        problems=proposal["problems"],
    )


def _verdict(proposal: Row, decision: Row, arm: Row) -> Verdict:
    """The arm's own, except where the gate judged it and no branch of any arm rose: then it was not really tried."""
    if proposal["problems"]:
        return "failed_check"
    if not arm:
        return "not_tried"
    verdict: Verdict = arm["verdict"]
    judged = verdict not in ("screened_out", "not_tried")
    return "not_informative" if judged and decision["verdict"] == "not_informative" else verdict
