"""rank_proposals: the order in which candidates join a race, or get the branch budget where signals are judged."""

from __future__ import annotations

from langgraph.runtime import Runtime

from ...agents.llm.ledger import Place
from ...agents.ranker import rank
from ...errors import ModelAnswerError
from ...runs.records import ProposalRecord
from ..asking import diagnosed_payload, end_without_answer
from ..branches import round_exploration
from ..context import Context
from ..state import State, status_of


async def rank_proposals(state: State, runtime: Runtime[Context]) -> State:
    """Order what passed `check`, and fix the exploration that every arm gets where a signal is judged.

    A model is asked where there is a choice among proposals that a model has made; given signals keep their order.
    """
    ctx, order = runtime.context, state["passed"]
    rows = {row.id: row for row in await ctx.store.read(ProposalRecord, point=state["point"], round=state["round"])}
    if len(order) > 1 and not (state.get("removing") or state.get("given")):
        place, proposals = Place(state["point"], state["round"]), {key: rows[key].proposal for key in order}
        previews = {key: preview for key in order if (preview := rows[key].preview) is not None}
        try:
            async with ctx.recording_calls():
                payload = await diagnosed_payload(ctx, state)
                race = ctx.config.race_rules()
                answer = await rank(ctx.models.ranker, place, payload, proposals, race, previews)
        except ModelAnswerError as error:
            return await end_without_answer(ctx, state, error)
        order = answer.order
    await ctx.store.write(*(rows[key].model_copy(update={"rank": rank_}) for rank_, key in enumerate(order)))
    # Judged arms get one exploration, the control too: else its effect would be taken for the signal's. Arms of a race
    # may explore differently.
    exploration = round_exploration([rows[key].proposal.exploration for key in order], status_of(state).signal)
    return {"ranked": order, "exploration": exploration.model_dump(mode="json"), "note": {"ranked": order}}
