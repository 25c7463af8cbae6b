"""critic: a diagnosis of what is wrong with learning, or calls of the evidence tools."""

from __future__ import annotations

from langchain_core.messages import AIMessage
from langgraph.runtime import Runtime

from ...agents.critic import diagnose
from ...agents.llm.ledger import Place
from ...agents.prompt_payload import build_payload
from ...agents.schemas import CREDIT_FAILURES, Diagnosis, Failure
from ...errors import ModelAnswerError
from ...runs.events import Diagnosed
from ..asking import ask, end_without_answer, end_without_trial
from ..context import Context
from ..history import tried
from ..intervention import evidence_at
from ..state import State
from .critic_tools import TOOLS


async def critic(state: State, runtime: Runtime[Context]) -> State:
    """Ask for a diagnosis; the model may call evidence tools first, at most `adaptation.evidence_calls` times.

    A diagnosis without a failure ends the intervention. One of unclear credit, or a policy that has left the data of a
    scorer in force, leads to the ranking of single agents' moves.
    """
    ctx, point = runtime.context, state["point"]

    async def diagnosis_or_calls() -> Diagnosis | AIMessage:
        payload = build_payload(await evidence_at(ctx, point), await tried(ctx.store))
        conversation, calls_left = state.get("messages", []), max(state["calls_left"], 0)
        return await diagnose(ctx.models.critic, Place(point), payload, conversation, TOOLS, calls_left)

    answer = await ask(ctx, diagnosis_or_calls())
    if isinstance(answer, ModelAnswerError):
        return await end_without_answer(ctx, state, answer)
    if isinstance(answer, AIMessage):
        names = [call["name"] for call in answer.tool_calls]
        # Below 0 where one message calls more tools than are left: `critic_tools` refuses those beyond.
        return {"messages": [answer], "calls_left": state["calls_left"] - len(names), "note": {"calls": names}}

    diagnosis = answer.model_dump(mode="json")
    await ctx.store.update("diagnoses", [{"point": point, "diagnosis": diagnosis}])
    failures = [finding.failure.value for finding in answer.findings]
    ctx.emit(Diagnosed(point=point, failures=failures))
    if set(failures) == {Failure.INSUFFICIENT_EVIDENCE.value}:
        reason = answer.findings[0].explanation or "the evidence shows no failure"
        return {**await end_without_trial(ctx, state, "insufficient_evidence", reason), "diagnosis": diagnosis}
    unclear = any(finding.failure in CREDIT_FAILURES for finding in answer.findings)
    ranking = ctx.config.preferences.ranker != "none" and bool(state.get("left_data") or unclear)
    return {"diagnosis": diagnosis, "ranking": ranking, "note": {"failures": failures}}
