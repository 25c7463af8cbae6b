"""generator: candidate signals for the diagnosis."""

from __future__ import annotations

from langgraph.runtime import Runtime

from ...agents.generator import propose
from ...agents.llm.ledger import Place
from ...agents.schemas import Proposal, ProposalSet
from ...errors import ModelAnswerError
from ..asking import ask, diagnosed_payload, end_without_answer
from ..context import Context
from ..history import proposal_rows
from ..state import State


async def generator(state: State, runtime: Runtime[Context]) -> State:
    """Ask for up to `adaptation.candidates` proposals; the history says what earlier rounds have shown.

    A proposal that was fitted to rankings at this point takes the first place in the first round, and the model is
    asked for one fewer.
    """
    ctx, learned = runtime.context, state.get("learned") if state["round"] == 0 else None
    proposals = [] if learned is None else [Proposal.model_validate(learned)]
    missing = ctx.config.adaptation.candidates - len(proposals)
    if missing > 0:

        async def new_proposals() -> ProposalSet:
            payload = await diagnosed_payload(ctx, state)
            return await propose(ctx.models.generator, Place(state["point"], state["round"]), payload, missing)

        answer = await ask(ctx, new_proposals())
        if isinstance(answer, ModelAnswerError):
            return await end_without_answer(ctx, state, answer)
        proposals += answer.proposals
    rows = proposal_rows(state, proposals)
    await ctx.store.write_all("proposals", rows)
    ids = [row["id"] for row in rows]
    return {"proposals": ids, "passed": [], "ranked": [], "note": {"proposals": ids}}
