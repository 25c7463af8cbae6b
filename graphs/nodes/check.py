"""check: what can be said against a proposal without any training. No model, no environment step."""

from __future__ import annotations

import asyncio
from typing import Any

from langgraph.runtime import Runtime

from ...rl.experience.transition_sample import TransitionSample
from ...rl.ipc.messages import TrainerStatus
from ...rl.signals.check import CheckReport, check_signal
from ...rl.signals.signal import Signal
from ...runs.events import ProposalMade
from ..branches import snapshot_of
from ..context import Context
from ..history import arms_of, quarantined
from ..intervention import return_range_at
from ..state import State


async def check(state: State, runtime: Runtime[Context]) -> State:
    """Problems and notes of every proposal of the round, from the transitions in the point's snapshot."""
    ctx = runtime.context
    rows = await ctx.store.rows("proposals", point=state["point"], round=state["round"])
    reports = await _reports(ctx, state, [Signal.model_validate(row["signal"]) for row in rows])
    checked = [
        {"id": row["id"], "problems": report.problems, "notes": report.notes}
        for row, report in zip(rows, reports, strict=True)
    ]
    await ctx.store.update("proposals", checked)
    for row, report in zip(rows, reports, strict=True):
        ctx.emit(ProposalMade(id=row["id"], title=row["proposal"]["title"], problems=report.problems))
    passed = [row["id"] for row in checked if not row["problems"]]
    failed = {row["id"]: row["problems"][0] for row in checked if row["problems"]}
    return {"passed": passed, "note": {"passed": passed, "failed": failed}}


async def _reports(ctx: Context, state: State, signals: list[Signal]) -> list[CheckReport]:
    """Each signal against task, recorded transitions and the signal in force; of two equal ones the second fails."""
    status = TrainerStatus.model_validate(state["status"])
    path = ctx.run_dir / snapshot_of(status) / "recorded.safetensors"
    recorded = await asyncio.to_thread(TransitionSample.load, path, ctx.spec)
    rejected, returns = await _rejected(ctx, state), await return_range_at(ctx, state["point"])
    never, reports = await quarantined(ctx.store), []
    for signal in signals:
        report = await asyncio.to_thread(
            check_signal, signal, ctx.spec, recorded, status.signal, rejected, returns, never, ctx.scorers
        )
        reports.append(report)
        rejected = rejected | {signal.proposal_hash()}
    return reports


async def _rejected(ctx: Context, state: State) -> set[str]:
    """Signals that must not come again, besides those in quarantine: those that the gate has rejected, and all that
    this intervention has tried. What passed screening but whose turn never came may; and a removal that the gate has
    rejected, of which the trigger says when it may come."""
    if state.get("removing"):
        return set()
    tried: set[tuple[int, str]] = set()
    for row in await ctx.store.rows("decisions"):
        tried |= {(row["point"], arm["arm"]) for arm in arms_of(row) if _is_out(arm, row, state)}
    rows = {row["id"]: row for row in await ctx.store.rows("proposals")}
    return {Signal.model_validate(rows[arm]["signal"]).proposal_hash() for _, arm in tried}


def _is_out(arm: dict[str, Any], decision: dict[str, Any], state: State) -> bool:
    if (decision["point"], decision["round"]) == (state["point"], state["round"]):
        return False  # this round's own decision, left by a run that was killed before its checkpoint
    if arm["verdict"] == "not_tried":
        return False
    return bool(arm["verdict"] == "reject" or decision["point"] == state["point"])
