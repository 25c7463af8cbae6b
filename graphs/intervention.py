"""An intervention: what its nodes need to know about the point and the round, and how it ends.

    point ─► round ─► arms ─► judgements ─► decision ─► promotion, or the control is kept

A round has candidates and a control, which are forked from one snapshot of the run and get one exploration. Its
decision is written by whoever ends it; an intervention without a promotion ends in `end_intervention`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..config.budget import branch_budget, cost_of_intervention, cost_of_race
from ..config.run_config import RunConfig
from ..errors import SnapshotError
from ..rl.branches.gate import Arm, Judgement, Looks, judge, judge_kick, look_levels, signal_kind
from ..rl.branches.horizon import horizon_steps
from ..rl.branches.jobs import CONTROL
from ..rl.evidence.schema import Evidence
from ..rl.ipc.messages import BranchJob, BranchResult, TrainerStatus
from ..rl.signals.signal import Exploration, Signal, is_removal
from ..rl.stage import place_in_range
from ..runs.events import ControlKept, Decided
from ..runs.records import (
    BranchRecord,
    DecisionDetail,
    DecisionRecord,
    DecisionVerdict,
    InterventionRecord,
    ProposalRecord,
)
from ..runs.steps import RunSteps, whole_updates
from .branches import branch_job, kept_exploration, run_branches, snapshot_of
from .context import Context, wait_for_trainer_at
from .state import State, decision_id_of, outcome_of, standing_of, status_of

Results = dict[str, list[BranchResult]]  # by arm


# ---------------------------------------------------------------- the point


async def intervention_at(ctx: Context, point: int) -> InterventionRecord:
    """Read what `observe` has written about the point, and the diagnosis where there is one."""
    [record] = await ctx.store.read(InterventionRecord, point=point)
    return record


async def evidence_at(ctx: Context, point: int) -> Evidence:
    """Read the evidence of the point."""
    return Evidence.model_validate((await intervention_at(ctx, point)).evidence)


async def return_range_at(ctx: Context, point: int) -> tuple[float, float] | None:
    """Return the range that the task declares, else the one that the evidence of the point says has been seen."""
    return ctx.spec.return_range or (await evidence_at(ctx, point)).sparse.return_range


def return_share(status: TrainerStatus, return_range: tuple[float, float] | None) -> float | None:
    """Return the last evaluation's return as a share of the return range, None where either is unknown."""
    if status.sparse_return is None or return_range is None:
        return None
    return place_in_range(status.sparse_return, return_range)


def horizon_at(config: RunConfig, status: TrainerStatus, return_range: tuple[float, float] | None) -> int:
    """Return the environment steps of a full branch from this point."""
    return horizon_steps(config.branches, status.success_rate, return_share(status, return_range), status.stage)


# ---------------------------------------------------------------- budget


def levels(config: RunConfig) -> list[float]:
    """Return the gate's level at each look; 0 where a look has too few seeds to decide anything."""
    return look_levels(config.gate.level, config.gate.looks, config.branches.finalists, config.adaptation.rounds)


def cost_until(config: RunConfig, horizon: int, look: int, finalists: int = 1, candidates: int | None = None) -> int:
    """Return the most branch steps that a round takes until its finalists have been judged.

    Args:
        config: the run's.
        horizon: environment steps of a full branch.
        look: the number of the look up to which they are judged; -1 is the last one.
        finalists: how many of them.
        candidates: how many are branched, where that is known; else `adaptation.candidates`.
    """
    settings = (config.branches, config.gate, config.adaptation)
    return cost_of_intervention(*settings, horizon, look, finalists, candidates).total


def cost_of_round(config: RunConfig, horizon: int, candidates: int | None = None) -> int:
    """Return the branch steps of a round until the first look that can decide.

    Under the overlap clock those of the confirmation that a verdict may need by then are added.
    """
    first = next(look for look, level in enumerate(levels(config)) if level > 0)
    # A confirmation runs winner and control once more, at the last look.
    confirmation = 2 * config.gate.looks[-1] * horizon if config.clock == "overlap" else 0
    return cost_until(config, horizon, first, candidates=candidates) + confirmation


def claim_at(config: RunConfig, removing: bool) -> Literal["policy", "signal"]:
    """Return what an acceptance is to prove: taking shaping away asks whether a signal may go, whatever the config."""
    if removing or config.gate.claim == "signal" or not config.adaptation.gated:
        return "signal"
    return "policy"


def cost_to_try(
    config: RunConfig, claim: Literal["policy", "signal"], horizon: int, candidates: int | None = None
) -> int:
    """Return the branch steps that trying the candidates of a round takes at least, by the claim that is to be proven.

    Args:
        config: the run's.
        claim: about a policy: the first rungs of a race; about a signal: a round up to the first look that can decide.
        horizon: environment steps of a full branch.
        candidates: how many there are at most, where that is known; else `adaptation.candidates`.
    """
    if claim == "policy":
        return cost_of_race(config.race, config.adaptation, overlap=config.clock == "overlap").first
    return cost_of_round(config, horizon, candidates)


async def steps_left(ctx: Context, status: TrainerStatus, before: tuple[int, int] | None = None) -> int:
    """Return how many steps beside the main line `adaptation.max_share` still allows; below 0 where it is overdrawn.

    Beside it is everything but the line in force and its evaluation: what branches and races have played and was not
    adopted, and what the trainer trained and an adopted state left behind.

    Args:
        ctx: what nodes use.
        status: the trainer's, at the point.
        before: (point, round) whose validation is about to begin: what is spent later does not count.
    """
    extra = await ctx.store.extra_steps(before)
    spent = RunSteps(status.steps_trained, status.steps_main, status.steps_evaluation, extra).dropped
    return branch_budget(ctx.config.adaptation, status.steps_budget) - spent


# ---------------------------------------------------------------- the round


@dataclass(frozen=True)
class Round:
    """A round of an intervention.

    Attributes:
        point: update index of the adaptation point.
        number: of the round at this point, from 0.
        fork: the snapshot that all arms are forked from, relative to the run directory.
        status: the trainer's at that snapshot.
        signals: by arm, the control first, then the candidates in rank order.
        exploration: what every arm gets at the fork.
        horizon: environment steps of a full branch.
        return_range: lowest and highest sparse return, None where it is not known.
        fresh: whether all arms begin fresh episodes, see `Context.begins_fresh`.
    """

    point: int
    number: int
    fork: str
    status: TrainerStatus
    signals: dict[str, Signal]
    exploration: Exploration
    horizon: int
    return_range: tuple[float, float] | None
    fresh: bool

    @property
    def in_force(self) -> Signal:
        """The signal of the main line."""
        return self.status.signal

    @property
    def explores(self) -> bool:
        """True where the arms were given another exploration than the one in force."""
        return self.exploration != kept_exploration(self.in_force)

    @property
    def candidates(self) -> list[str]:
        """The arms beside the control, in rank order."""
        return [arm for arm in self.signals if arm != CONTROL]

    @property
    def width(self) -> float:
        """The width of the return range; 0 where nothing is known of it."""
        return 0.0 if self.return_range is None else self.return_range[1] - self.return_range[0]

    def job(self, ctx: Context, arm: str, seed: int, horizon: int, start: str | None = None) -> BranchJob:
        """Make a branch job of this round; see `branches.branch_job`."""
        return branch_job(ctx, self.fork, arm, self.signals[arm], self.exploration, seed, horizon, start, self.fresh)

    async def run(
        self, ctx: Context, phase: Literal["screen", "full", "confirm"], jobs: list[BranchJob]
    ) -> tuple[Results, dict[str, str]]:
        """Run branches. Raises as `run_branches` does.

        Returns:
            The results by arm, in the order of the jobs; and by arm why it could not be run. No arm is in both.
        """
        ran = await run_branches(ctx, self.point, self.number, phase, jobs)
        by_arm: Results = {}
        for result in ran.results:
            by_arm.setdefault(result.arm, []).append(result)
        return by_arm, ran.failed


async def load_round(ctx: Context, state: State) -> Round:
    """Return the round that the state is in, whose candidates are ranked."""
    status, point, number = status_of(state), state["point"], state["round"]
    proposals = {row.id: row for row in await ctx.store.read(ProposalRecord, point=point, round=number)}
    return_range = await return_range_at(ctx, point)
    # Arms are run in this order, so it is part of what makes two runs equal.
    return Round(
        point=point,
        number=number,
        fork=snapshot_of(status),
        status=status,
        signals={CONTROL: status.signal, **{arm: proposals[arm].signal for arm in state["ranked"]}},
        exploration=Exploration.model_validate(state["exploration"]),
        horizon=horizon_at(ctx.config, status, return_range),
        return_range=return_range,
        fresh=await ctx.begins_fresh(),
    )


def judge_arm(ctx: Context, round_: Round, results: Results, arm: str, level: float, ahead: Looks = ()) -> Judgement:
    """Judge one arm of a round at `level`, from whichever snapshot its branches were forked.

    `ahead` are the looks that it might yet have.

    A candidate is judged beside the control; the control itself by whether the round's kick alone has lifted it above
    the fork.
    """
    # The margin is a share of what returns can differ by at all.
    control, margin = results[CONTROL], ctx.config.gate.margin * round_.width
    fork_return = control[0].fork_return
    if arm == CONTROL:
        return judge_kick(Arm.of(CONTROL, control), fork_return=fork_return, margin=margin, level=level, ahead=ahead)
    signal = round_.signals[arm]
    return judge(
        Arm.of(arm, results[arm]),
        Arm.of(CONTROL, control),
        margin=margin,
        level=level,
        # What every arm of the round gets is part of what would be promoted: a removal with a new kick is no removal.
        removal=is_removal(signal.model_copy(update={"exploration": round_.exploration}), round_.in_force),
        fork_return=fork_return,
        return_width=round_.width,
        kind=signal_kind(signal),
        horizon=round_.horizon,
        explores=round_.explores,
        ahead=ahead,
    )


# ---------------------------------------------------------------- the end


async def record_decision(
    ctx: Context, state: State, verdict: DecisionVerdict, winner: str | None, detail: DecisionDetail
) -> DecisionRecord:
    """Record what ends the state's round; nothing is promoted by it yet."""
    # The id is that of the round: a node that runs again after a crash replaces its own row.
    decision = DecisionRecord(
        id=decision_id_of(state),
        point=state["point"],
        round=state["round"],
        verdict=verdict,
        winner=winner,
        adopted=None,
        version=None,
        detail=detail,
        created_steps=status_of(state).steps_main,
    )
    await ctx.store.write(decision)
    ctx.emit(Decided(id=decision.id, verdict=verdict, winner=winner, reason=detail.reason, claim=detail.claim))
    return decision


async def decision_of(ctx: Context, state: State) -> DecisionRecord:
    """Read the decision that was written about the state's round."""
    [decision] = await ctx.store.read(DecisionRecord, id=decision_id_of(state))
    return decision


async def cancel_acceptance(
    ctx: Context, state: State, verdict: Literal["declined", "stale", "conflict"], why: str, declined_because: str = ""
) -> State:
    """Record why the accepted signal is not put in force; its point is done and training goes on.

    `declined_because` is what a human wrote of it, empty where there is none or nothing was said.
    """
    outcome = outcome_of(state)
    by = "the gate had" if outcome.claim == "signal" else "it was"
    reason = f"{why}; {by} accepted: {outcome.explanation}"
    facts = {"reason": reason} | ({"declined_because": declined_because} if declined_because else {})
    decision = (await decision_of(ctx, state)).model_copy(
        update={"verdict": verdict, "detail": outcome.model_copy(update=facts)}
    )
    await ctx.store.write(decision)
    ctx.emit(Decided(id=decision.id, verdict=verdict, winner=outcome.winner, reason=reason, claim=outcome.claim))
    if verdict == "conflict":
        # Somebody else has changed the signal: there is no control of what is in force now.
        note = {"verdict": verdict, "reason": reason}
        return {"verdict": verdict, "done_point": standing_of(state), "race": None, "note": note}
    return await end_intervention(ctx, state, decision)


async def end_intervention(ctx: Context, state: State, decision: DecisionRecord) -> State:
    """End the point without a promotion; the control becomes the main line where it can.

    `decision` is what ends it, as it is in the store.
    """
    note = {"verdict": decision.verdict, "reason": decision.detail.reason}
    update: State = {"verdict": decision.verdict, "done_point": standing_of(state), "race": None}
    kept = await keep_control(ctx, state, decision)
    if kept is None:  # patience goes on from the point, also where the main line has trained on in a race
        return {**update, "note": note}
    # The main line jumps over what the control has run, so patience begins anew behind it.
    return {**update, "last_steps": kept.steps_main, "note": note | {"kept_control": kept.steps}}


class KeptControl(NamedTuple):
    """A control that became the main line."""

    steps: int  # environment steps of its branch
    steps_main: int  # main steps with them
    version: int  # of the signal, whose content stayed


async def keep_control(ctx: Context, state: State, decision: DecisionRecord) -> KeptControl | None:
    """Make the control's end state the main line, so that no step is run twice; None where no control can be kept.

    Under the lockstep clock the trainer waits meanwhile, and the control of seed 0 under the exploration in force is
    what it would do next, bit for bit. Its end state is taken over as a winner's is; the signal stays what it was. The
    decision's detail gets `kept_control` and `adopt`.

    Asked again after a crash, the trainer knows the key and gives the same answer.
    """
    if not ctx.config.branches.keep_control or ctx.config.clock != "lockstep" or state.get("race") is not None:
        return None  # in a race the control is the main line itself
    status = status_of(state)
    # The longest control of the point, of any round, that is the main line itself and does not outrun it.
    exploration = kept_exploration(status.signal)
    controls = await ctx.store.read(BranchRecord, point=state["point"], arm=CONTROL, seed=0)
    fitting = [
        control.result
        for control in controls
        if control.job.exploration == exploration
        and status.steps_main + branch_length(ctx, control.result) <= status.steps_budget
    ]
    branch = max(fitting, key=lambda result: result.horizon, default=None)
    if branch is None:
        return None
    # The trainer takes the state over under a version of its own, so that a promotion from the old one is refused.
    await wait_for_trainer_at(ctx, standing_of(state))
    base = status.signal.version
    signal = status.signal.model_copy(update={"version": base + 1, "parent": base})
    key = f"control:{decision.id}:{base}"
    try:
        reply = await ctx.client.promote(key, base, signal, adopt=branch.end_state, cause="control")
    except SnapshotError:
        return None  # its end state is gone or spoilt: the main line goes on by itself
    kept = KeptControl(branch_length(ctx, branch), reply.steps_main, reply.version)
    detail = decision.detail.model_copy(update={"kept_control": kept.steps, "adopt": branch.end_state})
    await ctx.store.write(decision.model_copy(update={"detail": detail}))
    ctx.emit(ControlKept(id=decision.id, version=kept.version, steps=kept.steps))
    return kept


def branch_length(ctx: Context, branch: BranchResult) -> int:
    """Return the environment steps since the fork: the horizon in whole updates."""
    return whole_updates(branch.horizon, ctx.config.trainer.envs * ctx.config.trainer.rollout)
