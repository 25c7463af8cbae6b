"""What tests of reports and pages add to the run directory of `cosignal.testing`: a graph, a question, later events,
races."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from cosignal.runs.events import ApprovalNeeded
from cosignal.runs.graph_picture import Edge, Topology
from cosignal.runs.race_records import RaceRecord
from cosignal.runs.records import DecisionRecord, ProposalRecord
from cosignal.runs.store import LoopStore
from cosignal.testing.run_directory import (
    ADOPTED,
    MARKUP,
    NEAR_GOAL,
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
BECAUSE = f"No signal should pay for doors. {MARKUP}"


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
        more = {"kept_control": 2048, "adopt": "branches/kept", "declined_because": BECAUSE}
        await _write_overturned(store, DECLINED, "declined", declined, more)
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


def waits_for(path: Path, key: str) -> Path:
    """Let a made-up run wait for an answer to the decision `key`."""
    question = QUESTION.model_copy(update={"id": key}).model_dump_json()
    with closing(sqlite3.connect(path / "loop.db")) as database, database:
        database.execute("INSERT OR REPLACE INTO run VALUES ('waiting_for', ?)", (question,))
    return path


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


# ---------------------------------------------------------------- races

RACE, LOST_RACE, REMOVED = 160, 240, 280  # updates of adaptation points
RUNG = 8  # updates
LOOK_EPISODES, LOOK_SD = 32, 0.8
EXPLAINED = "gain +1.453 over 64 paired episodes of each, lower bound +0.954 at level 0.0076: proven, it clears +0.1"
# Mean returns of the looks, rung by rung, as the prototype saw them on Victim-Rubble: the control stands at 2.0.
CONTROL_LOOKS = [2.0, 2.02, 1.98, 2.0]
LOOKS = {
    f"p{RACE}-r0-0": [1.97, 1.9, 1.95, 1.93],
    f"p{RACE}-r0-1": [2.0, 2.2, 3.4, 3.47],
    f"p{RACE}-r0-2": [2.05, 1.99, 2.1, 2.08],
    f"p{RACE}-r0-3": [1.6, 1.2, 0.95],
    f"kick@{RACE}": [1.98, 2.01, 2.03, 1.99],
    f"fresh@{RACE}": [0.0, 0.1, 0.35, 0.62],
}
DROPPED = {
    3: {f"p{RACE}-r0-3": f"clearly behind the main line {MARKUP}"},
    4: {f"p{RACE}-r0-0": "no milestone that is rare in the control", f"kick@{RACE}": "the worse half"},
}
LOST_LOOKS = {f"p{LOST_RACE}-r0-0": [2.0, 1.9], f"p{RACE}-r0-2": [2.1, 2.0]}


def add_races(path: Path) -> Path:
    """Add to a made-up run a race whose winner's policy was adopted, one without a winner, and a removal by offset."""
    with closing(sqlite3.connect(path / "trainer.db")) as database, database:
        for version, update, terms, adopt, cause in (
            (2, RACE + 4 * RUNG, [NEAR_SWITCH], f"branches/race-p{RACE}-r0-1-4", "promotion"),
            (3, REMOVED, [], None, "offset"),
        ):
            signal = json.dumps(signal_row(version, terms))
            steps = update * UPDATE + ADOPTED
            cause = "offset" if version == 3 else "promotion"
            row = (version, f"key-{version}", version - 1, update, steps, signal, adopt, cause)
            database.execute("INSERT INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    asyncio.run(_write_races(path))
    return path


async def _write_races(path: Path) -> None:
    store = await LoopStore.open(path)
    try:
        for arm in [*LOOKS, *LOST_LOOKS]:
            if arm.startswith("p"):
                point = int(arm[1:].partition("-")[0])
                await store.write(_raced_proposal(arm, point, f"Idea {arm[-1]} {MARKUP}"))
        for arm, means in LOOKS.items():
            for rung, mean in enumerate(means, 1):
                await store.write(branch_record(0, "race", arm, rung, 2 * RUNG * UPDATE, mean, False, RACE))

        # The first confirmation of the run's leader comes to nothing, the second one proves its policy.
        leader = f"p{RACE}-r0-1"
        proofs = {
            3: _proof(1, leader, -0.04, f"lower bound -0.040: not proven, it does not clear +0.1 {MARKUP}"),
            4: _proof(2, leader, 0.954, EXPLAINED),
        }
        adopted = race_row(RACE, LOOKS, CONTROL_LOOKS, DROPPED, proofs)
        adopted["detail"] |= {"winner": leader, "end": f"the policy of {leader} was proven better"}
        await store.write(RaceRecord.model_validate(adopted))
        lost = race_row(LOST_RACE, LOST_LOOKS, [3.5, 3.5], {2: dict.fromkeys(LOST_LOOKS, "moved nowhere")}, {})
        lost["detail"]["end"] = f"every arm was dropped {MARKUP}"
        await store.write(RaceRecord.model_validate(lost))

        await store.write(_raced_proposal(f"p{REMOVED}-r0-0", REMOVED, "Take the potentials out of the reward"))
        for point, verdict, winner, version, detail in (
            (RACE, "accept", leader, 2, {"claim": "policy", "race": f"p{RACE}-r0", "reason": f"{leader}: {EXPLAINED}"}),
            (LOST_RACE, "no_difference", None, None, {"race": f"p{LOST_RACE}-r0", "reason": "every arm was dropped"}),
            (REMOVED, "accept", f"p{REMOVED}-r0-0", 3, {"claim": "offset", "reason": "by an exact offset"}),
        ):
            row = {"id": f"p{point}-r0", "point": point, "round": 0, "verdict": verdict, "winner": winner,
                   "adopted": {2: "state", 3: "signal"}.get(version or 0), "version": version, "detail": detail,
                   "created_steps": point * UPDATE + ADOPTED}  # fmt: skip
            await store.write(DecisionRecord.model_validate(row))
    finally:
        await store.close()


def _raced_proposal(arm: str, point: int, title: str) -> ProposalRecord:
    proposal = {"title": title, "reason": "it is far", "beta": 0.5, "addresses": ["plateau"],
                "terms": [NEAR_GOAL], "exploration": {"entropy": None, "kick": 0.05}}  # fmt: skip
    row = {"id": arm, "point": point, "round": 0, "position": int(arm[-1]), "proposal": proposal,
           "signal": signal_row(2, [NEAR_GOAL]), "problems": [], "notes": [], "rank": int(arm[-1])}  # fmt: skip
    return ProposalRecord.model_validate(row)


def race_row(
    point: int,
    looks: dict[str, list[float]],
    control: list[float],
    dropped: dict[int, dict[str, str]],
    proofs: dict[int, dict[str, Any]],
) -> dict[str, Any]:
    """Return a race as JSON: `looks` by arm and `control` rung by rung; who was dropped and confirmed after which."""
    fork = point * UPDATE + ADOPTED

    def look(arm: str, mean: float, rung: int) -> dict[str, Any]:
        steps = rung * RUNG * UPDATE + (0 if arm.startswith("fresh") else fork)
        moved = ["switch_triggered ×2"] if mean > 2.05 else []
        return {"arm": arm, "state": f"branches/race-{arm}-{rung}", "steps": steps, "mean": mean, "sd": LOOK_SD,
                "episodes": LOOK_EPISODES, "success": round(max(0.0, mean - 2) / 4, 3), "moved": moved}  # fmt: skip

    def kind(arm: str) -> str:
        kinds = {"kick": "kick", "fresh": "fresh_start", f"p{point}-r0": "candidate"}
        return next((kind for start, kind in kinds.items() if arm.startswith(start)), "carried")

    rungs = [
        {
            "number": rung,
            "point": point + rung * RUNG,
            "horizon": rung * RUNG * UPDATE,
            "left": 1_000_000,
            "control": look("control", control[rung - 1], rung),
            "arms": [look(arm, means[rung - 1], rung) for arm, means in looks.items() if len(means) >= rung],
            "dropped": dropped.get(rung, {}),
            "proofs": [proofs[rung]] if rung in proofs else [],
        }
        for rung in range(1, len(control) + 1)
    ]
    arms = [
        {"name": arm, "kind": kind(arm), "signal": signal_row(2, [NEAR_GOAL] if arm.startswith("p") else []),
         "exploration": {"entropy": None, "kick": None if arm.startswith("fresh") else 0.05}, "seed": 7,
         "fork": f"branches/main_{point}", "fork_steps": 0 if arm.startswith("fresh") else fork,
         "start": f"branches/main_{point}"}
        for arm in looks
    ]  # fmt: skip
    detail = {
        "fork_steps": fork,
        "fork": look("control", 2.0, 0),
        "margin": 0.1,
        "left": 2_000_000,
        "arms": arms,
        "rungs": rungs,
    }
    return {"id": f"p{point}-r0", "point": point, "round": 0, "detail": detail}


def _proof(number: int, arm: str, lower: float, explanation: str) -> dict[str, Any]:
    return {
        "number": number,
        "arm": arm,
        "against": "control at 561152",
        "level": 0.05 * 6 / 9.8696 / number**2,
        "gain": 1.453,
        "lower": lower,
        "margin": 0.1,
        "episodes": 64,
        "distinct": 61,
        "paired": True,
        "proven": lower > 0.1,
        "explanation": explanation,
    }
