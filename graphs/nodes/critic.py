"""critic: a diagnosis of what is wrong with learning, or calls of the evidence tools."""

from __future__ import annotations

from langchain_core.messages import AIMessage
from langgraph.runtime import Runtime

from ...agents.critic import diagnose
from ...agents.episode_reader import read_episode
from ...agents.llm.ledger import Place
from ...agents.prompt_payload import build_payload
from ...agents.schemas import CREDIT_FAILURES, Failure
from ...errors import BudgetExhausted, ModelAnswerError
from ...rl.evidence.schema import Evidence
from ...runs.events import Diagnosed
from ...runs.records import InterventionRecord
from ..asking import end_without_answer, end_without_trial
from ..context import Context
from ..history import tried
from ..intervention import intervention_at
from ..state import State
from .critic_tools import TOOLS

READING_PART = "-e"  # of the reading's call
MAX_ERROR_CHARS = 500


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
        intervention = await _with_readings(ctx, intervention)
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


async def _with_readings(ctx: Context, intervention: InterventionRecord) -> InterventionRecord:
    """Have the failed episode of the evidence read step by step, once, where the config says so; the record is kept.

    A reading that fails leaves the evidence as it was.

    Raises:
        BudgetExhausted: calls, tokens or money are used up.
    """
    evidence = Evidence.model_validate(intervention.evidence)
    failed = next((episode for episode in evidence.episodes if episode.every_line), None)
    if not ctx.config.adaptation.read_failures or evidence.readings or failed is None:
        return intervention
    place = Place(intervention.point, part=READING_PART)
    try:
        async with ctx.recording_calls():
            reading = await read_episode(
                ctx.models.episode_reader, place, ctx.spec.description, ctx.spec.agents, failed
            )
    except BudgetExhausted:
        raise
    except ModelAnswerError as error:
        message = str(error)[:MAX_ERROR_CHARS]
        await ctx.warn(
            f"reading {intervention.point}", f"no episode was read at update {intervention.point}: {message}"
        )
        return intervention
    read = {**intervention.evidence, "readings": [reading.model_dump(mode="json")]}
    intervention = intervention.model_copy(update={"evidence": read})
    await ctx.store.write(intervention)
    return intervention
