"""rank_transitions: where credit is unclear, rank single agents' moves and fit a scorer to the rankings (LCA).

LCA: Lin et al., arXiv 2502.03723. Moves of the policy as it is come first, then those of rehearsals: forks that are
trained for a while on what was fitted so far, so that moves can be ranked which the run itself does not make yet.

    pairs of moves ─► votes of the Ranker ─► scorers ─► a proposal
          ▲                                     │
          └────────────── rehearsal ◄───────────┘      `preferences.rounds` times

What comes of it is one more proposal: check, branches and gate treat it like any other. It is never put in force by
itself, and a scorer in force is never changed in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langgraph.runtime import Runtime

from ...agents.llm.ledger import Place
from ...agents.schemas import CREDIT_FAILURES, Diagnosis, Failure, Proposal
from ...agents.transition_ranker import RankItem, RankSetting
from ...agents.transition_ranker import rank_transitions as ask_ranker
from ...errors import BudgetExhausted, ModelAnswerError, PreferenceError
from ...rl.ipc.messages import TrainerStatus
from ...rl.preferences.pairs import Pairs
from ...rl.preferences.votes import RecordedAnswer, append_answers, oracle_votes, read_answers
from ...rl.signals.signal import Exploration, Signal
from ...rl.signals.terms import LearnedTerm, Term
from ...runs.events import TransitionsRanked
from ...runs.records import BranchRecord, RankingDetail, RankingRecord
from ..asking import adaptation_over, write_as_they_come
from ..branches import branch_job, run_branches, snapshot_of, with_forks
from ..context import Context
from ..history import signal_of
from ..intervention import claim_at, cost_to_try, horizon_at, return_range_at, steps_left
from ..preference_jobs import (
    FittedScorers,
    RankingRound,
    answers_path,
    collect_pairs_to_rank,
    fit_scorers,
    last_fitted_scorers,
)
from ..state import State, status_of

ORACLE = "task_heuristic"
LEARNED_TITLE = "What the Ranker prefers"  # of the proposal that scorers make
NO_PROMPT = "0" * 16  # of answers that no prompt asked for
VOTE_SEED = 0x707E
REHEARSAL_ARM = "rehearsal"
KICK = 0.05  # scales the actor's head: a policy that has collapsed would go nowhere new
# Scores are scaled so that crossing their range over recorded states is worth the range of returns. What a stuck policy
# has recorded spans little of the way to the goal, and a quarter of LCA's own strength was measured not to move it.
BETA = 2.0
MAX_TERMS, MAX_ADDRESSES, MAX_REASON_CHARS = 8, 4, 600  # of a proposal
MAX_ERROR_CHARS = 500


@dataclass
class _Ranking:
    """Results of the rounds of one intervention so far: a row of the table `rankings`."""

    point: int
    ranker: str
    rounds: int = 0
    steps: int = 0  # environment steps that were played for the pairs
    key_steps: list[str] = field(default_factory=list)
    groups: FittedScorers = field(default_factory=dict)

    def record(self) -> RankingRecord:
        detail = RankingDetail(groups=self.groups, key_steps=self.key_steps, rounds=self.rounds)
        return RankingRecord(point=self.point, ranker=self.ranker, steps=self.steps, detail=detail)

    def plain_groups(self) -> dict[str, dict[str, Any]]:
        return {g: fitted.model_dump(mode="json") for g, fitted in self.groups.items()}


async def rank_transitions(state: State, runtime: Runtime[Context]) -> State:
    """Collect pairs, have them voted on, fit scorers, and make the proposal that uses them.

    Where the Ranker fails, the intervention goes on with what it had come to before, which may be nothing.
    """
    ctx = runtime.context
    ranking = _Ranking(state["point"], describe_ranker(ctx))
    note: dict[str, Any] = {"ranker": ranking.ranker}
    try:
        await _rank_in_rounds(ctx, state, ranking)
    except BudgetExhausted as error:
        return {"learned": None, **adaptation_over(ctx), "note": note | {"error": str(error)[:MAX_ERROR_CHARS]}}
    except (ModelAnswerError, PreferenceError) as error:
        note["error"] = str(error)[:MAX_ERROR_CHARS]
        if isinstance(error, PreferenceError):  # a process has failed, and no model
            message = f"moves could not be ranked at update {ranking.point}: {note['error']}"
            await ctx.warn(f"ranking {ranking.point}", message)
    note |= {"rounds": ranking.rounds, "groups": ranking.plain_groups()}
    if not ranking.groups:
        return {"learned": None, "note": note}
    ctx.emit(
        TransitionsRanked(
            point=ranking.point,
            ranker=ranking.ranker,
            steps=ranking.steps,
            rounds=ranking.rounds,
            groups=ranking.plain_groups(),
        )
    )
    return {"learned": _learned_proposal(ctx, state, ranking).model_dump(mode="json"), "note": note}


def describe_ranker(ctx: Context) -> str:
    """Return who ranks, as reports say it; an oracle is named as one."""
    preferences = ctx.config.preferences
    if preferences.ranker == ORACLE:
        return f"{ORACLE} (an oracle, no model; accuracy {preferences.accuracy:g}, {preferences.queries} votes a pair)"
    model = ctx.config.llm.for_role("ranker")
    return f"{model.provider} {model.model or ''}".strip()


async def _rank_in_rounds(ctx: Context, state: State, ranking: _Ranking) -> None:
    """Rank in as many rounds as the config asks for and the budget of branches pays; `ranking` is brought forward."""
    status = status_of(state)
    # The first round ranks moves of the run's own policy, each further one those of a rehearsal.
    start: str | None = snapshot_of(status)
    known = await last_fitted_scorers(ctx, ranking.point)
    while start is not None:
        ranking_round = RankingRound(ranking.point, ranking.rounds, start)
        collected = await collect_pairs_to_rank(ctx, ranking_round, known)
        ranking.steps += collected.steps
        ranking.key_steps = collected.key_steps
        # What was played is counted before it is ranked, which may fail.
        await ctx.store.write(ranking.record())
        for pairs in collected.pairs:
            await _collect_votes(ctx, ranking_round, pairs, collected.key_steps)
        known = ranking.groups = await fit_scorers(ctx, ranking_round, status, known)
        ranking.rounds += 1
        await ctx.store.write(ranking.record())
        if ranking.rounds == ctx.config.preferences.rounds:
            return
        signal = signal_of(_learned_proposal(ctx, state, ranking), status)
        start = await rehearse(ctx, ranking.point, ranking.rounds, status, start, signal)


async def rehearse(
    ctx: Context, point: int, number: int, status: TrainerStatus, start: str, signal: Signal
) -> str | None:
    """Train a fork of the run for `preferences.rehearsal` steps under a signal that is in force nowhere.

    Args:
        ctx: what nodes use.
        point: the adaptation point.
        number: the rehearsal's number at this point, from 1; also its seed.
        status: the trainer's at the point.
        start: the snapshot that is continued, relative to the run directory.
        signal: the signal of the fork.

    Returns:
        The fork's end state, relative to the run directory; None where the budget does not pay for the rehearsal beside
        the branches of a round.

    Raises:
        PreferenceError: the fork could not be trained.
    """
    exploration = Exploration(entropy=status.signal.exploration.entropy, kick=KICK)

    async def attempt() -> str | None:
        steps, fresh = ctx.config.preferences.rehearsal, await ctx.begins_fresh()
        job = branch_job(ctx, start, REHEARSAL_ARM, signal, exploration, number, steps, fresh=fresh)
        # A rehearsal that has been trained is paid already; another one must leave enough for a round of branches.
        if not await ctx.store.read(BranchRecord, key=job.key):
            horizon = horizon_at(ctx.config, status, await return_range_at(ctx, point))
            if job.horizon > await steps_left(ctx, status) - cost_to_try(
                ctx.config, claim_at(ctx.config, False), horizon
            ):
                return None
        ran = await run_branches(ctx, point, 0, "rehearsal", [job])
        if ran.failed:
            raise PreferenceError(f"the rehearsal could not be run, {ran.failed[REHEARSAL_ARM]}")
        return job.end_state

    return await with_forks(ctx, attempt)


# ---------------------------------------------------------------- votes


async def _collect_votes(ctx: Context, ranking_round: RankingRound, pairs: Pairs, key_steps: Sequence[str]) -> None:
    """Have every pair voted on as often as the config asks for; answers that are recorded already are not asked for.

    A model's answers are written as they come, so that none that was paid for is lost.
    """
    group, preferences = ctx.spec.groups[pairs.group], ctx.config.preferences
    path = answers_path(ctx, ranking_round)
    known = {(a.pair, a.agent, a.query) for a in await asyncio.to_thread(read_answers, path)}
    # The oracle knows the task's heuristic, and errs as often as the config says.
    if preferences.ranker == ORACLE:
        seed = ranking_round.seed(ctx.config.seed, VOTE_SEED)
        votes = oracle_votes(pairs.label, preferences.queries, preferences.accuracy, seed)
        answers = [
            RecordedAnswer(
                pair=pair, agent=group.agents[i], query=query, prompt=NO_PROMPT, vote=float(vote), model=ORACLE
            )
            for pair, i, row in zip(pairs.ids(), pairs.agent.tolist(), votes, strict=True)
            for query, vote in enumerate(row)
        ]
        missing = [a for a in answers if (a.pair, a.agent, a.query) not in known]
        await asyncio.to_thread(append_answers, path, missing)
        return
    # A model reads each move in words, from the side of the agent that made it.
    items = [
        RankItem(pair=pair, agent=group.agents[i], before=before, action=group.action_text(action), after=after)
        for pair, i, action, before, after in zip(
            pairs.ids(), pairs.agent.tolist(), pairs.action, pairs.before, pairs.after, strict=True
        )
    ]
    batches = ask_ranker(
        ctx.models.transition_ranker,
        Place(ranking_round.point, part=f"-s{ranking_round.number}"),
        RankSetting(ctx.spec.description, ctx.spec.agents, key_steps),
        items,
        queries=preferences.queries,
        batch=preferences.batch,
        known=known,
    )
    await write_as_they_come(ctx, batches, partial(append_answers, path))


# ---------------------------------------------------------------- the proposal


def _learned_proposal(ctx: Context, state: State, ranking: _Ranking) -> Proposal:
    """Make a proposal of the fitted scorers: terms beside those in force, in the place of older learned ones.

    A policy that was stuck gets the kick that the rehearsals had; one that has only left a scorer's data does not need
    it.
    """
    in_force = status_of(state).signal
    diagnosis = Diagnosis.model_validate(state["diagnosis"])
    terms: list[Term] = [term for term in in_force.terms if not isinstance(term, LearnedTerm)]
    # Each group of agents gets a term of its own; how well its scorer fits becomes the proposal's reason.
    fits = []
    for g, fitted in ranking.groups.items():
        name = ctx.spec.groups[int(g)].name
        form = ctx.config.preferences.form
        terms.append(LearnedTerm(name=f"ranked_{g}", scorer=fitted.scorer, form=form, agents=name))
        if fitted.accuracy is None:
            fit = "no preference among the votes kept apart"
        else:
            fit = f"right on {fitted.accuracy:.0%} of the votes kept apart"
        fits.append(f"{name}: {fitted.pairs} pairs, {fit}")
    reason = f"Scorers fitted to single agents' moves, ranked by {ranking.ranker}. {'; '.join(fits)}."
    addresses = [finding.failure for finding in diagnosis.findings if finding.failure in CREDIT_FAILURES]
    return Proposal(
        title=LEARNED_TITLE,
        reason=reason[:MAX_REASON_CHARS],
        addresses=addresses[:MAX_ADDRESSES] or [Failure.UNCLEAR_CREDIT],
        beta=in_force.beta if in_force.terms else BETA,
        terms=terms[-MAX_TERMS:],
        exploration=Exploration() if state.get("left_data") else Exploration(kick=KICK),
    )
