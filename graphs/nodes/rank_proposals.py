"""rank_proposals: the order in which candidates get the branch budget."""

from __future__ import annotations

from langgraph.runtime import Runtime

from ...agents.llm.ledger import Place
from ...agents.ranker import rank
from ...agents.schemas import Proposal, ProposalRanking
from ...errors import ModelAnswerError
from ...rl.ipc.messages import TrainerStatus
from ..asking import ask, diagnosed_payload, end_without_answer
from ..branches import round_exploration
from ..context import Context
from ..state import State


async def rank_proposals(state: State, runtime: Runtime[Context]) -> State:
    """Order what passed `check`, and fix the exploration that every arm gets.

    A model is asked where there is a choice among proposals that a model has made.
    """
    ctx, order = runtime.context, state["passed"]
    rows = {row["id"]: row for row in await ctx.store.rows("proposals", point=state["point"], round=state["round"])}
    proposals = {key: Proposal.model_validate(rows[key]["proposal"]) for key in order}
    if len(order) > 1 and not state.get("removing"):

        async def ranking() -> ProposalRanking:
            payload = await diagnosed_payload(ctx, state)
            return await rank(ctx.models.ranker, Place(state["point"], state["round"]), payload, proposals)

        answer = await ask(ctx, ranking())
        if isinstance(answer, ModelAnswerError):
            return await end_without_answer(ctx, state, answer)
        order = answer.order
    await ctx.store.update("proposals", [{"id": key, "rank": position} for position, key in enumerate(order)])
    in_force = TrainerStatus.model_validate(state["status"]).signal
    exploration = round_exploration([proposals[key].exploration for key in order], in_force)
    return {"ranked": order, "exploration": exploration.model_dump(mode="json"), "note": {"ranked": order}}
