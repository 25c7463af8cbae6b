"""Looks: the fresh episodes of all policies after a rung. They select who goes on, and prove nothing."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import stdev
from typing import NamedTuple

import numpy as np

from ...rl.branches.jobs import CONTROL, evaluation_key
from ...rl.branches.movement import Reached, moved, paid_by, pooled, shares
from ...rl.branches.survival import ArmHistory, survivors
from ...rl.ipc.messages import EpisodeStats, EvaluationJob, EvaluationResult
from ...rl.task import splitmix64
from ...runs.race_records import RaceDetail, RaceLook
from ..branches import run_evaluations
from ..context import Context
from ..intervention import evidence_at
from .arms import live_arms, looks_of, main_line_looks


class Looked(NamedTuple):
    """A look at a policy, and the episodes that it is made of."""

    look: RaceLook
    episodes: EpisodeStats


async def look_at(ctx: Context, place: tuple[int, int], arm: str, state: str, seed: int, update: int) -> Looked | str:
    """Let the policy of a snapshot play the episodes of a look; where it cannot, return why."""
    job = evaluation_job(arm, state, seed, ctx.config.race.look_episodes)
    [reply] = await run_evaluations(ctx, place, "look", [job], update)
    if isinstance(reply, EvaluationResult):
        return looked(arm, state, reply.steps_main, reply.episodes)
    return reply.reason


def evaluation_job(arm: str, state: str, seed: int, episodes: int) -> EvaluationJob:
    """Make the job of playing fresh episodes; its key is made of its content."""
    key = evaluation_key(state, seed, episodes)
    return EvaluationJob(key=key, arm=arm, state=state, seed=seed, episodes=episodes)


def looked(arm: str, state: str, steps: int, episodes: EpisodeStats) -> Looked:
    """Make the record of a look."""
    look = RaceLook(
        arm=arm,
        state=state,
        steps=steps,
        mean=episodes.mean_return,
        sd=stdev(episodes.returns),
        episodes=len(episodes.returns),
        success=episodes.success_rate,
        reached=shares(episodes),
    )
    return Looked(look, episodes)


def look_seed(ctx: Context, point: int, rung: int) -> int:
    """Return the base seed of the episodes of a look, the same for all policies."""
    return splitmix64(splitmix64(ctx.evaluation_seed ^ point) ^ rung) >> 33


def selected(ctx: Context, detail: RaceDetail, looks: Mapping[str, Looked]) -> list[RaceLook]:
    """Return the looks at the arms, with what has moved toward reward."""
    main_line = [*main_line_looks(detail), looks[CONTROL].look]
    reached = pooled([_reached(look) for look in main_line])
    found = []
    for arm in live_arms(detail):
        if arm.name in looks:
            look = looks[arm.name].look
            moves = moved(_reached(look), reached, paid_by(arm.signal, ctx.spec), ctx.spec)
            found.append(look.model_copy(update={"moved": moves}))
    return found


def _reached(look: RaceLook) -> Reached:
    return Reached(look.reached, look.episodes)


async def dropped_after(ctx: Context, detail: RaceDetail, point: int) -> dict[str, str]:
    """Return who trains no further after the last rung, and why."""
    live = live_arms(detail)
    histories = [
        ArmHistory(
            name=arm.name,
            kind=arm.kind,
            means=[look.mean for look in looks],
            sds=[look.sd for look in looks],
            episodes=[look.episodes for look in looks],
            moved=[look.moved for look in looks],
            rungs_before=max(0, arm.horizon) // ctx.config.adaptation.interval if arm.kind == "fresh_start" else 0,
        )
        for arm in live
        for looks in [looks_of(detail, arm.name)]
    ]
    # The main line's past, as far as it is known: training episodes up to the fork, looks from then on.
    known = main_line_looks(detail)
    past = [
        (steps, value) for steps, value, _ in (await evidence_at(ctx, point)).sparse.curve if steps <= detail.fork_steps
    ]
    past += [(look.steps, look.mean) for look in known]
    ages = [look.steps for arm in live if arm.kind == "fresh_start" for look in looks_of(detail, arm.name)]
    at_age = [float(np.interp(age, [steps for steps, _ in past], [value for _, value in past])) for age in ages]
    return survivors(
        histories,
        [look.mean for look in known],
        margin=detail.margin,
        config=ctx.config.race,
        main_at_age=at_age,
    )
