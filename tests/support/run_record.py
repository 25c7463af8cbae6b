"""Everything that a run has written to its databases and that must not differ between two equal runs: no times.

Read with SQL alone, so that it also reads run directories of other versions.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

ORDER = {
    "loop.db": {
        "calls": "id",
        "diagnoses": "point",
        "proposals": "id",
        "branches": "key",
        "rankings": "point",
        "fits": "id",
        "decisions": "id",
    },
    "trainer.db": {"metrics": "update_index", "signals": "version", "counters": "name"},
}
TIMES = {"latency_s", "started", "cpu_s", "wall_s", "update_s", "env_steps_per_s"}
COUNTERS = {"steps_main", "steps_evaluation", "steps_trained", "episodes_lost"}  # `steps_repeated` tells of kills


def run_record(run_dir: Path) -> dict[str, Any]:
    """Read every table of the run's two databases, JSON columns decoded, times left out."""
    record: dict[str, Any] = {}
    for name, tables in ORDER.items():
        with closing(sqlite3.connect(f"file:{run_dir / name}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            for table, key in tables.items():
                rows = [dict(row) for row in database.execute(f"SELECT * FROM {table} ORDER BY {key}")]
                record[table] = [_without_times({k: _decoded(v) for k, v in row.items()}) for row in rows]
    record["counters"] = [row for row in record["counters"] if row["name"] in COUNTERS]
    return record


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value
