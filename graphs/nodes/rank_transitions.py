"""A rehearsal: a fork of the run, trained for a while on scorers that are in force nowhere, so that moves can be ranked
which the run itself does not make yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from langgraph.runtime import Runtime

from ...agents.llm.ledger import Place
from ...agents.schemas import OF_CREDIT, Diagnosis, Failure, Proposal
from ...agents.transition_ranker import RankItem, RankSetting
from ...agents.transition_ranker import rank_transitions as ask_about
from ...errors import BudgetExhausted, ModelAnswerError, PreferenceError
from ...rl.ipc.messages import TrainerStatus
from ...rl.preferences.pairs import Pairs
from ...rl.preferences.votes import RecordedAnswer, append_answers, oracle_votes, read_answers
from ...rl.signals.signal import Exploration, LearnedTerm, Signal, Term
from ...runs.events import TransitionsRanked
from ..branches import branch_job, run_branches, snapshot_of
from ..context import Context
from ..history import signal_of
from ..intervention import cost_of_round, horizon_at, return_range_at, steps_left
from ..preference_jobs import Groups, RankingRound, answers_path, collected_pairs, fitted_scorers, known_scorers
from ..state import State

# ---------------------------------------------------------------- MERGED graphs.rehearsal

ARM = "rehearsal"
KICK = 0.05  # a policy that has collapsed would go nowhere new


async def rehearsed(
    ctx: Context, point: int, number: int, status: TrainerStatus, start: str, signal: Signal
) -> str | None:
    """The end state of rehearsal `number` (from 1) under `signal`, continued from the snapshot `start`; both are
    directories below the run directory. None where the budget does not pay for it beside the branches.

    Raises BranchError.
    """
    exploration = Exploration(entropy=status.signal.exploration.entropy, kick=KICK)
    job = branch_job(ctx, start, ARM, signal, exploration, number, ctx.config.preferences.rehearsal)
    done = await ctx.store.rows("branches", key=job.key)
    if not done and job.horizon > await _left_beside_branches(ctx, point, status):
        return None
    await run_branches(ctx, point, 0, "rehearsal", [job])
    return job.end_state


async def _left_beside_branches(ctx: Context, point: int, status: TrainerStatus) -> int:
    """Environment steps."""
    horizon = horizon_at(ctx.config, status, await return_range_at(ctx, point))
    left = steps_left(ctx.config, status.steps_budget, await ctx.store.branch_steps())
    return left - cost_of_round(ctx.config, horizon)


# ---------------------------------------------------------------- MERGED graphs.rank_transitions
# DOC """rank_transitions: where credit is unclear, rank single agents' moves and fit a scorer to the rankings (LCA).
# DOC
# DOC Moves of the policy as it is come first, then those of rehearsals: forks that are trained on what was fitted so far.
# DOC What comes of it is one more proposal: check, branches and gate treat it like any other. It is never put in force by
# DOC itself, and a scorer in force is never changed in place.
# DOC """

ORACLE = "task_heuristic"
TITLE = "What the Ranker prefers"  # of the proposal that scorers make
NO_PROMPT = "0" * 16  # of answers that no prompt asked for
# Scores are scaled so that crossing their range over recorded states is worth the range of returns. What a stuck policy
# has recorded spans little of the way to the goal, and a quarter of LCA's own strength was measured not to move it.
BETA = 2.0
_VOTE_SEED = 0x707E


@dataclass
class _Ranking:
    """What the rounds of one intervention have come to, as the table `rankings` has it. `steps`: that were played."""

    point: int
    ranker: str
    rounds: int = 0
    steps: int = 0
    key_steps: list[str] = field(default_factory=list)
    groups: Groups = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        detail = {"groups": self.groups, "key_steps": self.key_steps, "rounds": self.rounds}
        return {"point": self.point, "ranker": self.ranker, "steps": self.steps, "detail": detail}

    def event(self) -> TransitionsRanked:
        return TransitionsRanked(
            point=self.point, ranker=self.ranker, steps=self.steps, rounds=self.rounds, groups=self.groups
        )


async def rank_transitions(state: State, runtime: Runtime[Context]) -> State:
    """Pairs, votes on them, scorers, and the proposal that they make. Where the Ranker fails, the intervention goes on
    with what it had come to before, which may be nothing."""
    ctx, ranking = runtime.context, _Ranking(state["point"], ranker_name(runtime.context))
    note: dict[str, Any] = {"ranker": ranking.ranker}
    try:
        await _rank(ctx, state, ranking)
    except BudgetExhausted as error:
        return {"learned": None, "adaptation_over": True, "note": note | {"error": str(error)[:500]}}
    except (ModelAnswerError, PreferenceError) as error:
        note["error"] = str(error)[:500]
    note |= {"rounds": ranking.rounds, "groups": ranking.groups}
    if not ranking.groups:
        return {"learned": None, "note": note}
    ctx.emit(ranking.event())
    return {"learned": _offered(ctx, state, ranking).model_dump(mode="json"), "note": note}


async def _rank(ctx: Context, state: State, ranking: _Ranking) -> None:
    """As many rounds as the config asks for and the budget of branches pays."""
    status = TrainerStatus.model_validate(state["status"])
    start: str | None = snapshot_of(status)
    known = await known_scorers(ctx, ranking.point)
    while start is not None:
        session = RankingRound(ranking.point, ranking.rounds, start)
        known = await _hold(ctx, session, ranking, known)
        if ranking.rounds == ctx.config.preferences.rounds:
            return
        signal = signal_of(_offered(ctx, state, ranking), status)
        start = await rehearsed(ctx, ranking.point, ranking.rounds, status, start, signal)


async def _hold(ctx: Context, session: RankingRound, ranking: _Ranking, known: Groups) -> Groups:
    """One session of ranking; the scorers that are fitted after it. What it played is counted before it is ranked."""
    collected = await collected_pairs(ctx, session, known)
    ranking.steps += collected.steps
    ranking.key_steps = collected.key_steps
    await ctx.store.write("rankings", ranking.row())
    for pairs in collected.pairs:
        await _vote(ctx, session, pairs, collected.key_steps)
    ranking.groups = await fitted_scorers(ctx, session)
    ranking.rounds += 1
    await ctx.store.write("rankings", ranking.row())
    return ranking.groups


def ranker_name(ctx: Context) -> str:
    """Who ranks, as reports say it: an oracle is named as what it is."""
    preferences = ctx.config.preferences
    if preferences.ranker == ORACLE:
        return f"{ORACLE} (an oracle, no model; accuracy {preferences.accuracy:g}, {preferences.queries} votes a pair)"
    model = ctx.config.llm.for_role("ranker")
    return f"{model.provider} {model.model or ''}".strip()


# ---------------------------------------------------------------- votes


async def _vote(ctx: Context, session: RankingRound, pairs: Pairs, key_steps: Sequence[str]) -> None:
    """Answers for every pair and query that has none yet."""
    path = answers_path(ctx, session)
    known = {(a.pair, a.agent, a.query) for a in await asyncio.to_thread(read_answers, path)}
    if ctx.config.preferences.ranker != ORACLE:
        await _ask(ctx, session, pairs, known, key_steps)
        return
    answers = [a for a in _oracle(ctx, session, pairs) if (a.pair, a.agent, a.query) not in known]
    await asyncio.to_thread(append_answers, path, answers)


def _oracle(ctx: Context, session: RankingRound, pairs: Pairs) -> list[RecordedAnswer]:
    preferences, agents = ctx.config.preferences, ctx.spec.groups[pairs.group].agents
    seed = session.seed(ctx.config.seed, _VOTE_SEED)
    votes = oracle_votes(pairs.label, preferences.queries, preferences.accuracy, seed)
    return [
        RecordedAnswer(pair=pair, agent=agents[i], query=query, prompt=NO_PROMPT, vote=float(vote), model=ORACLE)
        for pair, i, row in zip(pairs.ids(), pairs.agent.tolist(), votes, strict=True)
        for query, vote in enumerate(row)
    ]


async def _ask(
    ctx: Context, session: RankingRound, pairs: Pairs, known: set[tuple[str, str, int]], key_steps: Sequence[str]
) -> None:
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
        ctx.models.transition_ranker, Place(session.point, part=f"-s{session.round}"), told, items,
        queries=preferences.queries, batch=preferences.batch, known=known,
    )  # fmt: skip
    try:
        async with aclosing(asked):
            async for answers in asked:
                # first, for what was paid must be known before its answer keeps it from being asked
                await ctx.write_calls()
                await asyncio.to_thread(append_answers, answers_path(ctx, session), answers)
    finally:
        await ctx.write_calls()


# ---------------------------------------------------------------- the proposal


def _offered(ctx: Context, state: State, ranking: _Ranking) -> Proposal:
    """The scorers as terms beside those in force, in the place of older ones. What was stuck gets the kick that the
    rehearsals had; a policy that has only left a scorer's data does not need it."""
    in_force = TrainerStatus.model_validate(state["status"]).signal
    diagnosis = Diagnosis.model_validate(state["diagnosis"])
    terms: list[Term] = [term for term in in_force.terms if not isinstance(term, LearnedTerm)]
    fits = []
    for g, group in ranking.groups.items():
        name = ctx.spec.groups[int(g)].name
        form = ctx.config.preferences.form
        terms.append(LearnedTerm(name=f"ranked_{g}", scorer=group["scorer"], form=form, agents=name))
        fits.append(f"{name}: {group['pairs']} pairs, {_right_on(group['accuracy'])}")
    addresses = [finding.failure for finding in diagnosis.findings if finding.failure in OF_CREDIT]
    return Proposal(
        title=TITLE,
        reason=f"Scorers fitted to single agents' moves, ranked by {ranking.ranker}. {'; '.join(fits)}."[:600],
        addresses=addresses[:4] or [Failure.UNCLEAR_CREDIT],
        beta=in_force.beta if in_force.terms else BETA,
        terms=terms[-8:],
        exploration=Exploration() if state.get("left_data") else Exploration(kick=KICK),
    )


def _right_on(accuracy: float | None) -> str:
    if accuracy is None:
        return "no preference among the votes kept apart"
    return f"right on {accuracy:.0%} of the votes kept apart"
