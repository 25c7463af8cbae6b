"""A study's rows as Markdown, the way `docs/results.md` holds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..config.run_config import RunConfig
from ..errors import ConfigError
from .job_cache import commit, write_whole

# ---------------------------------------------------------------- MERGED studies.markdown

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


# ---------------------------------------------------------------- MERGED studies.results
# DOC """What every study gives back: rows, written beside a Markdown table under `studies_out/NAME/`."""

OUT = Path("studies_out")
Tell = Callable[[str], None]
Row = dict[str, Any]
Interval = tuple[float, float]


def example_config(seed: int = 1) -> RunConfig:
    """The shipped Two-Switch example, with one branch worker, since two runs go on beside each other."""
    config = RunConfig.load(Path(str(resources.files("cosignal"))) / "examples" / "two_switch.yaml")
    branches = config.branches.model_copy(update={"workers": 1})
    return config.model_copy(update={"seed": seed, "branches": branches})


def known_arms(arms: Sequence[str], known: Sequence[str], usual: Sequence[str] | None = None) -> tuple[str, ...]:
    """The arms that were asked for, `usual` where none was. Raises ConfigError for an unknown one."""
    for arm in arms:
        if arm not in known:
            raise ConfigError(f"--arm: must be one of {', '.join(known)}, got {arm!r}; leave it out for the usual ones")
    return tuple(arms) or tuple(usual or known)


def row(name: str, statement: str, seeds: int, mean: float, interval: Interval, verdict: str = "measured") -> Row:
    """One measured thing. `seeds`: how many seeds, trials or interventions it is about."""
    return {
        "id": name, "statement": statement, "verdict": verdict, "seeds": seeds,
        "mean": round(float(mean), 4), "ci95": [round(float(x), 4) for x in interval],
    }  # fmt: skip


def finished(
    name: str,
    seeds: int,
    arms: Sequence[str],
    rows: Sequence[Row],
    table: str,
    more: Mapping[str, Any],
    tell: Tell,
    first_seed: int = 1,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """The study's result as plain data, also written to `studies_out/NAME/result.json` and `table.md`. `options`: of
    its command, besides those that every study has."""
    first = [f"--first-seed {first_seed}"] if first_seed != 1 else []
    words = [
        f"cosignal study {name}",
        *options,
        f"--seeds {seeds}",
        *first,
        *(f"--arm {arm}" for arm in arms),
        "--json",
    ]
    result: dict[str, Any] = {
        "name": name, "command": " ".join(words), "commit": commit(), "rows": list(rows), **more
    }  # fmt: skip
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "result.json", json.dumps(result, indent=1))
    write_whole(folder / "table.md", table + "\n")
    tell(table)
    return result
