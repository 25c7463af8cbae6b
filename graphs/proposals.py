"""A proposal as the store keeps it: who made it, where, and the signal that it would put in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..agents.schemas import Proposal
from ..rl.ipc.messages import TrainerStatus
from ..rl.signals.signal import Signal
from .state import State


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
