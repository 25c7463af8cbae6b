"""check: what can be said against a proposal before any training. No model, no environment step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from langgraph.runtime import Runtime

from ...errors import SignalError
from ...rl.algorithms.config import AlgorithmConfig
from ...rl.branches.config import RaceConfig
from ...rl.experience.transition_sample import TransitionSample
from ...rl.signals.check import check_signal, twin_problems
from ...rl.signals.distance import SignalComparison
from ...rl.signals.preview import preview_signal
from ...rl.signals.signal import Exploration, Signal
from ...runs.events import ProposalMade
from ...runs.race_records import RaceRecord
from ...runs.records import DecisionRecord, ProposalRecord
from ..branches import kept_exploration, snapshot_of
from ..context import Context
from ..history import quarantined
from ..intervention import return_range_at
from ..state import State, status_of


async def check(state: State, runtime: Runtime[Context]) -> State:
    """Add problems, notes and numbers to every proposal of the round, from what the point's snapshot has recorded."""
    ctx, status = runtime.context, status_of(state)
    path = ctx.run_dir / snapshot_of(status) / "recorded.safetensors"
    recorded = await asyncio.to_thread(TransitionSample.load, path, ctx.spec)
    return_range = await return_range_at(ctx, state["point"])
    rejected, never = await _rejected(ctx, state), await quarantined(ctx.store)
    taken = _explorations_taken(ctx.config.race, status.signal) if state.get("claim") == "policy" else None

    proposals = await ctx.store.read(ProposalRecord)
    here = (state["point"], state["round"])
    earlier = {row.id: row.signal for row in proposals if (row.point, row.round) < here}
    tried = {key: signal for key, signal in earlier.items() if signal.proposal_hash() in rejected}
    withdrawn = {key: signal for key, signal in earlier.items() if signal.shape_hash() in never}
    gamma = ctx.config.trainer.algorithm_config.gamma
    known_range = ctx.spec.return_range or return_range
    comparison = await asyncio.to_thread(SignalComparison, ctx.spec, recorded, status.signal, known_range, ctx.scorers)

    def checked_row(row: ProposalRecord, checked: Sequence[ProposalRecord]) -> ProposalRecord:
        # Of equal proposals in a round the first one passes.
        hashes = rejected | {other.signal.proposal_hash() for other in checked}
        report = check_signal(
            row.signal, ctx.spec, recorded, status.signal, hashes, return_range, never, ctx.scorers, taken
        )
        problems = [
            *_learner_problems(ctx.config.trainer.algorithm_config, row.signal, status.signal),
            *report.problems,
        ]
        if not problems:
            passed = {other.id: other.signal for other in checked if not other.problems}
            problems = [*twin_problems(row.signal, comparison, tried, withdrawn, passed)]
        before = [*earlier.items(), *((other.id, other.signal) for other in checked)]
        try:
            preview = preview_signal(row.signal, comparison, gamma, before)
        except SignalError:  # one of the problems says why
            preview = None
        return row.model_copy(update={"problems": problems, "notes": report.notes, "preview": preview})

    # In a thread, since expressions are evaluated on thousands of transitions.
    checked: list[ProposalRecord] = []
    for row in [row for row in proposals if (row.point, row.round) == here]:
        checked.append(await asyncio.to_thread(checked_row, row, checked))
    # Several samples of the Generator may have more ideas than are tried. Ways to remove shaping are no ideas.
    passed = [row.id for row in checked if not row.problems]
    most = len(passed) if state.get("removing") else ctx.config.adaptation.candidates
    passed, left_out = passed[:most], passed[most:]
    not_tried = f"not tried: {', '.join(passed)} came first, as many as adaptation.candidates"
    checked = [
        row.model_copy(update={"notes": [*row.notes, not_tried]}) if row.id in left_out else row for row in checked
    ]
    await ctx.store.write(*checked)
    for row in checked:
        ctx.emit(ProposalMade(id=row.id, title=row.proposal.title, problems=row.problems))
    failed = {row.id: row.problems[0] for row in checked if row.problems}
    note = {"passed": passed, "failed": failed} | ({"left_out": left_out} if left_out else {})
    return {"passed": passed, "note": note}


def _learner_problems(config: AlgorithmConfig, signal: Signal, in_force: Signal) -> Iterator[str]:
    """Give a line where the algorithm cannot learn from it, or its settings of the learner change nothing."""
    try:
        config.check_signal(signal)
        now, then = (config.learning_as(x) for x in (in_force.learner, signal.learner.over(in_force.learner)))
    except SignalError as error:
        yield str(error)
        return
    if signal.learner.changed and then == now:
        yield f"learner: must change something, but policies learn by {signal.learner.changed} already; leave it out"


def _explorations_taken(race: RaceConfig, in_force: Signal) -> list[Exploration]:
    """Return the explorations under which the signal in force races anyway.

    These are the control's, and the kick's where that races alone: written out, or left to the race.
    """
    control = kept_exploration(in_force)
    kicked = [Exploration(), Exploration(kick=race.kick), control.model_copy(update={"kick": race.kick})]
    return [control, Exploration(kick=1.0), *(kicked if race.kick_alone else [])]


async def _rejected(ctx: Context, state: State) -> set[str]:
    """Return the `proposal_hash` of signals that must not come again, besides those in quarantine.

    They are those that the gate has rejected, and all that this intervention has tried, in branches or in a race. What
    passed screening but whose turn never came may come again; and so may a removal that the gate has rejected, of which
    the trigger says when, and signals that the config gives, which are all that there is to try.
    """
    if state.get("removing") or state.get("given"):
        return set()
    out: set[str] = set()
    for decision in await ctx.store.read(DecisionRecord):
        # A run that was killed before its checkpoint has left this round's own decision.
        if (decision.point, decision.round) == (state["point"], state["round"]):
            continue
        for arm in decision.detail.arms:
            tried_here = decision.point == state["point"] and arm.verdict != "not_tried"
            if arm.verdict == "reject" or tried_here:
                out.add(arm.arm)
        # It would fail again: equal branches are run once.
        out |= decision.detail.failed.keys() if decision.point == state["point"] else set()
    for race in await ctx.store.read(RaceRecord, point=state["point"]):
        if race.round < state["round"]:
            out |= {look.arm for rung in race.detail.rungs for look in rung.arms}
    signals = {row.id: row.signal for row in await ctx.store.read(ProposalRecord)}
    return {signals[arm].proposal_hash() for arm in out if arm in signals}
