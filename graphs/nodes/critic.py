"""critic: a diagnosis of what is wrong with learning, or calls of the evidence tools."""

from __future__ import annotations

from langchain_core.messages import AIMessage
from langgraph.runtime import Runtime

from ...agents.critic import diagnose
from ...agents.llm.ledger import Place
from ...agents.prompt_payload import build_payload
from ...agents.schemas import CREDIT_FAILURES, Failure
from ...errors import ModelAnswerError
from ...rl.evidence.schema import Evidence
from ...runs.events import Diagnosed
from ..asking import end_without_answer, end_without_trial
from ..context import Context
from ..history import tried
from ..intervention import intervention_at
from ..state import State
from .critic_tools import TOOLS


async def critic(state: State, runtime: Runtime[Context]) -> State:
    """Ask for a diagnosis; the model may call evidence tools first, at most `adaptation.evidence_calls` times.

    A diagnosis without a failure ends the intervention. One of unclear credit, or a policy that has left the data of a
    scorer in force, leads to the ranking of single agents' moves. Some kinds of signals are fitted only where credit is
    unclear.
    """
    ctx, point = runtime.context, state["point"]
    intervention = await intervention_at(ctx, point)
    calls_left, messages = max(state["calls_left"], 0), state.get("messages", [])
    try:
        async with ctx.recording_calls():
            payload = build_payload(Evidence.model_validate(intervention.evidence), await tried(ctx.store))
            answer = await diagnose(ctx.models.critic, Place(point), payload, messages, TOOLS, calls_left)
    except ModelAnswerError as error:
        return await end_without_answer(ctx, state, error)

    # Tool calls: `critic_tools` answers them, and the Critic is asked again.
    if isinstance(answer, AIMessage):
        names = [call["name"] for call in answer.tool_calls]
        # Below 0 where one message calls more tools than are left: `critic_tools` refuses those beyond.
        return {"messages": [answer], "calls_left": state["calls_left"] - len(names), "note": {"calls": names}}

    # A diagnosis.
    await ctx.store.write(intervention.model_copy(update={"diagnosis": answer}))
    diagnosis = answer.model_dump(mode="json")
    failures = [finding.failure.value for finding in answer.findings]
    ctx.emit(Diagnosed(point=point, failures=failures))
    if set(failures) == {Failure.INSUFFICIENT_EVIDENCE.value}:
        reason = answer.findings[0].explanation or "the evidence shows no failure"
        return {**await end_without_trial(ctx, state, "insufficient_evidence", reason), "diagnosis": diagnosis}
    unclear = any(finding.failure in CREDIT_FAILURES for finding in answer.findings)
    ranking = ctx.config.preferences.ranker != "none" and bool(state.get("left_data") or unclear)
    kinds = ctx.config.learned_signals.enabled.items()
    fitting: list[str] = [kind for kind, config in kinds if unclear or not config.where_credit_is_unclear]
    return {"diagnosis": diagnosis, "ranking": ranking, "fitting": fitting, "note": {"failures": failures}}
