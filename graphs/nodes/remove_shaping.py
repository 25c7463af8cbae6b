"""remove_shaping: at convergence nothing is wrong, and shaping that is no longer needed is proposed to be taken away.

No model is asked. Both ways out are tried on branches and judged by non-inferiority, as all that only takes away is.
"""

from __future__ import annotations

from typing import Any

from langgraph.runtime import Runtime

from ...agents.schemas import Failure, Proposal
from ...rl.signals.signal import Signal
from ...rl.signals.terms import Term
from ...rl.stage import STAGES
from ...runs.records import DecisionRecord, Outcome
from ..context import Context
from ..history import proposal_records
from ..state import State, status_of

REMOVALS = 2  # candidates of such a round


async def remove_shaping(state: State, runtime: Runtime[Context]) -> State:
    """Make the proposals of the only round: all shaping gone at once, and all shaping fading out."""
    status = status_of(state)
    records = proposal_records(state, removals(status.signal, STAGES[status.stage].decay_steps))
    await runtime.context.store.write(*records)
    ids = [record.id for record in records]
    return {"proposals": ids, "passed": [], "ranked": [], "note": {"proposals": ids}}


def removals(in_force: Signal, steps: int) -> list[Proposal]:
    """Make the two proposals; potentials of the second fade over `steps` main environment steps.

    What fades already (event bonuses, annealed potentials) is left out of the second proposal too: a new version would
    begin its fading anew, at full strength.
    """
    # The Critic found no failure, so the proposals address none.
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


def with_removal(outcome: Outcome, state: State) -> Outcome:
    """Add to the outcome of such a round the content of the signal that was to go; other rounds are left as they are.

    So a refused removal is known again while that signal is in force, under whatever version.
    """
    if not state.get("removing"):
        return outcome
    return outcome.model_copy(update={"removing": status_of(state).signal.content_hash()})


async def refused_removal(ctx: Context, in_force: Signal) -> int | None:
    """Return the main steps at the last try to remove this very signal, None where there was none.

    One that was accepted and rolled back counts too.
    """
    content = in_force.content_hash()
    decisions = await ctx.store.read(DecisionRecord)
    return max((row.created_steps for row in decisions if row.detail.removing == content), default=None)
