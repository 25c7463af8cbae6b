"""One round of an intervention: its arms, and what gate and budget need to know about the point it forks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ..config.budget import branch_budget, cost_of_intervention
from ..config.run_config import RunConfig
from ..rl.branches.gate import Arm, Judgement, judge, judge_kick, look_levels, signal_kind
from ..rl.branches.horizon import horizon_steps
from ..rl.evidence.schema import Evidence
from ..rl.ipc.messages import BranchJob, BranchResult, TrainerStatus
from ..rl.signals.signal import Exploration, Signal, is_removal
from ..runs.events import ControlKept, Decided
from .branches import CONTROL, branch_job, kept_exploration, run_branches, snapshot_of
from .context import Context, wait_for_trainer_at
from .state import State

# ---------------------------------------------------------------- MERGED graphs.round

Results = dict[str, list[BranchResult]]


@dataclass(frozen=True)
class Round:
    """`signals`: by arm, the control first, then the candidates in rank order. `horizon` in environment steps."""

    point: int
    number: int
    fork: str
    status: TrainerStatus
    signals: dict[str, Signal]
    exploration: Exploration
    horizon: int
    return_range: tuple[float, float] | None

    @property
    def in_force(self) -> Signal:
        return self.status.signal

    @property
    def explores(self) -> bool:
        """Whether the arms were given another exploration than the one in force."""
        return self.exploration != kept_exploration(self.in_force)

    @property
    def candidates(self) -> list[str]:
        """Those that are branched, in rank order."""
        return [arm for arm in self.signals if arm != CONTROL]

    @property
    def width(self) -> float:
        """Of the return range; 0 where nothing is known of it."""
        return 0.0 if self.return_range is None else self.return_range[1] - self.return_range[0]

    def job(self, ctx: Context, arm: str, seed: int, horizon: int, start: str | None = None) -> BranchJob:
        return branch_job(ctx, self.fork, arm, self.signals[arm], self.exploration, seed, horizon, start)

    async def run(self, ctx: Context, phase: Literal["screen", "full"], jobs: list[BranchJob]) -> Results:
        """By arm, in the order of the jobs."""
        by_arm: Results = {}
        for result in await run_branches(ctx, self.point, self.number, phase, jobs):
            by_arm.setdefault(result.arm, []).append(result)
        return by_arm


async def load_round(ctx: Context, state: State) -> Round:
    """The round that `state` is in, its candidates ranked."""
    status = TrainerStatus.model_validate(state["status"])
    rows = {row["id"]: row for row in await ctx.store.rows("proposals", point=state["point"], round=state["round"])}
    candidates = {key: Signal.model_validate(rows[key]["signal"]) for key in state["ranked"]}
    return_range = await return_range_at(ctx, state["point"])
    return Round(
        point=state["point"],
        number=state["round"],
        fork=snapshot_of(status),
        status=status,
        signals={CONTROL: status.signal, **candidates},
        exploration=Exploration.model_validate(state["exploration"]),
        horizon=horizon_at(ctx.config, status, return_range),
        return_range=return_range,
    )


async def evidence_at(ctx: Context, point: int) -> Evidence:
    [row] = await ctx.store.rows("diagnoses", point=point)
    return Evidence.model_validate(row["evidence"])


async def return_range_at(ctx: Context, point: int) -> tuple[float, float] | None:
    """Declared by the task, else what the evidence at the point says has been seen."""
    return ctx.spec.return_range or (await evidence_at(ctx, point)).sparse.return_range


def competence(status: TrainerStatus, return_range: tuple[float, float] | None) -> float | None:
    """The last evaluation's return as a share of the return range, None where either is unknown."""
    if status.sparse_return is None or return_range is None or return_range[1] <= return_range[0]:
        return None
    return (status.sparse_return - return_range[0]) / (return_range[1] - return_range[0])


def horizon_at(config: RunConfig, status: TrainerStatus, return_range: tuple[float, float] | None) -> int:
    """Environment steps of a full branch from this point."""
    return horizon_steps(config.branches, status.success_rate, competence(status, return_range), status.stage)


# ---------------------------------------------------------------- budget


def levels(config: RunConfig) -> list[float]:
    """The gate's level at each look; 0 where a look has too few seeds to decide anything."""
    return look_levels(config.gate.level, config.gate.looks, config.branches.finalists, config.adaptation.rounds)


def cost_until(config: RunConfig, horizon: int, look: int, finalists: int = 1, candidates: int | None = None) -> int:
    """Branch steps of one round, at most, until `finalists` finalists have been judged up to look number `look`.

    `candidates`: how many are branched, where that is known; else `adaptation.candidates`.
    """
    settings = (config.branches, config.gate, config.adaptation)
    return cost_of_intervention(*settings, horizon, look, finalists, candidates).total


def cost_of_round(config: RunConfig, horizon: int, candidates: int | None = None) -> int:
    """Branch steps of one round until the first look that can decide, and under the overlap clock of the confirmation
    that a verdict may need by then."""
    first = next(look for look, level in enumerate(levels(config)) if level > 0)
    confirmation = 2 * config.gate.looks[-1] * horizon if config.clock == "overlap" else 0
    return cost_until(config, horizon, first, candidates=candidates) + confirmation


def steps_left(config: RunConfig, steps_budget: int, branch_steps: int) -> int:
    """Branch steps that `adaptation.max_share` still allows; `steps_budget` is the run's main steps."""
    return branch_budget(config.adaptation, steps_budget) - branch_steps


# ---------------------------------------------------------------- MERGED graphs.judging
# DOC """How one arm of a round is judged, from whichever snapshot its branches were forked."""


def judge_arm(ctx: Context, this: Round, results: Results, arm: str, level: float) -> Judgement:
    """The gate's word on a candidate beside the control; on the control itself, whether the round's kick alone has
    lifted it above the fork."""
    control, margin = results[CONTROL], ctx.config.gate.margin * this.width
    fork_return = control[0].fork_return
    if arm == CONTROL:
        return judge_kick(Arm.of(CONTROL, control), fork_return=fork_return, margin=margin, level=level)
    signal = this.signals[arm]
    return judge(
        Arm.of(arm, results[arm]),
        Arm.of(CONTROL, control),
        margin=margin,
        level=level,
        # what every arm of the round gets is part of what would be promoted: a removal with a new kick is no removal
        removal=is_removal(signal.model_copy(update={"exploration": this.exploration}), this.in_force),
        fork_return=fork_return,
        return_width=this.width,
        kind=signal_kind(signal),
        horizon=this.horizon,
        explores=this.explores,
    )


# ---------------------------------------------------------------- MERGED graphs.keep_control
# DOC """The end of an intervention without an acceptance. Its control becomes the main line, so that no step is run twice.
# DOC
# DOC Under the lockstep clock the trainer waits meanwhile, and the control of seed 0 under the exploration in force is what
# DOC it would do next, bit for bit. Its end state is taken over as a winner's is; the signal stays what it was.
# DOC """


class Kept(NamedTuple):
    """`steps`: of the control's branch; `steps_main`: main steps with them; `version`: of the signal, which stayed."""

    steps: int
    steps_main: int
    version: int


async def end_intervention(ctx: Context, state: State, decision: dict[str, Any]) -> State:
    """The point is done. `decision`: the row that ends it, as it is in the store; its detail has a reason."""
    note = {"verdict": decision["verdict"], "reason": decision["detail"]["reason"]}
    over: State = {"verdict": decision["verdict"], "done_point": state["point"]}
    kept = await keep_control(ctx, state, decision)
    if kept is None:
        return {**over, "note": note}
    return {**over, "last_steps": kept.steps_main, "note": note | {"kept_control": kept.steps}}


async def keep_control(ctx: Context, state: State, decision: dict[str, Any]) -> Kept | None:
    """None where no control can be kept. `kept_control` (environment steps) and `adopt` are added to the decision.

    Asked again after a crash, the trainer knows the key and says what it has said before.
    """
    if not ctx.config.branches.keep_control or ctx.config.clock != "lockstep":
        return None
    status = TrainerStatus.model_validate(state["status"])
    branch = await _longest(ctx, state["point"], status)
    if branch is None:
        return None
    await wait_for_trainer_at(ctx, state["point"])
    kept = await _adopt(ctx, f"control:{decision['id']}", status, branch)
    detail = decision["detail"] | {"kept_control": kept.steps, "adopt": branch.end_state}
    await ctx.store.update("decisions", [{"id": decision["id"], "detail": detail}])
    ctx.emit(ControlKept(id=decision["id"], version=kept.version, steps=kept.steps))
    return kept


async def _longest(ctx: Context, point: int, status: TrainerStatus) -> BranchResult | None:
    """The longest control branch of the point, of any round, that is the main line itself and does not outrun it."""
    exploration = kept_exploration(status.signal).model_dump(mode="json")
    rows = await ctx.store.rows("branches", point=point, arm=CONTROL, seed=0)
    same = [BranchResult.model_validate(row["result"]) for row in rows if row["job"]["exploration"] == exploration]
    fit = [branch for branch in same if status.steps_main + branch_length(ctx, branch) <= status.steps_budget]
    return max(fit, key=lambda branch: branch.horizon, default=None)


def branch_length(ctx: Context, branch: BranchResult) -> int:
    """Environment steps since the fork: the horizon in whole updates."""
    update = ctx.config.trainer.envs * ctx.config.trainer.rollout
    return -(-branch.horizon // update) * update


async def _adopt(ctx: Context, key: str, status: TrainerStatus, branch: BranchResult) -> Kept:
    base = status.signal.version
    signal = status.signal.model_copy(update={"version": base + 1, "parent": base})
    reply = await ctx.client.promote(f"{key}:{base}", base, signal, adopt=branch.end_state, cause="control")
    return Kept(branch_length(ctx, branch), reply.steps_main, reply.version)


# ---------------------------------------------------------------- MERGED graphs.overturn
# DOC """An accepted decision that does not become a promotion: declined, stale, or the version is no longer in force."""


async def cancel_acceptance(
    ctx: Context, state: State, verdict: Literal["declined", "stale", "conflict"], why: str
) -> State:
    """Record why the accepted signal is not put in force; its point is done and training goes on."""
    outcome = state["outcome"]
    reason = f"{why}; the gate had accepted: {reason_of(outcome)}"
    row: dict[str, Any] = {"id": decision_id(state), "verdict": verdict, "detail": outcome | {"reason": reason}}
    await ctx.store.update("decisions", [row])
    ctx.emit(Decided(id=row["id"], verdict=verdict, winner=outcome["winner"], reason=reason))
    if verdict == "conflict":  # somebody else has changed the signal: there is no control of what is in force now
        return {"verdict": verdict, "done_point": state["point"], "note": {"verdict": verdict, "reason": reason}}
    return await end_intervention(ctx, state, row)


def decision_id(state: State) -> str:
    return f"p{state['point']}-r{state['round']}"


def reason_of(outcome: dict[str, Any]) -> str:
    """The gate's own words for the winner, else for the best finalist."""
    for judgement in outcome["judgements"]:
        if judgement["arm"] == (outcome["winner"] or judgement["arm"]):
            return str(judgement["explanation"])
    return "; ".join(outcome.get("problems", [])) or "nothing was tried"
