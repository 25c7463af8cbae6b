"""fit_signals: signals are fitted to the run's own experience; for some kinds a model judges it first.

What comes of it is one of the candidates: check, branches and gate treat it like any other. It is never put in force by
itself. The policy moves on, so it is fitted anew at every point; a signal in force is never changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.runtime import Runtime

from ...agents.schemas import CREDIT_FAILURES, Diagnosis, Failure, Proposal
from ...errors import BudgetExhausted, FitError, ModelAnswerError
from ...rl.fitting.jobs import FitJob, FitResult
from ...rl.signals.learned.config import FIT_KINDS, FitKind
from ...rl.signals.learned.fit_config import EpisodesConfig
from ...rl.signals.signal import MAX_TERMS
from ...rl.signals.terms import Term
from ...rl.task import splitmix64
from ...runs.events import SignalFitted
from ...runs.records import FitDetail, FitRecord
from ..asking import adaptation_over
from ..branches import snapshot_of
from ..child_jobs import result_of
from ..context import Context
from ..judging import JUDGEMENTS, ask_judge
from ..state import State, status_of

MODULE = "cosignal.rl.fitting"  # whose processes do the jobs
TITLES: Mapping[FitKind, str] = {  # of the proposals
    "return_decomposition": "Each agent's share in the return",
    "named_states": "A few states that tell most",
    "step_rewards": "Steps as better episodes had them",
    "message_hash": "Steps that were called helpful",
    "message_classifier": "Steps like those that were called helpful",
    "message_ranking": "Steps like those that were preferred",
    "progress": "How far it is judged to be on the way",
    "goal_similarity": "As successful episodes end",
}
SEED = 0xF177ED
BETA = 1.0  # with it the mean of what agents are paid by their shares adds up to the return
MAX_ADDRESSES, MAX_ERROR_CHARS = 4, 500  # of a proposal; of a note


async def fit_signals(state: State, runtime: Runtime[Context]) -> State:
    """Fit every kind to the same episodes of the policy, and make a proposal of each that is good enough.

    Where that fails, or nothing is, the intervention goes on without it. After a ranking it is passed through, where
    nothing is to be fitted.
    """
    wanted = state.get("fitting") or []
    if not wanted:
        return {"fitted": []}
    ctx, point = runtime.context, state["point"]
    # in runs of older versions it says only that something is to be fitted
    kinds = [kind for kind in FIT_KINDS if kind in wanted] if isinstance(wanted, list) else [FIT_KINDS[0]]
    seed = splitmix64(splitmix64(SEED ^ ctx.config.seed) ^ point) >> 33
    unanswered = ""
    try:
        judged = await ask_judge(ctx, point, status_of(state), kinds, seed)
    except BudgetExhausted as error:
        return {"fitted": [], **adaptation_over(ctx), "note": {"error": str(error)[:MAX_ERROR_CHARS]}}
    except ModelAnswerError as error:  # the other kinds are fitted all the same, and these to what is known
        judged, unanswered = True, str(error)[:MAX_ERROR_CHARS]
        await ctx.warn(f"judge {point}", f"nobody judged at update {point}: {unanswered}")
    except FitError as error:
        return {"fitted": [], "note": {"error": str(error)[:MAX_ERROR_CHARS]}}
    job = FitJob(
        run_dir=ctx.run_dir,
        snapshot=snapshot_of(status_of(state)),
        fits=tuple(kinds),
        config=ctx.config.learned_signals,
        judgements=JUDGEMENTS if judged else None,
        seed=seed,
        out=f"fits/update_{point:09d}",
    )
    try:
        result = FitResult.model_validate(await result_of(ctx, MODULE, job, FitError))
    except FitError as error:
        message = str(error)[:MAX_ERROR_CHARS]
        await ctx.warn(f"fit {point}", f"a signal could not be fitted at update {point}: {message}")
        return {"fitted": [], "note": {"error": message}}

    proposals, note, full = list[Proposal](), dict[str, Any](), [unanswered] if unanswered else []
    played_for = [kind for kind in kinds if isinstance(ctx.config.learned_signals.of(kind), EpisodesConfig)]
    for kind in kinds:
        detail = FitDetail(episodes=result.episodes if kind in played_for else 0, **dict(result.fits[kind]))
        # what was played is counted once
        steps = result.steps if kind in played_for[:1] else 0
        record = FitRecord(id=f"p{point}-{kind}", point=point, kind=kind, steps=steps, detail=detail)
        await ctx.store.write(record)
        told = detail.model_dump(mode="json")
        ctx.emit(SignalFitted(point=point, what=kind, steps=steps, detail=told))
        note[kind] = told
        if ctx.config.learned_signals.of(kind).accepts(detail):
            proposal = _proposal(ctx, state, kind, detail)
            if proposal is None:
                full.append(f"the signal in force leaves no room for {kind} among {MAX_TERMS} terms")
            else:
                proposals.append(proposal)
    if full:
        note["error"] = "; ".join(full)
    # there are no more than are tried
    proposals = proposals[: ctx.config.adaptation.candidates]
    return {"fitted": [proposal.model_dump(mode="json") for proposal in proposals], "note": note}


def _proposal(ctx: Context, state: State, kind: FitKind, fit: FitDetail) -> Proposal | None:
    """Make a proposal of what was fitted: terms beside those in force, in the place of older ones of the kind.

    None where a proposal may not have as many.
    """
    in_force, config = status_of(state).signal, ctx.config.learned_signals.of(kind)
    terms: list[Term] = [term for term in in_force.terms if not config.replaces(term)]
    beta = in_force.beta if in_force.terms and in_force.beta else BETA
    strength = beta * (in_force.scale or 1.0) if terms else beta
    terms += [config.at_strength(term, strength) for term in fit.terms]
    if len(terms) > MAX_TERMS:
        return None
    diagnosis = Diagnosis.model_validate(state["diagnosis"])
    found = [finding.failure for finding in diagnosis.findings]
    addresses = (
        [failure for failure in found if failure in CREDIT_FAILURES] if config.where_credit_is_unclear else found
    )
    shares = ", ".join(f"{agent} {share:.0%}" for agent, share in list(fit.shares.items())[:8])
    return Proposal(
        title=TITLES[kind],
        reason=(f"Fitted to {fit.episodes} episodes; it " if fit.episodes else "It ")
        + f"{fit.figure()}."
        + (f" It pays: {shares}." if shares else ""),
        addresses=addresses[:MAX_ADDRESSES] or [Failure.UNCLEAR_CREDIT],
        beta=beta,
        terms=terms,
    )
