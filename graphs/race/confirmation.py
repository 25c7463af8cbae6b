"""Confirmations: an arm's policy against the main line's on episodes that no decision has seen. Only they prove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from ...rl.branches.config import RaceConfig
from ...rl.branches.policy_claim import PolicyBound, confirmation_level, least_provable_gain, prove, together
from ...rl.ipc.messages import EpisodeStats, EvaluationResult
from ...rl.task import splitmix64
from ...runs.events import PolicyConfirmed
from ...runs.race_records import PolicyProof, RaceLook, RaceRecord, Rung
from ..branches import run_evaluations
from ..context import Context
from ..intervention import return_range_at
from .arms import BestLook, best_of_main_line, main_line_looks
from .looks import evaluation_job

CONFIRM_SEED = 0xC0F1
PROMISING = 1.0  # standard errors by which a look must exceed what could be proven, before a confirmation is spent


async def with_confirmations(ctx: Context, race: RaceRecord, rung: Rung, update: int) -> Rung:
    """Confirm the arms that seem better, the best first, until one is proven; return the rung with the proofs."""
    best = best_of_main_line([*main_line_looks(race.detail), rung.control])
    for look in sorted(rung.arms, key=lambda look: -look.mean):
        if not await _is_promising(ctx, race, rung.proofs, look, best):
            continue
        proof, steps = await confirm(ctx, race, rung.proofs, look, best.look, update)
        rung = rung.model_copy(update={"proofs": [*rung.proofs, proof], "left": rung.left - steps})
        if proof.proven:
            break
    return rung


async def _is_promising(
    ctx: Context, race: RaceRecord, before: Sequence[PolicyProof], look: RaceLook, best: BestLook
) -> bool:
    """Tell whether an arm's look exceeds the least gain that the next confirmation could prove at all.

    Each that fails leaves less error to the next one.
    """
    gain = look.mean - best.mean
    if gain <= race.detail.margin:
        return False
    level = confirmation_level(ctx.config.race.error, await _next_number(ctx, race, before))
    low, high = await return_range_at(ctx, race.point) or (best.mean, best.mean)
    # An undeclared range may be wider than what the run had seen at the fork.
    width, episodes = max(high, look.mean) - min(low, best.mean), ctx.config.race.most_confirm_episodes
    least = least_provable_gain(level, episodes, margin=race.detail.margin, width=width, paired=False)
    error = (look.sd**2 / look.episodes + best.variance) ** 0.5
    return bool(gain > least + PROMISING * error and look.mean > best.look.mean)


async def _next_number(ctx: Context, race: RaceRecord, before: Sequence[PolicyProof]) -> int:
    """Return the number in the run of the next confirmation; `before`: those of this rung so far."""
    earlier = [row for row in await ctx.store.read(RaceRecord) if (row.point, row.round) < (race.point, race.round)]
    return 1 + len(before) + sum(len(rung.proofs) for row in [*earlier, race] for rung in row.detail.rungs)


async def confirm(
    ctx: Context, race: RaceRecord, before: Sequence[PolicyProof], look: RaceLook, best: RaceLook, update: int
) -> tuple[PolicyProof, int]:
    """Play an arm's policy against one of the main line's, each on episodes of its own that no decision has seen.

    Both play `race.confirm_episodes` and go on by as many, until the gain is proven, or more could not prove it.

    Args:
        ctx: what nodes use.
        race: that the arm is in.
        before: confirmations of this rung.
        look: at the arm.
        best: at the policy of the main line that it is compared with.
        update: of the main line now.

    Returns:
        The proof, and the environment steps that it took, also where a policy could not be played.
    """
    config, number = ctx.config.race, await _next_number(ctx, race, before)
    level, margin = confirmation_level(config.error, number), race.detail.margin
    bound = PolicyBound(
        gain=0.0,
        lower=None,
        margin=margin,
        level=level,
        episodes=0,
        distinct=0,
        paired=False,
        proven=False,
        explanation="the episodes could not be played",
    )
    sides, steps = [list[EpisodeStats](), list[EpisodeStats]()], 0
    seen = await return_range_at(ctx, race.point)
    while not bound.proven and bound.episodes < config.most_confirm_episodes and _may_prove(bound, config, seen):
        more = min(config.confirm_episodes, config.most_confirm_episodes - bound.episodes)
        # Sides that share no seed are independent: that proves a gain over a stalled main line from fewer episodes.
        jobs = [
            evaluation_job(side.arm, side.state, confirmation_seed(ctx, number, of, bound.episodes), more)
            for of, side in enumerate((look, best))
        ]
        replies = await run_evaluations(ctx, (race.point, race.round), "confirm", jobs, update)
        for played, reply in zip(sides, replies, strict=True):
            if isinstance(reply, EvaluationResult):
                played.append(reply.episodes)
            steps += reply.episodes.steps if isinstance(reply, EvaluationResult) else reply.steps
        if any(not isinstance(reply, EvaluationResult) for reply in replies):
            break
        bound = prove(
            together(sides[0]),
            together(sides[1]),
            level=level,
            margin=margin,
            return_range=ctx.spec.return_range,
            seen_range=seen,
            paired=False,
        )
    proof = PolicyProof(number=number, arm=look.arm, against=f"{best.arm} at {best.steps}", **asdict(bound))
    ctx.emit(
        PolicyConfirmed(
            point=race.point,
            rung=len(race.detail.rungs) + 1,
            arm=look.arm,
            gain=bound.gain,
            lower=bound.lower,
            level=level,
            margin=bound.margin,
            proven=bound.proven,
        )
    )
    return proof, steps


def _may_prove(bound: PolicyBound, config: RaceConfig, seen: tuple[float, float] | None) -> bool:
    """Tell whether the gain so far, were it to stay, could be proven from as many episodes as there may be."""
    if bound.episodes == 0:
        return True
    width = max(seen[1] - seen[0] if seen else 0.0, bound.gain)
    most = config.most_confirm_episodes
    return bound.gain > least_provable_gain(bound.level, most, margin=bound.margin, width=width, paired=False)


def confirmation_seed(ctx: Context, number: int, side: int, after: int) -> int:
    """Return the base seed of the episodes of one side of a confirmation that come after so many others."""
    base = splitmix64(splitmix64(ctx.evaluation_seed ^ CONFIRM_SEED) ^ number)
    return splitmix64(splitmix64(base ^ side) ^ after) >> 33
