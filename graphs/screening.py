"""Screening that costs no step: candidates whose potential clearly falls on recorded ways to the reward."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from ..rl.experience.transition_sample import TransitionSample
from ..rl.signals.screen import Ways, ways_to_reward
from ..rl.signals.signal import is_removal
from .context import Context
from .intervention import Round


async def screen_recorded(ctx: Context, this: Round) -> tuple[Round, list[dict[str, Any]]]:
    """The round without the candidates that are not worth a branch, and what the decision says of each of them.

    All stay where all would go: then the recording may show ways into a trap. What only takes away is in force already
    and is not asked.
    """
    if not ctx.config.branches.recorded_screen:
        return this, []
    recorded = await asyncio.to_thread(
        TransitionSample.load, ctx.run_dir / this.fork / "recorded.safetensors", ctx.spec
    )
    ways = {arm: _ways(ctx, this, arm, recorded) for arm in this.candidates}
    out = {arm: found for arm, found in ways.items() if found is not None and found.against}
    if len(out) == len(ways):
        return this, []
    signals = {arm: signal for arm, signal in this.signals.items() if arm not in out}
    return replace(this, signals=signals), [_row(arm, found) for arm, found in out.items()]


def _ways(ctx: Context, this: Round, arm: str, recorded: TransitionSample) -> Ways | None:
    signal = this.signals[arm]
    return None if is_removal(signal, this.in_force) else ways_to_reward(signal, ctx.spec, recorded, ctx.scorers)


def _row(arm: str, ways: Ways) -> dict[str, Any]:
    """As a screened arm's, without a gain: it had no branch."""
    return {
        "arm": arm,
        "verdict": "screened_out",
        "gain": None,
        "lower": None,
        "upper": None,
        "seeds": [],
        "explanation": f"{arm}: not branched; {ways.words()}",
        "control": None,
        "curve": [],
    }
