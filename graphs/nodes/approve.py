"""approve: with `approve: human`, a promotion waits for an answer.

Everything that has an effect comes after the question, since LangGraph runs the node from its top again when the answer
is there; and the question is made of what is in the store, so that it is the same then.
"""

from __future__ import annotations

import asyncio

from langgraph.runtime import Runtime
from langgraph.types import interrupt

from ...errors import ApprovalError
from ...rl.signals.signal import describe_difference
from ...runs.approvals import Answer, given_answer
from ...runs.events import ApprovalGiven, ApprovalNeeded
from ...runs.races import arm_title
from ...runs.records import ProposalRecord
from ...runs.timeline import KICK_ALONE
from ..context import Context
from ..human_review import answer_in, review_request
from ..intervention import cancel_acceptance
from ..state import State, decision_id_of, outcome_of, status_of
from .promote import promotion_of


async def approve(state: State, runtime: Runtime[Context]) -> State:
    """Ask whether to promote; with `approve: auto` nobody is asked and the answer is yes.

    A signal that is declined is not tried again in this run; why it was, if the human has said so, later prompts show.
    """
    ctx = runtime.context
    if ctx.config.adaptation.approve == "auto":
        return {"approved": True, "note": {"approve": "auto"}}
    answer = _answer_to(await _question(ctx, state))
    if answer.yes:
        return {"approved": True, "note": {"approve": "human", "yes": True}}
    if answer.yes is None:
        update = await cancel_acceptance(ctx, state, "stale", "training was over before anybody answered")
    else:
        why = "declined by the human who was asked"
        update = await cancel_acceptance(ctx, state, "declined", why, answer.because)
    return {**update, "approved": False}


def _answer_to(question: ApprovalNeeded) -> Answer:
    """Return the answer; the graph stops here until it has one that can be read."""
    problem = ""
    while True:
        # With an answer the node runs again, and each `interrupt` returns the next one that was given.
        try:
            return answer_in(interrupt(review_request(question, problem)))
        except ApprovalError as error:
            problem = str(error)


async def _question(ctx: Context, state: State) -> ApprovalNeeded:
    promotion = await promotion_of(ctx, state)
    # An arm without a proposal has nothing to say for itself but what it is.
    title, reason = KICK_ALONE.get(promotion.winner) or arm_title(promotion.winner, {}), ""
    for row in await ctx.store.read(ProposalRecord, id=promotion.winner):
        title, reason = row.proposal.title, row.proposal.reason
    outcome = outcome_of(state)
    return ApprovalNeeded(
        id=decision_id_of(state),
        proposal=promotion.winner,
        title=title,
        reason=reason,
        terms=[term.describe() for term in promotion.signal.terms],
        gate="not asked, since the offset is exact" if outcome.claim == "offset" else outcome.explanation,
        diff=describe_difference(status_of(state).signal, promotion.signal),
        replaces=promotion.base_version,
        adopted=promotion.adopted,
    )


async def wait_for_answer(ctx: Context, question: ApprovalNeeded) -> Answer:
    """Wait for the answer, from whichever process it comes.

    Neither yes nor no where training is over before there is one (overlap clock); a lockstep trainer waits as long as
    it takes.
    """
    # Status and pages show what waits, also while no loop runs.
    await ctx.store.set(waiting_for=question.model_dump(mode="json"))
    answer = await asyncio.to_thread(given_answer, ctx.run_dir, question.id)
    if answer is None:
        ctx.emit(question)
    while answer is None:
        if ctx.config.clock == "overlap" and (await ctx.client.status()).state == "finished":
            answer = Answer(yes=None)
            break
        await ctx.pause()
        answer = await asyncio.to_thread(given_answer, ctx.run_dir, question.id)
    await ctx.store.set(waiting_for=None)
    ctx.emit(ApprovalGiven(id=question.id, yes=answer.yes, because=answer.because))
    return answer
