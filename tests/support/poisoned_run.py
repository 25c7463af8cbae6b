"""A made-up run in whose every text markup stands, for tests that it stays text."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from cosignal.agents.replay_results import Rebuilt, Replay, ReplayedArm, Side, Validation
from cosignal.testing import build_run_directory
from replays import raced_replay

PROBE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>'\"><b>"


def poisoned(folder: Path) -> Path:
    """A made-up run in whose every text, those that models give and all others, the probe stands."""
    path = build_run_directory(folder / "bad")
    with closing(sqlite3.connect(path / "loop.db")) as database, database:
        for table in ("calls", "diagnoses", "proposals", "decisions", "visits"):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            rows = database.execute(f"SELECT rowid, * FROM {table}").fetchall()
            for number, *values in rows:
                for column, value in zip(columns, values, strict=True):
                    if isinstance(value, str) and column not in KEPT:
                        database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (_bad(value), number))
    (path / "replays").mkdir()
    (path / "replays" / f"{REPLAY}.json").write_text(_replay().model_dump_json())
    (path / "replays" / f"{RACED_REPLAY}.json").write_text(raced_replay(PROBE, PROBE).model_dump_json())
    (path / "replays" / f"{FAILED}.failed").write_text(PROBE)
    return path


REPLAY, FAILED, RACED_REPLAY = "p80-r0-critic-1-a0-x", "p80-r0-critic-1-a0-y", "p80-r0-generator-1-a0-z"


def _replay() -> Replay:
    """What another model might have answered to one of its questions, and branches said of it."""
    side = Side(
        provider=PROBE, model=PROBE, prompt_id=PROBE, prompt_hash=PROBE, outcome="invalid", valid=False, answer=None,
        raw=PROBE, error=PROBE, attempts=1, repairs=0, tool_calls=0, input_tokens=1, output_tokens=1, cost_usd=None,
        latency_s=1.0,
    )  # fmt: skip
    arm = ReplayedArm(id=PROBE, title=PROBE, problems=[PROBE], notes=[PROBE], verdict=PROBE, explanation=PROBE)
    tried = Validation(
        snapshot=PROBE, verdict=PROBE, winner=PROBE, reason=PROBE, recorded=PROBE, horizon=1, arms=[arm], branches=1,
        reused=0, steps=1, steps_evaluation=1,
    )  # fmt: skip
    return Replay(
        call=PROBE, role="critic", point=1, round=0, prompt=PROBE, rebuilt=Rebuilt(same=False, note=PROBE), before=side,
        after=side, same_answer=False, difference=[f"+{PROBE}"], validation=tried,
    )  # fmt: skip


# names that the pages go by, and words that the reader's own code chooses among
KEPT = {"id", "role", "task_id", "node", "phase", "arm", "key", "verdict", "winner", "outcome", "structured", "status",
        "adopted"}  # fmt: skip
KEPT_KEYS = {"kind", "arm", "verdict", "version", "stage", "agents", "expression", "event", "name", "failure",
             "addresses"}  # fmt: skip
SHORT = {"title", "cites"}  # texts of bounded length, which the probe takes the place of


def _bad(text: str) -> str:
    try:
        data = json.loads(text)
    except ValueError:
        return text + PROBE
    return json.dumps(_worse(data))


def _worse(data: Any, short: bool = False) -> Any:
    if isinstance(data, dict):
        return {key: value if key in KEPT_KEYS else _worse(value, key in SHORT) for key, value in data.items()}
    if isinstance(data, list):
        return [_worse(item, short) for item in data]
    return PROBE if short and isinstance(data, str) else data + PROBE if isinstance(data, str) else data
