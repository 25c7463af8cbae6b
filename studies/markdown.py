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


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line an arm, mean [95 % interval] in each cell; below it the comparisons with their verdicts.

    Steps to 90 % count an unsolved seed at its end; `c` says of how many that is so.
    """
    by_arm: dict[str, dict[str, Mapping[str, Any]]] = {}
    comparisons = []
    for row in rows:
        arm, _, field = row["id"].partition(".")
        if field:
            by_arm.setdefault(arm, {})[field] = row
        else:
            comparisons.append(row)
    lines = [_line(["arm", *COLUMNS.values()]), _line(["---"] * (1 + len(COLUMNS)))]
    lines += [_line([arm, *(_cell(cells[field]) for field in COLUMNS)]) for arm, cells in by_arm.items()]
    for row in comparisons:
        lines += ["", f"{row['id']}, {row['statement']}: **{row['verdict']}**, {_cell(row)}, {row['seeds']} seeds."]
    return "\n".join(lines)


def _cell(row: Mapping[str, Any]) -> str:
    low, high = row["ci95"]
    censored = f" c{row['censored']}" if row.get("censored") else ""
    return f"{_short(row['mean'])} [{_short(low)}, {_short(high)}]{censored}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _short(value: float) -> str:
    return f"{value / 1000:,.0f}k" if abs(value) >= 1000 else f"{value:.2f}"
