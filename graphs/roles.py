"""critic, generator, rank_proposals: the nodes that ask a model. A model that fails to answer ends the intervention, as
data; training goes on."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from langchain_core.messages import AIMessage
from langgraph.runtime import Runtime

from ..agents.context import build_context
from ..agents.critic import diagnose
from ..agents.generator import propose
from ..agents.ledger import Place
from ..agents.ranker import rank
from ..agents.schemas import OF_CREDIT, Diagnosis, Failure, Proposal, ProposalRanking, ProposalSet
from ..errors import BudgetExhausted, ModelAnswerError
from ..rl.ipc.messages import TrainerStatus
from .branching import round_exploration
from .context import Ctx
from .decide import decision_id
from .events import Decided, Diagnosed
from .history import tried
from .keep_control import end_intervention
from .proposals import proposal_rows
from .round import evidence_at
from .state import State, Verdict
from .tools import TOOLS

T = TypeVar("T")


async def critic(state: State, runtime: Runtime[Ctx]) -> State:
    """A diagnosis, or calls of evidence tools (at most `adaptation.evidence_calls`). Where nothing is found, the
    intervention is over."""
    ctx = runtime.context
    answer = await _answer(ctx, _ask_critic(ctx, state))
    if isinstance(answer, ModelAnswerError):
        return await _no_answer(ctx, state, answer)
    if isinstance(answer, AIMessage):
        calls = [call["name"] for call in answer.tool_calls]
        return {"messages": [answer], "calls_left": state["calls_left"] - len(calls), "note": {"calls": calls}}
    diagnosis = answer.model_dump(mode="json")
    await ctx.store.update("diagnoses", [{"point": state["point"], "diagnosis": diagnosis}])
    failures = [finding.failure.value for finding in answer.findings]
    ctx.emit(Diagnosed(point=state["point"], failures=failures))
    if set(failures) == {Failure.INSUFFICIENT_EVIDENCE.value}:
        reason = answer.findings[0].explanation or "the evidence shows no failure"
        return {**await _over(ctx, state, "insufficient_evidence", reason), "diagnosis": diagnosis}
    ranking = ctx.config.preferences.ranker != "none" and bool(state.get("left_data") or _of_credit(answer))
    return {"diagnosis": diagnosis, "ranking": ranking, "note": {"failures": failures}}


def _of_credit(diagnosis: Diagnosis) -> bool:
    return any(finding.failure in OF_CREDIT for finding in diagnosis.findings)


async def generator(state: State, runtime: Runtime[Ctx]) -> State:
    """Up to `adaptation.candidates` proposals; what the rounds before have shown is in the history. One that was fitted
    to rankings comes first in the first round, in the place of a model's."""
    ctx, learned = runtime.context, state.get("learned") if state["round"] == 0 else None
    fitted = [] if learned is None else [Proposal.model_validate(learned)]
    proposals = list(fitted)
    if len(fitted) < ctx.config.adaptation.candidates:
        answer = await _answer(ctx, _ask_generator(ctx, state, ctx.config.adaptation.candidates - len(fitted)))
        if isinstance(answer, ModelAnswerError):
            return await _no_answer(ctx, state, answer)
        proposals += answer.proposals
    rows = proposal_rows(state, proposals)
    await ctx.store.write_all("proposals", rows)
    ids = [row["id"] for row in rows]
    return {"proposals": ids, "passed": [], "ranked": [], "note": {"proposals": ids}}


async def rank_proposals(state: State, runtime: Runtime[Ctx]) -> State:
    """The order in which what passed gets the branch budget, and the exploration that all arms get. No model is asked
    about proposals that no model has made."""
    ctx, ids = runtime.context, state["passed"]
    rows = {row["id"]: row for row in await ctx.store.rows("proposals", point=state["point"], round=state["round"])}
    proposals = {key: Proposal.model_validate(rows[key]["proposal"]) for key in ids}
    order = ids
    if len(ids) > 1 and not state.get("removing"):
        answer = await _answer(ctx, _ask_ranker(ctx, state, proposals))
        if isinstance(answer, ModelAnswerError):
            return await _no_answer(ctx, state, answer)
        order = answer.order
    await ctx.store.update("proposals", [{"id": key, "rank": place} for place, key in enumerate(order)])
    in_force = TrainerStatus.model_validate(state["status"]).signal
    exploration = round_exploration([proposals[key].exploration for key in order], in_force)
    return {"ranked": order, "exploration": exploration.model_dump(mode="json"), "note": {"ranked": order}}


# ---------------------------------------------------------------- asking


async def _ask_critic(ctx: Ctx, state: State) -> Diagnosis | AIMessage:
    context = build_context(await evidence_at(ctx, state["point"]), await tried(ctx.store))
    left = max(state["calls_left"], 0)
    return await diagnose(ctx.models.critic, Place(state["point"]), context, state.get("messages", []), TOOLS, left)


async def _ask_generator(ctx: Ctx, state: State, k: int) -> ProposalSet:
    context = await _diagnosed(ctx, state)
    return await propose(ctx.models.generator, Place(state["point"], state["round"]), context, k)


async def _ask_ranker(ctx: Ctx, state: State, proposals: dict[str, Proposal]) -> ProposalRanking:
    context = await _diagnosed(ctx, state)
    return await rank(ctx.models.ranker, Place(state["point"], state["round"]), context, proposals)


async def _diagnosed(ctx: Ctx, state: State) -> dict[str, Any]:
    diagnosis = Diagnosis.model_validate(state["diagnosis"])
    return build_context(await evidence_at(ctx, state["point"]), await tried(ctx.store), diagnosis)


async def _answer(ctx: Ctx, asked: Awaitable[T]) -> T | ModelAnswerError:
    """What the model says, or why it said nothing; its calls are in the ledger either way."""
    try:
        return await asked
    except ModelAnswerError as error:
        return error
    finally:
        await ctx.write_calls()


# ---------------------------------------------------------------- ending early


async def _no_answer(ctx: Ctx, state: State, error: ModelAnswerError) -> State:
    over = isinstance(error, BudgetExhausted)
    reason = f"{type(error).__name__}: {error}"[:2000]
    return {**await _over(ctx, state, "budget" if over else "no_answer", reason), "adaptation_over": over}


async def _over(ctx: Ctx, state: State, verdict: Verdict, reason: str) -> State:
    """Record that the intervention ends here, with nothing tried in this round; training goes on."""
    row = {
        "id": decision_id(state),
        "point": state["point"],
        "round": state["round"],
        "verdict": verdict,
        "winner": None,
        "adopted": None,
        "version": None,
        "detail": {"reason": reason, "judgements": [], "screened": []},
        "created_steps": state["status"]["steps_main"],
    }
    await ctx.store.write("decisions", row)
    ctx.emit(Decided(id=decision_id(state), verdict=verdict, winner=None, reason=reason))
    return await end_intervention(ctx, state, row)
