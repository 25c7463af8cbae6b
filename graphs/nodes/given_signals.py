"""given_signals: the candidates are those that the config gives (`adaptation.signals`).

Nobody has diagnosed anything: no model is asked, nor the rules. They are the same at every intervention.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph.runtime import Runtime

from ...agents.schemas import Failure, Proposal
from ...config.given_signals import GivenSignal
from ..context import Context
from ..history import proposal_records
from ..state import State


async def given_signals(state: State, runtime: Runtime[Context]) -> State:
    """Make the proposals of the only round: the given signals, in the order of the config."""
    proposals = given_proposals(runtime.context.config.adaptation.signals)
    records = proposal_records(state, proposals)
    await runtime.context.store.write(*records)
    ids = [record.id for record in records]
    return {"proposals": ids, "passed": [], "ranked": [], "note": {"proposals": ids}}


def given_proposals(signals: Sequence[GivenSignal]) -> list[Proposal]:
    """Make a proposal of each given signal; it addresses no failure, since nobody has looked for one."""
    return [
        Proposal(
            title=given.title,
            reason=f"Signal {number} of {len(signals)} given by the config (adaptation.signals); no model was asked.",
            addresses=[Failure.INSUFFICIENT_EVIDENCE],
            beta=given.signal.beta,
            terms=list(given.signal.terms),
            exploration=given.signal.exploration,
            learner=given.signal.learner,
        )
        for number, given in enumerate(signals, start=1)
    ]
