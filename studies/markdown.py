"""A study's rows as Markdown, the way `docs/results.md` holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = {
    "solved": "share solved",
    "main_to_90": "main steps to 90 %",
    "total_to_90": "total steps to 90 %",
    "final_return": "final sparse return",
    "steps_total": "total steps of a run",
}


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] = COLUMNS, first: str = "arm") -> str:
    """One line an arm, mean [95 % interval] in each cell; below it the rows without an arm, with their verdicts.

    A row's id is `ARM.COLUMN`, or a name without a dot. Steps to 90 % count an unsolved seed at its end; `c` says of
    how many that is so. A cell without a row is a dash.
    """
    by_arm: dict[str, dict[str, Mapping[str, Any]]] = {}
    alone = []
    for row in rows:
        arm, _, field = row["id"].partition(".")
        if field:
            by_arm.setdefault(arm, {})[field] = row
        else:
            alone.append(row)
    lines = [_line([first, *columns.values()]), _line(["---"] * (1 + len(columns)))]
    lines += [_line([arm, *(_cell(cells.get(field)) for field in columns)]) for arm, cells in by_arm.items()]
    for row in alone:
        lines += ["", f"{row['id']}, {row['statement']}: **{row['verdict']}**, {_cell(row)}, n = {row['seeds']}."]
    return "\n".join(lines)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    low, high = row["ci95"]
    censored = f" c{row['censored']}" if row.get("censored") else ""
    return f"{_short(row['mean'])} [{_short(low)}, {_short(high)}]{censored}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _short(value: float) -> str:
    return f"{value / 1000:,.0f}k" if abs(value) >= 1000 else f"{value:.2f}"
