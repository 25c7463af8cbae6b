"""What tests of reports and pages add to the run directory of `cosignal.testing`: a graph, a question, later events."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from cosignal.runs.events import ApprovalNeeded
from cosignal.runs.graph_picture import Edge, Topology
from cosignal.runs.records import DecisionRecord, ProposalRecord
from cosignal.runs.store import LoopStore
from cosignal.testing.run_directory import (
    ADOPTED,
    MARKUP,
    NEAR_SWITCH,
    POINT,
    UPDATE,
    WINNER,
    branch_record,
    signal_row,
)

GRAPH = Topology(
    ("__start__", "observe", "critic", "critic_tools", "generator", "decide", "promote", "__end__"),
    (
        Edge("__start__", "observe"),
        Edge("observe", "observe", True),
        Edge("observe", "critic", True),
        Edge("observe", "__end__", True),
        Edge("critic", "critic_tools", True),
        Edge("critic_tools", "critic"),
        Edge("critic", "generator", True),
        Edge("generator", "decide"),
        Edge("decide", "generator", True),
        Edge("decide", "promote", True),
        Edge("promote", "observe"),
    ),
)
QUESTION = ApprovalNeeded(
    id="p24-r1", proposal="p24-r1-0", title="Near the door", reason="it is far", terms=["potential door: -dist_door"],
    gate="p24-r1-0: gain +1.2 over 5 seeds: accept", diff=["+ potential door: -dist_door"], replaces=2,
    adopted="signal",
)  # fmt: skip

DECLINED, STALE, ROLLED_BACK = 150, 180, 220  # updates


def add_later_events(path: Path) -> Path:
    """Add to a made-up run a promotion that a human declined, one that was stale, and a rollback."""
    with closing(sqlite3.connect(path / "trainer.db")) as database, database:
        for version, update, cause in ((2, DECLINED, "control"), (3, ROLLED_BACK, "rollback")):
            adopt = "branches/kept" if cause == "control" else f"checkpoints/update_{POINT:09d}"
            signal = json.dumps(signal_row(version, WINNER if cause == "control" else []))
            row = (version, f"key-{version}", version - 1, update, update * UPDATE + ADOPTED, signal, adopt, cause)
            database.execute("INSERT INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    asyncio.run(_write_later(path))
    return path


async def _write_later(path: Path) -> None:
    store = await LoopStore.open(path)
    try:
        declined = "declined by the human who was asked"
        await _write_overturned(store, DECLINED, "declined", declined, {"kept_control": 2048, "adopt": "branches/kept"})
        judgement = judged(f"p{STALE}-r0-0", "no_difference", 0.1, "gain +0.1: no difference")
        why = "the run has moved 300000 main steps, adaptation.max_staleness is 200000"
        confirmation = {"why": why, "steps_main": 600_000, "judgement": judgement}
        await _write_overturned(store, STALE, "stale", why, {"confirmation": confirmation, "staleness": 4096})
        reason = "sparse return 0.200 at 451584 main steps, 1.000 before version 1: a regression, 2 of 2 running"
        row = {"id": f"p{ROLLED_BACK}-rollback", "point": ROLLED_BACK, "round": 0, "verdict": "rollback",
               "winner": f"p{POINT}-r1-0", "adopted": None, "version": 3, "created_steps": 0,
               "detail": {"reason": reason, "undone": 1, "judgements": [], "screened": []}}  # fmt: skip
        await store.write(DecisionRecord.model_validate(row))
    finally:
        await store.close()


async def _write_overturned(store: LoopStore, point: int, verdict: str, why: str, more: dict[str, Any]) -> None:
    arm = f"p{point}-r0-0"
    proposal = {"title": f"Towards the door {MARKUP}", "reason": "it is far", "beta": 0.5, "addresses": ["plateau"],
                "terms": [NEAR_SWITCH], "exploration": {"entropy": None, "kick": None}}  # fmt: skip
    row = {"id": arm, "point": point, "round": 0, "position": 0, "proposal": proposal,
           "signal": signal_row(2, [NEAR_SWITCH]), "problems": [], "notes": [], "rank": 0}  # fmt: skip
    await store.write(ProposalRecord.model_validate(row))
    for phase in ("full", "confirm") if "confirmation" in more else ("full",):
        for name in (arm, "control"):
            for seed in range(3):
                wins = name != "control" and phase == "full"
                await store.write(branch_record(0, phase, name, seed, ADOPTED, 1.0, wins, point))
    judgement = judged(arm, "accept", 1.8, f"{arm}: gain +1.800 over 3 seeds: accept")
    reason = f"{why}; the gate had accepted: {judgement['explanation']}"
    detail = {"judgements": [judgement], "screened": [], "reason": reason, **more}
    decision = {"id": f"p{point}-r0", "point": point, "round": 0, "verdict": verdict, "winner": arm, "adopted": None,
                "version": None, "detail": detail, "created_steps": point * UPDATE}  # fmt: skip
    await store.write(DecisionRecord.model_validate(decision))


def judged(arm: str, verdict: str, gain: float, explanation: str) -> dict[str, Any]:
    return {
        "arm": arm,
        "verdict": verdict,
        "gain": gain,
        "lower": gain - 0.2,
        "upper": gain + 0.2,
        "level": 0.0156,
        "seeds": [0, 1, 2],
        "success_change": None,
        "margin": 0.06,
        "removal": False,
        "explanation": explanation,
    }
