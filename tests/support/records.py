"""Records of a run with made-up values, of which a test names those that it is about; and rows as SQL reads them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from cosignal.agents.llm.ledger import Call
from cosignal.agents.schemas import Failure, Proposal
from cosignal.rl.ipc.messages import BranchJob, BranchResult
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.runs.records import (
    BranchRecord,
    DecisionDetail,
    DecisionRecord,
    DecisionVerdict,
    FailedBranchRecord,
    Phase,
    ProposalRecord,
    proposal_id,
)

ORDER = {"diagnoses": "point", "proposals": "point, round, position", "branches": "point, round, rowid",
         "decisions": "point, round", "calls": "started, id"}  # fmt: skip
JSON_COLUMNS = {"diagnosis", "evidence", "proposal", "signal", "problems", "notes", "preview", "job", "result",
                "detail", "messages", "parsed"}  # fmt: skip

NO_EXPLORATION = Exploration()


def rows(run_dir: Path, table: str) -> list[dict[str, Any]]:
    """Read the rows of a table of `loop.db` with SQL alone: what other versions and other programs would find."""
    with closing(sqlite3.connect(f"file:{run_dir / 'loop.db'}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute(f"SELECT * FROM {table} ORDER BY {ORDER[table]}")]
    for row in found:
        row |= {name: json.loads(row[name]) for name in JSON_COLUMNS & row.keys() if row[name] is not None}
    return found


def branch(
    key: str,
    point: int = 1,
    round_: int = 0,
    horizon: int = 100,
    phase: Phase = "full",
    arm: str = "control",
    seed: int = 0,
    exploration: Exploration = NO_EXPLORATION,
    **result: Any,
) -> BranchRecord:
    """A finished branch that took its horizon and 10 steps of evaluation."""
    job = BranchJob(
        key=key, fork="checkpoints/f", start="checkpoints/f", arm=arm, signal=Signal(), exploration=exploration,
        seed=seed, horizon=horizon, evaluation_seed=1, evaluation_episodes=1, end_state=f"branches/{key}",
    )  # fmt: skip
    values: dict[str, Any] = {
        "key": key, "arm": arm, "seed": seed, "horizon": horizon, "signal": Signal(), "final_return": 1.0,
        "success_rate": None, "fork_return": 1.0, "curve": [], "steps": horizon, "steps_evaluation": 10,
        "end_state": f"branches/{key}", "end_update": 1, "cpu_s": 0.1,
    }  # fmt: skip
    return BranchRecord(
        key=key, point=point, round=round_, phase=phase, arm=arm, seed=seed, horizon=horizon, job=job,
        result=BranchResult(**{**values, **result}),
    )  # fmt: skip


def failed_branch(
    key: str,
    point: int = 1,
    round_: int = 0,
    horizon: int = 100,
    phase: Phase = "screen",
    arm: str = "control",
    seed: int = 0,
    reason: str = "no licence",
    steps: int = 0,
) -> FailedBranchRecord:
    """A branch that could not be run."""
    row = branch(key, point, round_, horizon, phase, arm, seed).model_dump(exclude={"result"})
    return FailedBranchRecord.model_validate({**row, "reason": reason, "steps": steps})


def proposal(point: int = 1, round_: int = 0, position: int = 0, **changes: Any) -> ProposalRecord:
    offered = Proposal(title="t", reason="r", addresses=[Failure.PLATEAU], terms=[])
    record = ProposalRecord(
        id=proposal_id(point, round_, position), point=point, round=round_, position=position, proposal=offered,
        signal=Signal(),
    )  # fmt: skip
    return record.model_copy(update=changes)


def decision(
    key: str, point: int = 1, round_: int = 0, verdict: DecisionVerdict = "accept", **changes: Any
) -> DecisionRecord:
    record = DecisionRecord(
        id=key, point=point, round=round_, verdict=verdict, winner=None, adopted=None, version=None,
        detail=DecisionDetail(reason="", judgements=[], screened=[]), created_steps=0,
    )  # fmt: skip
    return record.model_copy(update=changes)


def call(key: str, **changes: Any) -> Call:
    values: dict[str, Any] = {
        "id": key, "role": "critic", "point": 1, "round": 0, "attempt": 0, "prompt_id": "critic/v1", "prompt_hash": "0",
        "messages": [], "provider": "rules", "model": "rules", "raw": "", "parsed": None, "outcome": "ok",
        "error": None, "input_tokens": None, "output_tokens": None, "latency_s": 0.0, "started": 1.0,
    }  # fmt: skip
    return Call.model_validate({**values, **changes})
