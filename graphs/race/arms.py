"""The arms of a race: who races, from where, with what; who waits, who is left, and what the next race takes over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from ...files import whole_folder
from ...rl.branches.jobs import CONTROL, branch_key
from ...rl.ipc.messages import BranchJob
from ...rl.signals.signal import Exploration, Signal
from ...runs.race_records import ArmKind, RaceArm, RaceDetail, RaceLook, RaceRecord
from ...runs.records import ProposalRecord
from ..branches import kept_exploration
from ..context import Context
from ..state import State, status_of

IDLE_RACES = 2  # in a row, in which what is carried over may move by nothing new
RESTART = 1000  # seeds of fresh starts are this far apart, as those of the studies' restarts


async def arms_of_round(ctx: Context, state: State, fork: str) -> list[RaceArm]:
    """Return the arms: what is carried over, the candidates in rank order, the kick alone, a fresh start.

    Offline nothing is carried over, since the run has deleted the state that it would go on from.
    """
    status, point, race = status_of(state), state["point"], ctx.config.race
    earlier = [row for row in await ctx.store.read(RaceRecord) if (row.point, row.round) < (point, state["round"])]
    proposals = {row.id: row for row in await ctx.store.read(ProposalRecord, point=point, round=state["round"])}
    kicked = kept_exploration(status.signal).model_copy(update={"kick": race.kick})
    began = sum(len(row.detail.arms) + len(row.detail.waiting) for row in earlier)
    arms = carried_over(earlier[-1]) if earlier else []

    def join(name: str, kind: ArmKind, signal: Signal, exploration: Exploration) -> None:
        arms.append(
            RaceArm(
                name=name,
                kind=kind,
                signal=signal,
                exploration=exploration,
                seed=1 + began + len(arms),  # each arm of a run has random streams of its own
                fork=fork,
                fork_steps=status.steps_main,
                start=fork,
            )
        )

    for name in state["ranked"]:
        # Arms may explore differently: policies are compared, whatever brought them about.
        signal = proposals[name].signal
        join(name, "candidate", signal, kicked if signal.exploration == Exploration() else signal.exploration)
    if race.kick_alone:
        join(f"kick@{point}", "kick", status.signal, kicked)
    if race.fresh_start and not any(arm.kind == "fresh_start" for arm in arms):
        first = ctx.config.signal.to_signal()
        join(f"fresh@{point}", "fresh_start", first, Exploration())  # a new line has the config's own by itself
        begun = len({arm.name for row in earlier for arm in row.detail.arms if arm.kind == "fresh_start"})
        seed = ctx.config.seed + RESTART * (begun + 1)
        arms[-1] = arms[-1].model_copy(update={"seed": seed, "fork_steps": 0})
    # Left out last, so that the others have the seeds that they have beside it.
    return [arm for arm in arms if not (ctx.offline and arm.start != fork)]


def carried_over(race: RaceRecord) -> list[RaceArm]:
    """Return the arms that the next race takes over: of those that moved the one that moved most, and a fresh start.

    The former's return must not be below the best of the main line by more than the margin, since movement proves
    nothing; and it is dropped after IDLE_RACES races in which it has moved by no further milestone. A fresh start goes
    on as long as nothing drops it. Nobody does after a race in which a policy was proven.
    """
    detail = race.detail
    if not detail.rungs or detail.winner is not None:
        return []
    best = best_of_main_line(main_line_looks(detail)).mean
    last, moved, fresh = detail.rungs[-1], list[tuple[RaceLook, RaceArm]](), list[RaceArm]()
    for look in last.arms:
        [arm] = [arm for arm in detail.arms if arm.name == look.arm]
        goes_on = arm.model_copy(update={"start": look.state, "horizon": arm.horizon + last.horizon, "joined": 0})
        if arm.kind == "fresh_start":
            fresh += [] if arm.name in last.dropped else [goes_on]
            continue
        idle = arm.idle_races + 1 if arm.kind == "carried" and set(look.moved) <= set(arm.had_moved) else 0
        if look.moved and idle < IDLE_RACES and look.mean >= best - detail.margin:
            update = {"kind": "carried", "had_moved": sorted({*arm.had_moved, *look.moved}), "idle_races": idle}
            moved.append((look, goes_on.model_copy(update=update)))
    return [arm for _, arm in sorted(moved, key=lambda pair: (-len(pair[0].moved), -pair[0].mean))[:1]] + fresh


async def keep_snapshot(run_dir: Path, snapshot: str, name: str) -> str:
    """Link a snapshot, of which the trainer keeps only the newest, under a `name` of the race; return that name."""

    def link() -> None:
        if not (run_dir / name).exists():
            with whole_folder(run_dir / name) as unfinished:
                for path in (run_dir / snapshot).iterdir():
                    os.link(path, unfinished / path.name)

    await asyncio.to_thread(link)
    return name


def with_next_arms(detail: RaceDetail, places: int) -> RaceDetail:
    """Let the next arms join where only fresh starts are left, each on a fork of the main line as it is now."""
    if any(arm.kind != "fresh_start" for arm in live_arms(detail)):
        return detail
    last = detail.rungs[-1]
    now = {"horizon": -last.horizon, "joined": last.number}
    fork = {"fork": last.control.state, "start": last.control.state, "fork_steps": last.control.steps}
    joining = [
        arm.model_copy(update=now if arm.kind == "fresh_start" else now | fork) for arm in detail.waiting[:places]
    ]
    return detail.model_copy(update={"arms": [*detail.arms, *joining], "waiting": detail.waiting[places:]})


def live_arms(detail: RaceDetail) -> list[RaceArm]:
    """Return the arms that train the next rung."""
    out = {name for rung in detail.rungs for name in rung.dropped}
    return [arm for arm in detail.arms if arm.name not in out]


def main_line_looks(detail: RaceDetail) -> list[RaceLook]:
    """Return the looks at the main line, the fork first."""
    return [detail.fork, *(rung.control for rung in detail.rungs)]


class BestLook(NamedTuple):
    """The best policy of the main line.

    The highest of many looks is mostly the luckiest one, so its neighbours are looked at with it.

    Attributes:
        look: the best look of the best neighbourhood.
        mean: mean of the looks of that neighbourhood.
        variance: squared standard error of `mean`.
    """

    look: RaceLook
    mean: float
    variance: float


def best_of_main_line(looks: Sequence[RaceLook]) -> BestLook:
    """Return the best look where the main line returned most; `looks` in their order, the fork first."""
    around = [looks[max(0, place - 1) : place + 2] for place in range(len(looks))]
    means = [fmean(look.mean for look in near) for near in around]
    place = max(range(len(looks)), key=lambda place: means[place])
    near = around[place]
    variance = sum(look.sd**2 / look.episodes for look in near) / len(near) ** 2
    return BestLook(max(near, key=lambda look: look.mean), means[place], variance)


def looks_of(detail: RaceDetail, arm: str) -> list[RaceLook]:
    """Return the looks at an arm, one a rung."""
    return [look for rung in detail.rungs for look in rung.arms if look.arm == arm]


def branch_job_of(ctx: Context, detail: RaceDetail, arm: RaceArm, horizon: int, seed: int, fresh: bool) -> BranchJob:
    """Make the job of one rung of an arm.

    Args:
        ctx: what nodes use.
        detail: of the race.
        arm: of which the job is.
        horizon: environment steps since the fork of the race.
        seed: of the evaluation episodes.
        fresh: begin fresh episodes, see `Context.begins_fresh`.
    """
    episodes, new_line = ctx.config.race.look_episodes, arm.kind == "fresh_start"
    before = looks_of(detail, arm.name) if arm.name != CONTROL else [rung.control for rung in detail.rungs]
    steps = arm.horizon + horizon
    trained = before[-1].steps - arm.fork_steps if before else max(0, arm.horizon)
    signal = arm.signal if arm.name == CONTROL else arm.signal.model_copy(update={"exploration": arm.exploration})
    key = branch_key(arm.fork, signal, arm.exploration, arm.seed, steps, seed, episodes, fresh, new_line)
    return BranchJob(
        key=key,
        fork=arm.fork,
        start=before[-1].state if before else arm.start,
        arm=arm.name,
        signal=signal,
        exploration=arm.exploration,
        seed=arm.seed,
        horizon=steps,
        evaluation_seed=seed,
        evaluation_episodes=episodes,
        end_state=f"branches/{key}",
        fresh=fresh,
        trained=trained,
        new_line=new_line,
    )


def control_arm(detail: RaceDetail, in_force: Signal) -> RaceArm:
    """Return the control of a race where it is a branch: the main line itself, from the fork on."""
    fork, kept = detail.fork.state, kept_exploration(in_force)
    return RaceArm(
        name=CONTROL,
        kind="control",
        signal=in_force,
        exploration=kept,
        seed=0,
        fork=fork,
        fork_steps=detail.fork_steps,
        start=fork,
    )
