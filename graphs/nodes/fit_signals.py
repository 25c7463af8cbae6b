"""fit_signals: where credit is unclear, fit signals to the run's own experience; no model is asked.

What comes of it is one of the candidates: check, branches and gate treat it like any other. It is never put in force by
itself. The policy moves on, so it is fitted anew at every point; a signal in force is never changed in place.
"""

from __future__ import annotations

from typing import Any

from langgraph.runtime import Runtime

from ...agents.schemas import CREDIT_FAILURES, Diagnosis, Failure, Proposal
from ...errors import FitError
from ...rl.fitting.jobs import DecomposeJob
from ...rl.signals.signal import MAX_TERMS
from ...rl.signals.terms import DecompositionTerm, Term
from ...rl.task import splitmix64
from ...runs.events import SignalFitted
from ...runs.records import FitDetail, FitRecord
from ..branches import snapshot_of
from ..child_jobs import result_of
from ..context import Context
from ..state import State, status_of

MODULE = "cosignal.rl.fitting"  # whose processes do the jobs
DECOMPOSITION = "return_decomposition"
DECOMPOSITION_TITLE = "Each agent's share in the return"  # of the proposal
SEED = 0xF177ED
BETA = 1.0  # with it the mean of what agents are paid besides adds up to the return
MAX_ADDRESSES, MAX_ERROR_CHARS = 4, 500  # of a proposal; of a note


async def fit_signals(state: State, runtime: Runtime[Context]) -> State:
    """Decompose the returns of the policy's episodes, and make the proposal that pays by it.

    Where that fails, or does not explain enough of the returns, the intervention goes on without it. After a ranking it
    is passed through, where nothing is to be fitted.
    """
    if not state.get("fitting"):
        return {"fitted": []}
    ctx, point = runtime.context, state["point"]
    config = ctx.config.learned_signals.return_decomposition
    job = DecomposeJob(
        run_dir=ctx.run_dir,
        snapshot=snapshot_of(status_of(state)),
        config=config,
        seed=splitmix64(splitmix64(SEED ^ ctx.config.seed) ^ point) >> 33,
        out=f"fits/update_{point:09d}/{DECOMPOSITION}",
    )
    try:
        result = await result_of(ctx, MODULE, job, FitError)
    except FitError as error:
        message = str(error)[:MAX_ERROR_CHARS]
        await ctx.warn(f"fit {point}", f"a signal could not be fitted at update {point}: {message}")
        return {"fitted": [], "note": {"error": message}}
    record = FitRecord(
        id=f"p{point}-{DECOMPOSITION}",
        point=point,
        kind=DECOMPOSITION,
        steps=result["steps"],
        detail=FitDetail.model_validate(result),
    )
    await ctx.store.write(record)
    ctx.emit(SignalFitted(point=point, what=DECOMPOSITION, steps=record.steps, detail=record.detail.model_dump()))
    note: dict[str, Any] = {DECOMPOSITION: record.detail.model_dump(mode="json")}
    explained = record.detail.explained
    if explained is None or explained < config.least_explained:
        return {"fitted": [], "note": note}
    proposal = _proposal(ctx, state, record.detail, explained)
    if proposal is None:
        note["error"] = f"the signal in force leaves no room for it among {MAX_TERMS} terms"
        return {"fitted": [], "note": note}
    return {"fitted": [proposal.model_dump(mode="json")], "note": note}


def _proposal(ctx: Context, state: State, fit: FitDetail, explained: float) -> Proposal | None:
    """Make a proposal of the fitted networks: terms beside those in force, in the place of older ones of the kind.

    None where a proposal may not have as many.
    """
    in_force, config = status_of(state).signal, ctx.config.learned_signals.return_decomposition
    terms: list[Term] = [term for term in in_force.terms if not isinstance(term, DecompositionTerm)]
    beta = in_force.beta if in_force.terms and in_force.beta else BETA
    strength = beta * (in_force.scale or 1.0) if terms else beta
    terms += config.terms(ctx.spec, {int(g): scorer for g, scorer in fit.scorers.items()}, strength)
    if len(terms) > MAX_TERMS:
        return None
    diagnosis = Diagnosis.model_validate(state["diagnosis"])
    addresses = [finding.failure for finding in diagnosis.findings if finding.failure in CREDIT_FAILURES]
    shares = ", ".join(f"{agent} {share:.0%}" for agent, share in list(fit.shares.items())[:8])
    return Proposal(
        title=DECOMPOSITION_TITLE,
        reason=f"Fitted to {fit.episodes} episodes; it explains {explained:.0%} of how held-out returns differ. "
        f"Of what it pays: {shares}.",
        addresses=addresses[:MAX_ADDRESSES] or [Failure.UNCLEAR_CREDIT],
        beta=beta,
        terms=terms,
    )
