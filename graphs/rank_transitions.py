"""rank_transitions: where credit is unclear, rank single agents' moves and fit a scorer to the rankings (LCA).

What comes of it is one more proposal: check, branches and gate treat it like any other. It is never put in force by
itself, and a scorer in force is never changed in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from langgraph.runtime import Runtime

from ..agents.ledger import Place
from ..agents.schemas import OF_CREDIT, Diagnosis, Failure, Proposal
from ..agents.transition_ranker import RankItem, RankSetting
from ..agents.transition_ranker import rank_transitions as ask_about
from ..errors import BudgetExhausted, ModelAnswerError, PreferenceError
from ..rl.ipc.messages import TrainerStatus
from ..rl.preferences.answers import RecordedAnswer, append_answers, read_answers
from ..rl.preferences.pairs import Pairs
from ..rl.preferences.votes import oracle_votes
from ..rl.signals.signal import LearnedTerm, Signal, Term
from ..rl.task import splitmix64
from .context import Ctx
from .events import TransitionsRanked
from .preferences import Collected, answers_path, collected_pairs, fitted_scorers
from .state import State

ORACLE = "task_heuristic"
TITLE = "What the Ranker prefers"  # of the proposal that scorers make
NO_PROMPT = "0" * 16  # of answers that no prompt asked for
BETA = 0.5


async def rank_transitions(state: State, runtime: Runtime[Ctx]) -> State:
    """Pairs of the current policy, votes on them, scorers, and the proposal that they make. Where the Ranker fails, the
    intervention goes on without it."""
    ctx, point, status = runtime.context, state["point"], TrainerStatus.model_validate(state["status"])
    ranker = ranker_name(ctx)
    try:
        collected = await collected_pairs(ctx, point, status)
        detail = {"groups": {}, "key_steps": collected.key_steps}
        row = {"point": point, "ranker": ranker, "steps": collected.steps, "detail": detail}
        await ctx.store.write("rankings", row)
        await _vote(ctx, point, collected)
        groups = await fitted_scorers(ctx, point)
    except BudgetExhausted as error:
        return {"learned": None, "adaptation_over": True, "note": {"ranker": ranker, "error": str(error)[:500]}}
    except (ModelAnswerError, PreferenceError) as error:
        return {"learned": None, "note": {"ranker": ranker, "error": str(error)[:500]}}
    await ctx.store.update("rankings", [{"point": point, "detail": detail | {"groups": groups}}])
    ctx.emit(TransitionsRanked(point=point, ranker=ranker, steps=collected.steps, groups=groups))
    proposal = offered(ctx, status.signal, Diagnosis.model_validate(state["diagnosis"]), groups, ranker)
    return {"learned": proposal.model_dump(mode="json"), "note": {"ranker": ranker, "groups": groups}}


def ranker_name(ctx: Ctx) -> str:
    """Who ranks, as reports say it: an oracle is named as what it is."""
    preferences = ctx.config.preferences
    if preferences.ranker == ORACLE:
        return f"{ORACLE} (an oracle, no model; accuracy {preferences.accuracy:g}, {preferences.queries} votes a pair)"
    model = ctx.config.llm.for_role("ranker")
    return f"{model.provider} {model.model or ''}".strip()


# ---------------------------------------------------------------- votes


async def _vote(ctx: Ctx, point: int, collected: Collected) -> None:
    """Answers for every pair and query that has none yet."""
    path = answers_path(ctx, point)
    known = {(a.pair, a.agent, a.query) for a in await asyncio.to_thread(read_answers, path)}
    for group in collected.pairs:
        if ctx.config.preferences.ranker == ORACLE:
            answers = [a for a in _oracle(ctx, point, group) if (a.pair, a.agent, a.query) not in known]
            await asyncio.to_thread(append_answers, path, answers)
        else:
            await _ask(ctx, point, group, known, collected.key_steps)


def _oracle(ctx: Ctx, point: int, pairs: Pairs) -> list[RecordedAnswer]:
    preferences, agents = ctx.config.preferences, ctx.spec.groups[pairs.group].agents
    seed = splitmix64(splitmix64(ctx.config.seed) ^ point) >> 33
    votes = oracle_votes(pairs.label, preferences.queries, preferences.accuracy, seed)
    return [
        RecordedAnswer(pair=pair, agent=agents[i], query=query, prompt=NO_PROMPT, vote=float(vote), model=ORACLE)
        for pair, i, row in zip(pairs.ids(), pairs.agent.tolist(), votes, strict=True)
        for query, vote in enumerate(row)
    ]


async def _ask(ctx: Ctx, point: int, pairs: Pairs, known: set[tuple[str, str, int]], key_steps: Sequence[str]) -> None:
    """What a model says is written as it comes, so that no answer that was paid for is lost."""
    group, preferences = ctx.spec.groups[pairs.group], ctx.config.preferences
    items = [
        RankItem(pair=pair, agent=group.agents[i], before=before, action=group.action_text(action), after=after)
        for pair, i, action, before, after in zip(
            pairs.ids(), pairs.agent.tolist(), pairs.action, pairs.before, pairs.after, strict=True
        )
    ]
    told = RankSetting(ctx.spec.description, ctx.spec.agents, key_steps)
    asked = ask_about(
        ctx.models.transition_ranker, Place(point), told, items,
        queries=preferences.queries, batch=preferences.batch, known=known,
    )  # fmt: skip
    try:
        async with aclosing(asked):
            async for answers in asked:
                # first, for what was paid must be known before its answer keeps it from being asked
                await ctx.write_calls()
                await asyncio.to_thread(append_answers, answers_path(ctx, point), answers)
    finally:
        await ctx.write_calls()


# ---------------------------------------------------------------- the proposal


def offered(
    ctx: Ctx, in_force: Signal, diagnosis: Diagnosis, groups: dict[str, dict[str, Any]], ranker: str
) -> Proposal:
    """The scorers as terms beside those in force, in the place of older ones."""
    terms: list[Term] = [term for term in in_force.terms if not isinstance(term, LearnedTerm)]
    fits = []
    for g, group in groups.items():
        name = ctx.spec.groups[int(g)].name
        form = ctx.config.preferences.form
        terms.append(LearnedTerm(name=f"ranked_{g}", scorer=group["scorer"], form=form, agents=name))
        fits.append(f"{name}: {group['pairs']} pairs, {_right_on(group['accuracy'])}")
    addresses = [finding.failure for finding in diagnosis.findings if finding.failure in OF_CREDIT]
    return Proposal(
        title=TITLE,
        reason=f"Scorers fitted to single agents' moves, ranked by {ranker}. {'; '.join(fits)}."[:600],
        addresses=addresses[:4] or [Failure.UNCLEAR_CREDIT],
        beta=in_force.beta if in_force.terms else BETA,
        terms=terms[-8:],
    )


def _right_on(accuracy: float | None) -> str:
    if accuracy is None:
        return "no preference among the votes kept apart"
    return f"right on {accuracy:.0%} of the votes kept apart"
