"""Writes a run directory with made-up numbers in the schemas of `trainer.db` and `loop.db`, for tests of readers."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from cosignal.config.adaptation import AdaptationConfig
from cosignal.config.run_config import RunConfig
from cosignal.rl.training.config import TrainerConfig
from cosignal.runs.events import ApprovalNeeded
from cosignal.runs.graph_picture import Edge, Topology
from cosignal.runs.store import LoopStore

UPDATE = 2048
POINT = 80  # the intervention's update
ADOPTED = 200_704  # steps of the winner's branch, now part of the main line
CURVE = (20_000, 60_000, 100_000, 150_000, 200_000)
EVIL = "<script>document.title='owned'</script>"

TRAINER_SCHEMA = """
CREATE TABLE metrics(update_index INTEGER PRIMARY KEY, steps INTEGER, data TEXT);
CREATE TABLE signals(version INTEGER PRIMARY KEY, key TEXT UNIQUE, base_version INTEGER, applied_update INTEGER,
    applied_steps INTEGER, signal TEXT, adopt TEXT, cause TEXT NOT NULL);
CREATE TABLE counters(name TEXT PRIMARY KEY, value TEXT);
"""


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


def build(path: Path) -> Path:
    """The directory, made."""
    path.mkdir(parents=True)
    budget = 300 * UPDATE + ADOPTED
    config = RunConfig(
        trainer=TrainerConfig(steps=budget), adaptation=AdaptationConfig(patience=150_000, max_share=0.85)
    )
    (path / "config.json").write_text(config.resolved_json())
    info = {"id": path.name, "created": "2026-01-02T03:04:05+00:00", "config_hash": config.config_hash()}
    (path / "run.json").write_text(json.dumps({**info, "version": "0.1.0"}))
    _write_trainer(path)
    asyncio.run(_write_loop(path))
    return path


# ---------------------------------------------------------------- trainer.db


def _write_trainer(path: Path) -> None:
    with closing(sqlite3.connect(path / "trainer.db")) as database, database:
        database.executescript(TRAINER_SCHEMA)
        database.executemany("INSERT INTO metrics VALUES (?, ?, ?)", [_metric(update) for update in range(1, 301)])
        for version, base, update, steps, signal, adopt in _signals():
            cause = "promotion" if version else "start"
            row = (version, f"key-{version}", base, update, steps, json.dumps(signal), adopt, cause)
            database.execute("INSERT INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        database.executemany("INSERT INTO counters VALUES (?, ?)", COUNTERS.items())


def _metric(update: int) -> tuple[int, int, str]:
    steps = update * UPDATE + (ADOPTED if update > POINT else 0)
    solved = 1 / (1 + math.exp(-(update - 90) / 4)) if update > POINT else 0.0
    learnt = min(1.0, update / 40)
    value = round(-0.8 + 1.8 * learnt + 1.8 * solved + 0.05 * math.sin(update), 4)
    evaluated = update % 49 == 0 or update in (1, POINT, 300)
    data = {
        "steps_main": steps,
        "train_return": value,
        "train_success": round(solved, 4),
        "evaluation_return": value if evaluated else None,
        "evaluation_success": round(solved, 4) if evaluated else None,
        "stage": _stage(update),
        "signal_version": int(update > POINT),
        "entropy": 1.1,
        "policy_loss": 0.0,
        "value_loss": 0.1,
        "shaped_share": 0.3 if update > POINT else 0.0,
        "steps_evaluation": 3200 * (1 + update // 49),
    }
    return update, steps, json.dumps(data)


def _stage(update: int) -> str:
    for last, stage in ((20, "exploring"), (45, "improving"), (82, "plateaued"), (140, "improving")):
        if update <= last:
            return stage
    return "converged"


def signal_row(version: int, terms: list[dict[str, Any]], kick: float | None = None) -> dict[str, Any]:
    exploration = {"entropy": None, "kick": kick}
    scale = 1.4 if terms else None
    parent = version - 1 if version else None
    return {"version": version, "stage": "plateaued" if version else "exploring", "beta": 0.8 if version else 0.5,
            "scale": scale, "parent": parent, "exploration": exploration, "terms": terms}  # fmt: skip


NEAR_GOAL = {"name": "near_goal", "kind": "potential", "expression": "-dist_goal / 14", "weight": 1.0, "agents": "all"}
NEAR_SWITCH = {"name": "near_switch", "kind": "potential", "expression": "-min_mates(dist_nearest_open_switch) / 12",
               "weight": 0.6, "agents": "all"}  # fmt: skip
TRIGGERED = {"name": "triggered", "kind": "event", "event": "switch_triggered", "weight": 0.1, "agents": "all",
             "decay_steps": 300_000}  # fmt: skip
WINNER = [NEAR_GOAL, NEAR_SWITCH]


def _signals() -> list[tuple[int, int, int, int, dict[str, Any], str | None]]:
    end = f"branches/full-p{POINT}-r1-0-0"
    return [
        (0, 0, 0, 0, signal_row(0, []), None),
        (1, 0, POINT, POINT * UPDATE, signal_row(1, WINNER, kick=0.05), end),
    ]


COUNTERS = {
    "state": "finished",
    "steps_main": str(300 * UPDATE + ADOPTED),
    "steps_evaluation": "22400",
    "steps_repeated": "4096",
    "steps_adopted": str(ADOPTED),
    "update": "300",
    "stage": "converged",
}

# ---------------------------------------------------------------- loop.db

IDEAS = [
    ("Pull towards the goal", "The goal is never reached although both switches are.", [NEAR_GOAL], 1.0),
    ("Pull towards the nearest open switch", "Shorten the first half of the task.", [NEAR_SWITCH], 1.0),
    ("Pay for switches", "A bonus each time a switch is triggered.", [TRIGGERED], 0.98),
    ("Look around more", f"No term, only exploration. {EVIL}", [], 1.02),
]


async def _write_loop(path: Path) -> None:
    store = await LoopStore.open(path)
    try:
        await store.set(state="done", wall_s=163.4)
        await store.write("diagnoses", {"point": POINT, "diagnosis": DIAGNOSIS, "evidence": {"steps": POINT * UPDATE}})
        for round_number in (0, 1):
            await _write_round(store, round_number)
        await _write_visits(store)
    finally:
        await store.close()


DIAGNOSIS = {
    "findings": [
        {"failure": "exploration_collapsed", "cites": ["behaviour.agents.no_effect_share", "sparse.spread"],
         "explanation": "Three quarters of all actions change nothing, and the return has not moved for 60,000 steps."},
        {"failure": "subgoal_never_reached", "cites": ["features.dist_goal.reached_low_share"],
         "explanation": f"No agent came near the goal in the last window. {EVIL}"},
    ],
    "advice": "Revive exploration in every arm and make the way to the goal visible.",
}  # fmt: skip


async def _write_round(store: LoopStore, number: int) -> None:
    for position, (title, reason, terms, level) in enumerate(IDEAS):
        proposal_id = f"p{POINT}-r{number}-{position}"
        wins = number == 1 and position == 0
        used = WINNER if wins else terms
        problems = ["term 'triggered': can be farmed without progress; use a potential"] if position == 2 else []
        proposal = {"title": "Goal and switches together" if wins else title, "reason": reason, "beta": 0.8,
                    "addresses": ["subgoal_never_reached"], "terms": used,
                    "exploration": {"entropy": None, "kick": 0.05 if number else None}}  # fmt: skip
        row = {"id": proposal_id, "point": POINT, "round": number, "position": position, "proposal": proposal,
               "signal": signal_row(1, used), "problems": problems, "notes": ["Φ is higher where episodes end well"],
               "rank": None if problems else position}  # fmt: skip
        await store.write("proposals", row)
        if not problems:
            await _write_arm(store, number, proposal_id, level, wins, judged=position < 2 - number)
    await _write_arm(store, number, "control", 1.0, wins=False, judged=True)
    await store.write("decisions", _decision(number))


async def _write_arm(store: LoopStore, number: int, arm: str, level: float, wins: bool, judged: bool) -> None:
    for seed in range(2):
        await store.write("branches", branch_row(number, "screen", arm, seed, 100_352, level, wins))
    for seed in range(3 if judged else 0):
        await store.write("branches", branch_row(number, "full", arm, seed, ADOPTED, level, wins))


def branch_row(number: int, phase: str, arm: str, seed: int, horizon: int, level: float, wins: bool) -> dict[str, Any]:
    def value(steps: int) -> float:
        lift = 1.8 / (1 + math.exp(-(steps - 90_000 - 15_000 * seed) / 12_000)) if wins else 0.0
        return round(level + lift + 0.04 * math.sin(steps / 9_000 + seed), 3)

    key = f"{phase}-{arm}-{seed}" if arm != "control" else f"{phase}-r{number}-control-{seed}"
    curve = [(steps, value(steps), 0.9 if value(steps) > 2 else 0.0) for steps in CURVE if steps <= horizon]
    steps = horizon if phase == "screen" or seed == 2 else horizon // 2
    result = {"kind": "branch_result", "key": key, "arm": arm, "seed": seed, "horizon": horizon,
              "signal": signal_row(1, []), "final_return": value(horizon), "success_rate": curve[-1][2],
              "fork_return": 1.0, "curve": curve,
              "steps": steps, "steps_evaluation": 6_400, "end_state": f"branches/{key}",
              "end_update": POINT + horizon // UPDATE, "cpu_s": 3.2}  # fmt: skip
    job = {"key": key, "exploration": {"entropy": None, "kick": 0.05 if number else None}}
    return {"key": key, "point": POINT, "round": number, "phase": phase, "arm": arm, "seed": seed, "horizon": horizon,
            "job": job, "result": result}  # fmt: skip


def _decision(number: int) -> dict[str, Any]:
    accepted = number == 1
    return {
        "id": f"p{POINT}-r{number}", "point": POINT, "round": number,
        "verdict": "accept" if accepted else "no_difference", "created_steps": POINT * UPDATE,
        "winner": f"p{POINT}-r1-0" if accepted else None, "adopted": "state" if accepted else None,
        "version": 1 if accepted else None,
        "detail": {"judgements": _judgements(number), "screened": _screened(number), "reason": _reason(number)},
    }  # fmt: skip


def _reason(number: int) -> str:
    return (
        "p80-r1-0 gains most" if number else "no finalist cleared the margin; no branch of any arm rose above the fork"
    )


def _judgements(number: int) -> list[dict[str, Any]]:
    words = "gain {gain:+.3f} over 3 seeds, bounds {lower:+.3f} … {upper:+.3f} at level 0.0156: {verdict}"
    first = ("accept", 1.8, 1.62, 1.98) if number else ("no_difference", 0.01, -0.04, 0.06)
    rows = [first] if number else [first, ("no_difference", -0.02, -0.07, 0.03)]
    found = []
    for position, (verdict, gain, lower, upper) in enumerate(rows):
        arm = f"p{POINT}-r{number}-{position}"
        told = words.format(gain=gain, lower=lower, upper=upper, verdict=verdict)
        found.append({"arm": arm, "verdict": verdict, "gain": gain, "lower": lower, "upper": upper, "level": 0.0156,
                      "seeds": [0, 1, 2], "success_change": 0.9 if verdict == "accept" else 0.0, "margin": 0.06,
                      "removal": False, "explanation": f"{arm}: {told}"})  # fmt: skip
    return found


def _screened(number: int) -> list[dict[str, Any]]:
    out = {3: ("screened_out", "screened out: others were better")}
    late = {1: ("not_tried", f"not tried further: p{POINT}-r1-0 was accepted before its turn")}
    found = []
    for position, (verdict, why) in ({**late, **out} if number else out).items():
        arm = f"p{POINT}-r{number}-{position}"
        found.append({"arm": arm, "verdict": verdict, "gain": 0.01, "lower": None, "upper": None, "seeds": [0, 1],
                      "explanation": f"{arm}: gain +0.010 over 2 seeds in screening; {why}"})  # fmt: skip
    return found


async def _write_visits(store: LoopStore) -> None:
    started = 1_767_322_000.0
    walk = [("observe", 0)] * 3 + [("critic", 0), ("critic_tools", 0), ("critic", 0)]
    walk += [
        (node, number) for number in (0, 1) for node in ("generator", "check", "rank_proposals", "validate", "decide")
    ]
    walk += [("promote", 1), ("observe", 1)]
    for number, (node, round_number) in enumerate(walk):
        await store.write("visits", {
            "id": number + 1, "task_id": f"task-{number}", "node": node, "point": POINT, "round": round_number,
            "started": started + 10 * number, "ended": started + 10 * number + 4.2, "status": "ok",
            "detail": {"reason": f"stage plateaued {EVIL}"} if node == "observe" else {},
        })  # fmt: skip
    roles = (("critic", 3), ("critic", 5), ("generator", 6), ("ranker", 8), ("generator", 11), ("ranker", 13))
    for number, (role, visit) in enumerate(roles):
        call = _call(number, role, round_number=int(number > 3), started=started + 10 * visit + 1)
        await store.write("calls", call)


def _call(number: int, role: str, round_number: int, started: float) -> dict[str, Any]:
    evidence = json.dumps({"stage": "plateaued", "sparse": {"return_now": 1.0, "trend": 0.0}}, indent=1)
    prompt = f"Here is the evidence.\n```json\n{evidence}\n```\n{EVIL}"
    messages = [{"role": "system", "content": f"You are the {role}."}, {"role": "user", "content": prompt}]
    tool = number == 0
    return {
        "id": f"p{POINT}-r{round_number}-{role}-{number}-0", "role": role, "point": POINT, "round": round_number,
        "attempt": 0, "prompt_id": f"{role}/v1", "prompt_hash": "ab12cd34" * 8, "messages": messages,
        "provider": "rules", "model": "rules-1", "raw": "" if tool else json.dumps(DIAGNOSIS),
        "parsed": None if tool else DIAGNOSIS, "outcome": "tool_call" if tool else "ok", "error": None,
        "input_tokens": None, "output_tokens": None, "latency_s": 0.01, "started": started,
    }  # fmt: skip
