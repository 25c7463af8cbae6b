"""A finished run on disk with made-up numbers, for tests of code that reads runs: reports, pages, notebooks.

The run is stuck from update 40 on. At update 80 the loop intervenes: round 0 is rejected, in round 1 the first proposal
is accepted and its branch's end state adopted; then the task is solved, and the run ends after 300 updates. Some texts
hold a script tag (`MARKUP`), which a page must show as text. The schemas of both databases are the real ones.
"""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ..agents.llm.ledger import Call
from ..config.adaptation import AdaptationConfig
from ..config.run_config import RunConfig
from ..rl.trainer.database import SCHEMA
from ..rl.training.config import TrainerConfig
from ..runs.records import BranchRecord, DecisionRecord, InterventionRecord, ProposalRecord, VisitRecord
from ..runs.store import LoopStore

UPDATE = 2048  # environment steps
POINT = 80  # update of the intervention
ADOPTED = 200_704  # steps of the winner's branch, which became part of the main line
STARTED = 1_767_322_000.0  # seconds since 1970; a visit begins every ten seconds from here on
CURVE = (20_000, 60_000, 100_000, 150_000, 200_000)  # steps since the fork at which a branch has a row
MARKUP = "<script>document.title='owned'</script>"

NEAR_GOAL = {"name": "near_goal", "kind": "potential", "expression": "-dist_goal / 14", "weight": 1.0, "agents": "all"}
NEAR_SWITCH = {"name": "near_switch", "kind": "potential", "expression": "-min_mates(dist_nearest_open_switch) / 12",
               "weight": 0.6, "agents": "all"}  # fmt: skip
TRIGGERED = {"name": "triggered", "kind": "event", "event": "switch_triggered", "weight": 0.1, "agents": "all",
             "decay_steps": 300_000}  # fmt: skip
WINNER = [NEAR_GOAL, NEAR_SWITCH]  # terms of the promoted signal

# Title, reason, terms and level of each proposal of a round; the level is where its branches' returns stay.
IDEAS = [
    ("Pull towards the goal", "The goal is never reached although both switches are.", [NEAR_GOAL], 1.0),
    ("Pull towards the nearest open switch", "Shorten the first half of the task.", [NEAR_SWITCH], 1.0),
    ("Pay for switches", "A bonus each time a switch is triggered.", [TRIGGERED], 0.98),
    ("Look around more", f"No term, only exploration. {MARKUP}", [], 1.02),
]
# Numbers of the proposals that the check let pass.
PREVIEW = {
    "phi_start": -0.31, "phi_after": [["switch_triggered", 0.125]], "phi_end_failed": 0.12, "phi_end_success": 0.87,
    "paid_share": 0.42, "mean_paid": 0.0123, "mean_reward": 0.004, "return_correlation": 0.66,
    "informativeness": 0.31, "distance_in_force": None, "distances": [["p80-r0-1", 0.25], ["p80-r0-0", 0.5]],
}  # fmt: skip
DIAGNOSIS = {
    "findings": [
        {"failure": "exploration_collapsed", "cites": ["behaviour.agents.no_effect_share", "sparse.spread"],
         "explanation": "Three quarters of all actions change nothing, and the return has not moved for 60,000 steps."},
        {"failure": "subgoal_never_reached", "cites": ["features.dist_goal.reached_low_share"],
         "explanation": f"No agent came near the goal in the last window. {MARKUP}"},
    ],
    "went_wrong_at": 13,
    "went_wrong_because": f"Both switches are on and nobody turns to the door. {MARKUP}",
    "advice": "Revive exploration in every arm and make the way to the goal visible.",
}  # fmt: skip


def build_run_directory(path: Path) -> Path:
    """Write the run's `config.json`, `run.json`, `trainer.db` and `loop.db`, and return `path`.

    It starts an event loop of its own; a coroutine calls it as `await asyncio.to_thread(build_run_directory, path)`.

    Args:
        path: a directory that does not exist; its name becomes the run's id.

    Raises:
        FileExistsError: the directory exists.
    """
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
    counters = {
        "state": "finished",
        "steps_main": str(300 * UPDATE + ADOPTED),
        "steps_evaluation": "22400",
        "steps_repeated": "4096",
        "steps_trained": str(300 * UPDATE),
        "update": "300",
        "stage": "converged",
    }
    promoted = json.dumps(signal_row(1, WINNER, kick=0.05))
    signals = [
        (0, "key-0", 0, 0, 0, json.dumps(signal_row(0, [])), None, "start"),
        (1, "key-1", 0, POINT, POINT * UPDATE, promoted, f"branches/full-p{POINT}-r1-0-0", "promotion"),
    ]
    with closing(sqlite3.connect(path / "trainer.db")) as database, database:
        database.executescript(SCHEMA)
        database.executemany("INSERT INTO metrics VALUES (?, ?, ?)", [_metric(update) for update in range(1, 301)])
        database.executemany("INSERT INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", signals)
        database.executemany("INSERT INTO counters VALUES (?, ?)", counters.items())


def _metric(update: int) -> tuple[int, int, str]:
    """Return a row of `metrics`: the return rises to 1 within 40 updates, and to 2.8 once the signal is promoted."""
    steps = update * UPDATE + (ADOPTED if update > POINT else 0)
    # the success rate rises from 0 to 1 around ten updates after the promotion
    solved = 1 / (1 + math.exp(-(update - 90) / 4)) if update > POINT else 0.0
    learnt = min(1.0, update / 40)
    value = round(-0.8 + 1.8 * learnt + 1.8 * solved + 0.05 * math.sin(update), 4)
    evaluated = update % 49 == 0 or update in (1, POINT, 300)
    last_updates = ((20, "exploring"), (45, "improving"), (82, "plateaued"), (140, "improving"))
    data = {
        "steps_main": steps,
        "steps_trained": update * UPDATE,
        "train_return": value,
        "train_success": round(solved, 4),
        "evaluation_return": value if evaluated else None,
        "evaluation_success": round(solved, 4) if evaluated else None,
        "stage": next((stage for last, stage in last_updates if update <= last), "converged"),
        "signal_version": int(update > POINT),
        "adopted": False,
        "entropy": 1.1,
        "policy_loss": 0.0,
        "value_loss": 0.1,
        "shaped_share": 0.3 if update > POINT else 0.0,
        "steps_evaluation": 3200 * (1 + update // 49),
    }
    return update, steps, json.dumps(data)


def signal_row(version: int, terms: list[dict[str, Any]], kick: float | None = None) -> dict[str, Any]:
    """Return a signal as JSON: version 0 is the start's, every other follows the one before it."""
    exploration = {"entropy": None, "kick": kick}
    scale = 1.4 if terms else None
    parent = version - 1 if version else None
    return {"version": version, "stage": "plateaued" if version else "exploring", "beta": 0.8 if version else 0.5,
            "scale": scale, "parent": parent, "exploration": exploration, "terms": terms}  # fmt: skip


# ---------------------------------------------------------------- loop.db


async def _write_loop(path: Path) -> None:
    store = await LoopStore.open(path)
    try:
        await store.set(state="done", wall_s=163.4)
        evidence = {"steps": POINT * UPDATE}
        intervention = {"point": POINT, "diagnosis": DIAGNOSIS, "evidence": evidence}
        await store.write(InterventionRecord.model_validate(intervention))
        for round_number in (0, 1):
            await _write_round(store, round_number)
        await _write_visits(store)
        await _write_calls(store)
    finally:
        await store.close()


async def _write_round(store: LoopStore, number: int) -> None:
    """Write four proposals, one of which breaks a rule, the branches of the others and of the control, a decision."""
    for position, (title, reason, terms, level) in enumerate(IDEAS):
        proposal_id = f"p{POINT}-r{number}-{position}"
        # only the first proposal of the second round helps
        wins = number == 1 and position == 0
        used = WINNER if wins else terms
        problems = ["term 'triggered': can be farmed without progress; use a potential"] if position == 2 else []
        proposal = {"title": "Goal and switches together" if wins else title, "reason": reason, "beta": 0.8,
                    "addresses": ["subgoal_never_reached"], "terms": used,
                    "exploration": {"entropy": None, "kick": 0.05 if number else None}}  # fmt: skip
        row = {"id": proposal_id, "point": POINT, "round": number, "position": position, "proposal": proposal,
               "signal": signal_row(1, used), "problems": problems, "notes": ["Φ is higher where episodes end well"],
               "rank": None if problems else position, "preview": None if problems else PREVIEW}  # fmt: skip
        await store.write(ProposalRecord.model_validate(row))
        if not problems:
            await _write_arm(store, number, proposal_id, level, wins, judged=position < 2 - number)
    await _write_arm(store, number, "control", 1.0, wins=False, judged=True)
    accepted = number == 1
    decision = {
        "id": f"p{POINT}-r{number}", "point": POINT, "round": number,
        "verdict": "accept" if accepted else "no_difference", "created_steps": POINT * UPDATE,
        "winner": f"p{POINT}-r1-0" if accepted else None, "adopted": "state" if accepted else None,
        "version": 1 if accepted else None,
        "detail": {"judgements": _judgements(number), "screened": _screened(number), "reason": (
            "p80-r1-0 gains most" if accepted
            else "no finalist cleared the margin; no branch of any arm rose above the fork"
        )},
    }  # fmt: skip
    await store.write(DecisionRecord.model_validate(decision))


async def _write_arm(store: LoopStore, number: int, arm: str, level: float, wins: bool, judged: bool) -> None:
    for seed in range(2):
        await store.write(branch_record(number, "screen", arm, seed, 100_352, level, wins))
    for seed in range(3 if judged else 0):
        await store.write(branch_record(number, "full", arm, seed, ADOPTED, level, wins))


def branch_record(
    number: int, phase: str, arm: str, seed: int, horizon: int, level: float, wins: bool, point: int = POINT
) -> BranchRecord:
    """Return a finished branch.

    Args:
        number: of the round.
        phase: "screen", "full" or "confirm".
        arm: "control" or a proposal's id.
        seed: of the branch.
        horizon: steps after the fork.
        level: where the sparse return stays.
        wins: whether it rises by 1.8 after 90 000 steps or a little later.
        point: update index that it forks at.
    """

    def value(steps: int) -> float:
        lift = 1.8 / (1 + math.exp(-(steps - 90_000 - 15_000 * seed) / 12_000)) if wins else 0.0
        return round(level + lift + 0.04 * math.sin(steps / 9_000 + seed), 3)

    key = f"{phase}-{arm}-{seed}" if arm != "control" else f"{phase}-r{number}-control-{seed}"
    key = key if point == POINT else f"p{point}-{key}"
    curve = [(steps, value(steps), 0.9 if value(steps) > 2 else 0.0) for steps in CURVE if steps <= horizon]
    steps = horizon if phase == "screen" or seed == 2 else horizon // 2
    result = {"kind": "branch_result", "key": key, "arm": arm, "seed": seed, "horizon": horizon,
              "signal": signal_row(1, []), "final_return": value(horizon), "success_rate": curve[-1][2],
              "fork_return": 1.0, "curve": curve,
              "steps": steps, "steps_evaluation": 6_400, "end_state": f"branches/{key}",
              "end_update": POINT + horizon // UPDATE, "cpu_s": 3.2}  # fmt: skip
    job = {"key": key, "fork": "checkpoints/f", "start": "checkpoints/f", "arm": arm, "signal": signal_row(1, []),
           "exploration": {"entropy": None, "kick": 0.05 if number else None}, "seed": seed, "horizon": horizon,
           "evaluation_seed": 1, "evaluation_episodes": 32, "end_state": f"branches/{key}"}  # fmt: skip
    row = {"key": key, "point": point, "round": number, "phase": phase, "arm": arm, "seed": seed, "horizon": horizon,
           "job": job, "result": result}  # fmt: skip
    return BranchRecord.model_validate(row)


def _judgements(number: int) -> list[dict[str, Any]]:
    text = "gain {gain:+.3f} over 3 seeds, bounds {lower:+.3f} … {upper:+.3f} at level 0.0156: {verdict}"
    first = ("accept", 1.8, 1.62, 1.98) if number else ("no_difference", 0.01, -0.04, 0.06)
    outcomes = [first] if number else [first, ("no_difference", -0.02, -0.07, 0.03)]
    rows = []
    for position, (verdict, gain, lower, upper) in enumerate(outcomes):
        arm = f"p{POINT}-r{number}-{position}"
        explanation = text.format(gain=gain, lower=lower, upper=upper, verdict=verdict)
        rows.append({"arm": arm, "verdict": verdict, "gain": gain, "lower": lower, "upper": upper, "level": 0.0156,
                     "seeds": [0, 1, 2], "success_change": 0.9 if verdict == "accept" else 0.0, "margin": 0.06,
                     "removal": False, "explanation": f"{arm}: {explanation}"})  # fmt: skip
    return rows


def _screened(number: int) -> list[dict[str, Any]]:
    out = {3: ("screened_out", "screened out: others were better")}
    late = {1: ("not_tried", f"not tried further: p{POINT}-r1-0 was accepted before its turn")}
    rows = []
    for position, (verdict, reason) in ({**late, **out} if number else out).items():
        arm = f"p{POINT}-r{number}-{position}"
        rows.append({"arm": arm, "verdict": verdict, "gain": 0.01, "lower": None, "upper": None, "seeds": [0, 1],
                     "explanation": f"{arm}: gain +0.010 over 2 seeds in screening; {reason}"})  # fmt: skip
    return rows


async def _write_visits(store: LoopStore) -> None:
    # three looks, one diagnosis with a tool call, two rounds, a promotion
    path = [("observe", 0)] * 3 + [("critic", 0), ("critic_tools", 0), ("critic", 0)]
    path += [
        (node, number) for number in (0, 1) for node in ("generator", "check", "rank_proposals", "validate", "decide")
    ]
    path += [("promote", 1), ("observe", 1)]
    for number, (node, round_number) in enumerate(path):
        began = STARTED + 10 * number
        visit = VisitRecord(
            task_id=f"task-{number}",
            node=node,
            point=POINT,
            round=round_number,
            started=began,
            ended=began + 4.2,
            status="ok",
            detail={"reason": f"stage plateaued {MARKUP}"} if node == "observe" else {},
        )
        await store.write(visit)


async def _write_calls(store: LoopStore) -> None:
    """Write six model calls: the Critic asks a tool and then answers, then a Generator and a Ranker each round."""
    evidence = json.dumps({"stage": "plateaued", "sparse": {"return_now": 1.0, "trend": 0.0}}, indent=1)
    prompt = f"Here is the evidence.\n```json\n{evidence}\n```\n{MARKUP}"
    roles = (("critic", 3), ("critic", 5), ("generator", 6), ("ranker", 8), ("generator", 11), ("ranker", 13))
    for number, (role, visit) in enumerate(roles):
        round_number, is_tool_call = int(number > 3), number == 0
        messages = [{"role": "system", "content": f"You are the {role}."}, {"role": "user", "content": prompt}]
        call = {
            "id": f"p{POINT}-r{round_number}-{role}-{number}-0", "role": role, "point": POINT, "round": round_number,
            "attempt": 0, "prompt_id": f"{role}/v1", "prompt_hash": "ab12cd34" * 8, "messages": messages,
            "provider": "rules", "model": "rules-1", "raw": "" if is_tool_call else json.dumps(DIAGNOSIS),
            "parsed": None if is_tool_call else DIAGNOSIS, "outcome": "tool_call" if is_tool_call else "ok",
            "error": None, "input_tokens": None, "output_tokens": None, "latency_s": 0.01,
            "started": STARTED + 10 * visit + 1,
        }  # fmt: skip
        await store.write(Call.model_validate(call))
