"""A race from its beginning to its end, a rung at a time."""

from __future__ import annotations

from functools import partial

from ...config.budget import cost_of_race
from ...rl.branches.jobs import CONTROL
from ...rl.ipc.messages import TrainerStatus
from ...rl.stage import SOLVED
from ...runs.race_records import RaceDetail, RaceRecord, Rung
from ...runs.records import BranchRecord, DecisionVerdict, FailedBranchRecord, Outcome, decision_id
from ...runs.steps import whole_updates
from ..branches import run_branches, snapshot_of, with_forks
from ..context import Context
from ..intervention import return_range_at, steps_left
from ..state import State, status_of
from .arms import arms_of_round, branch_job_of, control_arm, keep_snapshot, live_arms, main_line_looks, with_next_arms
from .confirmation import with_confirmations
from .looks import Looked, dropped_after, look_at, look_seed, looked, selected


async def begin_race(ctx: Context, state: State) -> RaceRecord | str:
    """Make the race of the state's round, whose candidates are ranked; the main line's policy plays its first look.

    Returns:
        The race; in words why there is none, where the main line's own policy cannot be played.
    """
    status, point, number = status_of(state), state["point"], state["round"]
    fork = await keep_snapshot(ctx.run_dir, snapshot_of(status), f"branches/main_{status.update}")
    return_range = await return_range_at(ctx, point)
    width = 0.0 if return_range is None else return_range[1] - return_range[0]
    left = await steps_left(ctx, status, before=(point, number))
    look = await look_at(ctx, (point, number), CONTROL, fork, look_seed(ctx, point, 0), status.update)
    if isinstance(look, str):
        return f"the main line's own policy could not be played: {look}"
    arms = await arms_of_round(ctx, state, fork)
    # A fresh start that goes on takes nobody's place.
    places = ctx.config.race.arms + sum(arm.kind == "fresh_start" and arm.horizon > 0 for arm in arms)
    detail = RaceDetail(
        fork_steps=status.steps_main,
        fork=look.look,
        margin=ctx.config.gate.margin * width,
        left=left - look.episodes.steps,
        arms=arms[:places],
        waiting=arms[places:],
    )
    record = RaceRecord(id=decision_id(point, number), point=point, round=number, detail=detail)
    await ctx.store.write(record)
    return record


async def race_on(ctx: Context, race: RaceRecord, status: TrainerStatus) -> RaceRecord:
    """Run the next rung where the race is not over, and end it where it is over then; return the race.

    Arguments and errors are those of `run_rung`.
    """
    why = why_over(ctx, race, status)
    if why is None:
        race = await with_forks(ctx, partial(run_rung, ctx, race, status))
        why = race.detail.end or (None if race.detail.winner else why_over(ctx, race, status))
    return race if why is None else await end_race(ctx, race, why)


async def run_rung(ctx: Context, race: RaceRecord, status: TrainerStatus) -> RaceRecord:
    """Train every arm that is left by one rung, look at all policies, and confirm what seems better; return the race.

    Args:
        ctx: what nodes use.
        race: so far.
        status: the trainer's. Under the lockstep clock it waits at the end of the rung; offline, where it would wait.

    Raises:
        ReplayDiffers, BranchError: as `run_branches` does.
    """
    detail, place = race.detail, (race.point, race.round)
    number, lockstep = len(detail.rungs) + 1, ctx.config.clock == "lockstep"
    # The main line sets the pace where it is the control.
    horizon = status.steps_main - detail.fork_steps if lockstep else rung_horizon(ctx, number)

    # Train: every arm, and the control where it is a branch, goes on from where its last rung ended.
    seed, fresh, live = look_seed(ctx, race.point, number), await ctx.begins_fresh(), live_arms(detail)
    is_branched = ctx.offline or not lockstep
    control = [control_arm(detail, status.signal)] if is_branched else []
    jobs = [branch_job_of(ctx, detail, arm, horizon, seed, fresh) for arm in [*control, *live]]
    ran = await run_branches(ctx, *place, "race", jobs, spent_at=status.update)
    horizons = {arm.name: arm.fork_steps + arm.horizon + horizon for arm in [*control, *live]}
    looks: dict[str, Looked] = {}
    for result in ran.results:
        assert result.episodes is not None  # workers of this version tell them
        looks[result.arm] = looked(result.arm, result.end_state, horizons[result.arm], result.episodes)

    # Look: the main line's policy plays the same episodes.
    if not is_branched:
        state = await keep_snapshot(ctx.run_dir, snapshot_of(status), f"branches/main_{status.update}")
        look = await look_at(ctx, place, CONTROL, state, seed, status.update)
        if isinstance(look, str):
            return await end_race(ctx, race, f"the main line's own policy could not be played: {look}")
        looks[CONTROL] = look
    if CONTROL not in looks:
        return await end_race(ctx, race, f"the control could not be run: {ran.failed[CONTROL]}")

    # Under the lockstep clock the control trains main steps, whoever trains them; its look alone is beside them.
    spent = await _spent_on(ctx, race.point, {job.key for job in jobs if job.arm != CONTROL or not lockstep})
    if lockstep:
        spent += looks[CONTROL].episodes.steps

    # Select, then confirm the most promising, one after another, on episodes that nothing was decided on.
    rung = Rung(
        number=number,
        point=status.update,
        horizon=horizon,
        left=(detail.rungs[-1].left if detail.rungs else detail.left) - spent,
        control=looks[CONTROL].look,
        arms=selected(ctx, detail, looks),
        dropped={name: f"a branch could not be run, {reason}" for name, reason in ran.failed.items()},
    )
    rung = await with_confirmations(ctx, race, rung, status.update)
    proven = next((proof.arm for proof in rung.proofs if proof.proven), None)
    detail = detail.model_copy(update={"rungs": [*detail.rungs, rung], "winner": proven})
    if proven is None:
        out = await dropped_after(ctx, detail, race.point)
        rung = rung.model_copy(update={"dropped": rung.dropped | out})
        detail = detail.model_copy(update={"rungs": [*detail.rungs[:-1], rung]})
        if number < ctx.config.race.longest:
            detail = with_next_arms(detail, ctx.config.race.arms)
    race = race.model_copy(update={"detail": detail})
    await ctx.store.write(race)
    return race


def rung_horizon(ctx: Context, number: int) -> int:
    """Return the environment steps since the fork at the end of rung `number`, in whole updates."""
    return whole_updates(number * ctx.config.adaptation.interval, ctx.config.trainer.envs * ctx.config.trainer.rollout)


async def _spent_on(ctx: Context, point: int, keys: set[str]) -> int:
    """Return the environment steps of these branches, also of those that failed."""
    finished = await ctx.store.read(BranchRecord, point=point)
    failed = await ctx.store.read(FailedBranchRecord, point=point)
    return sum(row.steps for rows in (finished, failed) for row in rows if row.key in keys)


def why_over(ctx: Context, race: RaceRecord, status: TrainerStatus) -> str | None:
    """Say why the race is over without a winner; None where another rung can be run."""
    detail, config = race.detail, ctx.config
    live, rungs = live_arms(detail), len(detail.rungs)
    if status.state == "finished":
        return "training is over"
    newest = main_line_looks(detail)[-1]
    if newest.success is not None and newest.success >= SOLVED:
        return f"the main line solves the task by itself, in {newest.success:.0%} of {newest.episodes} episodes"
    if not live:
        return "no arm is left"
    if rungs >= config.race.longest:
        return f"race.longest is {config.race.longest} rungs"
    if _may_be_joined(ctx, detail):
        return "only the fresh start is left, which may go on in the next race, beside new proposals"
    if config.clock == "overlap" and rungs:  # a main line that far ahead has most likely left every arm behind
        lag, most = status.steps_main - detail.fork_steps - detail.rungs[-1].horizon, config.adaptation.max_staleness
        if lag > most:
            return f"the arms are {lag} steps behind the main line, adaptation.max_staleness allows {most}"
    # The next rung of every branch, and as many steps of evaluation as the last one took.
    control, rung = int(config.clock == "overlap"), rung_horizon(ctx, 1)
    cost = (len(live) + control) * rung
    lefts = [detail.left, *(done.left for done in detail.rungs)]
    if rungs:
        cost += max(0, lefts[-2] - lefts[-1] - (len(detail.rungs[-1].arms) + control) * rung)
    left = lefts[-1]
    if cost > left:
        return f"another rung costs {cost} branch steps, adaptation.max_share leaves {max(left, 0)}"
    return None


def _may_be_joined(ctx: Context, detail: RaceDetail) -> bool:
    """Tell whether nobody but a fresh start races, while the loop may ask for new proposals at the next point."""
    if not detail.rungs or any(arm.kind != "fresh_start" for arm in live_arms(detail)):
        return False
    last, config = detail.rungs[-1], ctx.config
    first = cost_of_race(config.race, config.adaptation, overlap=config.clock == "overlap").first
    return last.horizon + rung_horizon(ctx, 1) >= config.adaptation.patience and last.left >= first


async def end_race(ctx: Context, race: RaceRecord, why: str) -> RaceRecord:
    """Write that the race is over without a winner."""
    race = race.model_copy(update={"detail": race.detail.model_copy(update={"end": why})})
    await ctx.store.write(race)
    return race


def race_outcome(race: RaceRecord) -> Outcome:
    """Return what the race came to, as the detail of its decision."""
    detail = race.detail
    if detail.winner is None:
        verdict: DecisionVerdict = "no_difference"
        reason = f"no policy was proven better: {detail.end}"
    else:
        verdict = "accept"
        reason = detail.rungs[-1].proofs[-1].explanation
    return Outcome(verdict=verdict, winner=detail.winner, reason=reason, claim="policy", race=race.id)
