"""One round of an intervention without a trainer: the nodes `check` and `validate`, or a race, on a recorded snapshot.

    run directory of its own: snapshot, training.json, loop.db ─► check ─► choose candidates ─┬► validate ─┬► outcome
                                                                                              └► race ─────┘

Replays of recorded calls and the gate trials of the studies run it. Nothing of the checks, of the gate or of a race is
done anew here; only the trainer and the models are absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from langgraph.runtime import Runtime

from ..agents.config import LLMConfig
from ..agents.llm.hosted_tracing import hidden_from_children
from ..agents.llm.ledger import Call, Place
from ..agents.llm.models import build_models
from ..agents.llm.rate_limits import CallBudget
from ..agents.schemas import Proposal
from ..config.run_config import RunConfig
from ..rl.branches.horizon import screening_steps
from ..rl.branches.jobs import CONTROL, Executor
from ..rl.envs.probe import probe_task
from ..rl.ipc.client import MemoryChannel, TrainerClient
from ..rl.ipc.messages import ErrorReply, Reply, Request, TrainerStatus
from ..rl.signals.scorer import FOLDER, Scorers
from ..rl.signals.signal import Exploration
from ..runs.events import Event
from ..runs.race_records import RaceRecord
from ..runs.records import Outcome, ProposalRecord
from ..runs.steps import whole_updates
from ..runs.store import LoopStore
from .branches import with_forks
from .context import Context
from .history import proposal_records
from .intervention import Round, load_round
from .nodes.check import check
from .nodes.validate import validate
from .race.rung import begin_race, race_on, race_outcome
from .state import State, outcome_of


@dataclass(frozen=True)
class Candidates:
    """The candidates of a round: ids of proposals, best first, and the exploration that every arm gets."""

    ranked: list[str]
    exploration: Exploration


@dataclass(frozen=True)
class OfflineRound:
    """A finished round.

    Attributes:
        proposals: as `check` left them.
        outcome: what `validate` or the race found.
        round: the one that was branched; None where none was.
        race: the one that was raced; None where none was.
    """

    proposals: list[ProposalRecord]
    outcome: Outcome
    round: Round | None = None
    race: RaceRecord | None = None

    def branch_keys(self, ctx: Context) -> set[str]:
        """Return the keys of all branches of the round, whether they were run in it or before."""
        if self.round is None:
            return set()
        # All arms were screened; the judged ones and the control went on to the full horizon.
        half, seeds = screening_steps(self.round.horizon), range(ctx.config.branches.screen_seeds)
        screened = {CONTROL, *(arm.arm for arm in self.outcome.arms if arm.seeds)}
        keys = {self.round.job(ctx, arm, seed, half).key for arm in screened for seed in seeds}
        for judged in self.outcome.judgements:
            arms = {CONTROL, judged.arm}
            keys |= {self.round.job(ctx, arm, seed, self.round.horizon).key for arm in arms for seed in judged.seeds}
        return keys


def offline_context(
    config: RunConfig, run_dir: Path, store: LoopStore, pool: Executor, emit: Callable[[Event], None]
) -> Context:
    """Make what the nodes use. The gate judges, also where the run had none."""
    calls: list[Call] = []
    gated = config.adaptation.model_copy(update={"gated": True})
    return Context(
        config=config.model_copy(update={"adaptation": gated}),
        run_dir=run_dir,
        client=TrainerClient(MemoryChannel(NoTrainer())),
        pool=pool,
        store=store,
        models=build_models(LLMConfig(), CallBudget(config.llm.limits), calls.append),  # nobody is asked
        spec=probe_task(config.task, hidden_from_children(config.llm)).spec,
        calls=calls,
        tell=emit,
        scorers=Scorers(run_dir / FOLDER),
        offline=True,
    )


async def run_offline_round(
    ctx: Context,
    place: Place,
    status: TrainerStatus,
    proposals: Sequence[Proposal],
    choose: Callable[[list[ProposalRecord]], Candidates | None],
    claim: Literal["policy", "signal"] = "signal",
) -> OfflineRound:
    """Check proposals, choose candidates among those that passed, and try them on branches.

    Args:
        ctx: from `offline_context`; its store holds what came before the round, the evidence of the point too.
        place: point and round.
        status: the trainer's at the point.
        proposals: in order.
        choose: gets those that passed, and returns the candidates; None where nothing is to be tried.
        claim: what an acceptance is to prove: that a signal helps, which the gate judges, or that a policy is better
            than the main line's, which is a race.

    Raises:
        BranchError: a branch could not be run.
    """
    runtime = Runtime(context=ctx)
    state: State = {"point": place.point, "round": place.round, "status": status.model_dump(mode="json")}
    state["claim"] = claim
    # As in the graph, each node gets what the ones before it left in the state.
    await ctx.store.write(*proposal_records(state, proposals))
    state["passed"] = (await check(state, runtime))["passed"]
    checked = await ctx.store.read(ProposalRecord, point=place.point, round=place.round)
    candidates = choose([record for record in checked if record.id in state["passed"]])
    if candidates is None:
        untried = Outcome(verdict="no_candidate", winner=None, judgements=[], screened=[])
        return OfflineRound(checked, untried)
    state["ranked"], state["exploration"] = candidates.ranked, candidates.exploration.model_dump(mode="json")
    if claim == "policy":
        race = await run_offline_race(ctx, state, status)
        if isinstance(race, str):
            failed = Outcome(verdict="branch_failed", winner=None, reason=race, claim="policy")
            return OfflineRound(checked, failed)
        return OfflineRound(checked, race_outcome(race), race=race)
    state["outcome"] = (await validate(state, runtime))["outcome"]
    return OfflineRound(checked, outcome_of(state), await load_round(ctx, state))


async def run_offline_race(ctx: Context, state: State, status: TrainerStatus) -> RaceRecord | str:
    """Race the state's candidates beside a branch of the main line, from the first rung to the end.

    Args:
        ctx: from `offline_context`.
        state: of a round whose candidates are ranked.
        status: the trainer's at the point.

    Returns:
        The race that is over; in words why there is none, where the main line's own policy cannot be played.

    Raises:
        BranchError: no branch can be run, and the branches are not to blame.
    """
    race = await with_forks(ctx, lambda: begin_race(ctx, state))
    if isinstance(race, str):
        return race
    while race.detail.winner is None and race.detail.end is None:
        race = await race_on(ctx, race, status_after(ctx.config, status, len(race.detail.rungs) + 1))
    return race


def status_after(config: RunConfig, status: TrainerStatus, rungs: int) -> TrainerStatus:
    """Return the trainer's status where it would stand after so many rungs, had it trained on from `status`."""
    interval, update = config.adaptation.interval, config.trainer.envs * config.trainer.rollout
    # A trainer pauses at the end of the update that crosses a multiple of the interval.
    due = (status.steps_main // interval + rungs) * interval
    steps = whole_updates(due - status.steps_main, update)
    return status.model_copy(
        update={
            "state": "finished" if status.steps_main + steps >= status.steps_budget else status.state,
            "update": status.update + steps // update,
            "steps_main": status.steps_main + steps,
        }
    )


class NoTrainer:
    """Takes the trainer's place: nothing is asked of one, and nothing can be promoted."""

    def handle(self, request: Request) -> Reply:
        """Refuse whatever is asked."""
        return ErrorReply(error="bad_request", message=f"there is no trainer here that could answer {request.kind!r}")
