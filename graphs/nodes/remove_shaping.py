"""remove_shaping: at convergence nothing is wrong, and shaping is taken out of the reward. No model is asked.

A potential leaves by its exact offset, without a branch: it stays in the critic, so that no TD error and no advantage
changes. Nothing is proven by that about what the potential is good for. All else that lasts (scores in difference form,
potentials under an algorithm that cannot offset them) is tried on branches and judged by non-inferiority, as all that
only takes away is. Where both are in force, the potentials leave first, and the rest is tried at a later point.
"""

from __future__ import annotations

from typing import Any

from langgraph.runtime import Runtime

from ...agents.schemas import Failure, Proposal
from ...config.run_config import RunConfig
from ...rl.signals.critic_offset import potentials_that_stay
from ...rl.signals.signal import Signal
from ...rl.signals.terms import Term
from ...rl.stage import STAGES
from ...runs.events import ProposalMade
from ...runs.records import DecisionRecord, Outcome
from ..branches import kept_exploration
from ..context import Context
from ..history import proposal_records
from ..intervention import record_decision
from ..state import State, decision_id_of, status_of

REMOVALS = 2  # candidates of a round that is tried on branches


async def remove_shaping(state: State, runtime: Runtime[Context]) -> State:
    """Let potentials leave by their offset; else propose that all shaping go at once, and that all of it fade out."""
    status = status_of(state)
    if leaves_by_offset(runtime.context.config, status.signal):
        return await _take_potentials_out(runtime.context, state)
    records = proposal_records(state, removals(status.signal, STAGES[status.stage].decay_steps))
    await runtime.context.store.write(*records)
    ids = [record.id for record in records]
    return {"proposals": ids, "passed": [], "ranked": [], "note": {"proposals": ids}}


# ---------------------------------------------------------------- by the offset


def leaves_by_offset(config: RunConfig, in_force: Signal) -> bool:
    """Return whether a potential that stays can leave the reward without any change of what is learnt."""
    return config.trainer.algorithm_config.offsets_potentials and bool(potentials_that_stay(in_force))


async def _take_potentials_out(ctx: Context, state: State) -> State:
    """Decide that the potentials leave; the only proposal needs neither check nor branches, for nothing changes."""
    in_force = status_of(state).signal
    proposal = without_potentials(in_force)
    [record] = proposal_records(state, [proposal])
    # the same strength to the last bit, so that what stays pays what it paid
    signal = record.signal.model_copy(update={"scale": in_force.scale})
    await ctx.store.write(record.model_copy(update={"signal": signal, "rank": 0}))
    ctx.emit(ProposalMade(id=record.id, title=proposal.title, problems=[]))
    reason = f"{record.id}: {proposal.reason}"
    decided = Outcome(verdict="accept", winner=record.id, reason=reason, claim="offset", judgements=[], screened=[])
    outcome = with_removal(decided, state)
    await record_decision(ctx, state, outcome.verdict, outcome.winner, outcome)
    return {
        "proposals": [record.id],
        "passed": [record.id],
        "ranked": [record.id],
        "exploration": kept_exploration(in_force).model_dump(mode="json"),
        "outcome": outcome.model_dump(mode="json"),
        "verdict": "accept",
        "note": {"decision": decision_id_of(state), "claim": "offset", "reason": reason},
    }


def without_potentials(in_force: Signal) -> Proposal:
    """Make the proposal that leaves all else, and what fades by itself, exactly as it is."""
    leaving = potentials_that_stay(in_force)
    names = ", ".join(term.name for term in leaving)
    leave = "leaves" if len(leaving) == 1 else "leave"
    return Proposal(
        title="Take the potentials out of the reward",
        reason=(
            f"{names} {leave} by an exact offset, without a branch: out of the reward, kept in the critic, so that no "
            "TD error and no advantage changes. What shaping is worth was not asked."
        ),
        addresses=[Failure.INSUFFICIENT_EVIDENCE],  # the Critic found no failure
        beta=in_force.beta,
        terms=[term for term in in_force.terms if term not in leaving],
    )


async def offset_declined(ctx: Context, in_force: Signal) -> bool:
    """Return whether the human who was asked keeps the potentials of this very signal in the reward."""
    content = in_force.content_hash()
    decisions = await ctx.store.read(DecisionRecord)
    return any(
        row.verdict == "declined" and row.detail.claim == "offset" and row.detail.removing == content
        for row in decisions
    )


# ---------------------------------------------------------------- on branches


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
