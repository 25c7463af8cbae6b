"""remove_shaping: at convergence nothing is wrong, and shaping that is no longer needed is proposed to be taken away.

No model is asked. Both ways out are tried on branches and judged by non-inferiority, as all that only takes away is.
"""

from __future__ import annotations

from typing import Any

from langgraph.runtime import Runtime

from ...agents.schemas import Failure, Proposal
from ...rl.ipc.messages import TrainerStatus
from ...rl.signals.signal import Signal
from ...rl.signals.terms import Term
from ...rl.stage import STAGES
from ..context import Context
from ..history import proposal_rows
from ..state import State

REMOVALS = 2  # candidates of such a round


async def remove_shaping(state: State, runtime: Runtime[Context]) -> State:
    """The proposals of the only round: all shaping gone at once, and all shaping fading out."""
    status = TrainerStatus.model_validate(state["status"])
    rows = proposal_rows(state, removals(status.signal, STAGES[status.stage].decay_steps))
    await runtime.context.store.write_all("proposals", rows)
    ids = [row["id"] for row in rows]
    return {"proposals": ids, "passed": [], "ranked": [], "note": {"proposals": ids}}


def removals(in_force: Signal, steps: int) -> list[Proposal]:
    """`steps`: main environment steps over which potentials fade.

    What fades already (event bonuses, annealed potentials) is left out of the second proposal too: a new version would
    begin its fading anew, at full strength.
    """
    lasting = [term for term in in_force.terms if term.fades_over is None]
    fading: list[Term] = [term.fading_over(steps) for term in lasting]
    common: dict[str, Any] = {"addresses": [Failure.INSUFFICIENT_EVIDENCE], "beta": in_force.beta}
    gone = Proposal(
        title="Remove all shaping",
        reason="Learning has converged: the task's own reward should be enough to keep what is learnt.",
        terms=[],
        **common,
    )
    faded = Proposal(
        title="Let all shaping fade out",
        reason=f"Learning has converged: potentials go to zero over {steps} steps, in case the critic leans on them.",
        terms=fading,
        **common,
    )
    return [gone, faded]


def removing(state: State) -> dict[str, str]:
    """What the outcome of such a round says besides: the content of the signal that was to go, so that a refused
    removal is known again while that signal is in force, under whatever version."""
    if not state.get("removing"):
        return {}
    return {"removing": TrainerStatus.model_validate(state["status"]).signal.content_hash()}


async def refused_removal(ctx: Context, in_force: Signal) -> int | None:
    """Main steps at the last try to remove this very signal, None where there was none. One that was accepted and
    rolled back counts too."""
    tries = [
        row["created_steps"]
        for row in await ctx.store.rows("decisions")
        if row["detail"].get("removing") == in_force.content_hash()
    ]
    return max(tries, default=None)
