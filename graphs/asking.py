"""Asking a model from a node. A model that fails to answer ends the intervention, as data; training goes on."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from ..agents.prompt_payload import Payload, build_payload
from ..agents.schemas import Diagnosis
from ..errors import BudgetExhausted, ModelAnswerError
from ..runs.events import Decided
from .context import Context
from .history import tried
from .intervention import decision_id, end_intervention, evidence_at
from .state import State, Verdict

T = TypeVar("T")


async def ask(ctx: Context, answer: Awaitable[T]) -> T | ModelAnswerError:
    """Await a model's answer, or give back why there is none; its calls are in the ledger either way.

    `answer` builds its prompt itself, since a prompt that is too long is a reason for no answer too.
    """
    try:
        return await answer
    except ModelAnswerError as error:
        return error
    finally:
        await ctx.write_calls()


async def diagnosed_payload(ctx: Context, state: State) -> Payload:
    """Build the payload of the prompts that follow a diagnosis."""
    diagnosis = Diagnosis.model_validate(state["diagnosis"])
    return build_payload(await evidence_at(ctx, state["point"]), await tried(ctx.store), diagnosis)


async def end_without_answer(ctx: Context, state: State, error: ModelAnswerError) -> State:
    """End the intervention because a model did not answer; with the model budget used up, end adaptation with it."""
    budget_is_used_up = isinstance(error, BudgetExhausted)
    verdict: Verdict = "budget" if budget_is_used_up else "no_answer"
    update = await end_without_trial(ctx, state, verdict, f"{type(error).__name__}: {error}"[:2000])
    return {**update, "adaptation_over": budget_is_used_up}


async def end_without_trial(ctx: Context, state: State, verdict: Verdict, reason: str) -> State:
    """Record that the intervention ends here, with nothing tried in this round."""
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
