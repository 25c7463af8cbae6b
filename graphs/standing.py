"""Where the trainer stands: what applies at an adaptation point must find it there."""

from __future__ import annotations

from .context import Ctx


async def stand_at(ctx: Ctx, point: int) -> None:
    """Return when a lockstep trainer waits at `point`. One that was restarted may stand at an earlier point: it is
    brought here, where its log applies what had been applied here before."""
    while True:
        status = await ctx.client.status()
        if status.waiting_at is not None and status.waiting_at >= point:
            return
        if status.state in ("finished", "stopping"):
            return  # compare-and-set has the last word
        if status.waiting_at is not None:
            await ctx.client.release(status.waiting_at)
        await ctx.pause()
