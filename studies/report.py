"""The result of a study: rows of measured things, as JSON and as a Markdown table under `studies_out/NAME/`.

`docs/results.md` holds such tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ..config.run_config import RunConfig
from ..errors import ConfigError
from ..files import write_whole
from .job_cache import commit
from .outcome import Interval

OUT = Path("studies_out")
STEPS = 1_500_000  # main steps of a run of the example: all figures of docs/results.md are of that length
# Columns of a table where a study names no others: field of a row's id → heading.
COLUMNS = {
    "solved": "share solved",
    "main_to_90": "main steps to 90 %",
    "total_to_90": "total steps to 90 %",
    "final_return": "final sparse return",
    "steps_total": "total steps of a run",
}

Tell = Callable[[str], None]  # is given a line of progress, or the table at the end


class PartRow(TypedDict):
    """One number of a statement that has several (study lca)."""

    what: str
    mean: float
    ci95: list[float]
    level: str


class Row(TypedDict):
    """One measured thing; numbers are rounded to four decimals. `id` is `ARM.FIELD`, or a name without a dot."""

    id: str
    statement: str
    verdict: str
    seeds: int  # how many seeds, trials or interventions it is about
    mean: float | None  # None where nothing was run
    ci95: list[float] | None  # [low, high]
    censored: NotRequired[int]  # seeds that are counted at their end
    median: NotRequired[float | None]
    reused: NotRequired[int]  # seeds whose run is that of another arm
    exact_zeros: NotRequired[int]  # seeds without any difference
    whose: NotRequired[dict[str, int]]  # whose idea was accepted: how often
    parts: NotRequired[list[PartRow]]


def example_config(seed: int = 1) -> RunConfig:
    """Return the shipped Two-Switch example for studies.

    It differs in its length, has one branch worker, since two jobs run at a time, and judges signals: a study of races
    says so itself.
    """
    config = RunConfig.load(Path(str(resources.files("cosignal"))) / "examples" / "two_switch.yaml")
    branches = config.branches.model_copy(update={"workers": 1})
    trainer = config.trainer.model_copy(update={"steps": STEPS})
    gate = config.gate.model_copy(update={"claim": "signal"})
    return config.model_copy(update={"seed": seed, "branches": branches, "trainer": trainer, "gate": gate})


def known_arms(arms: Sequence[str], known: Sequence[str], usual: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the arms that were asked for, `usual` (else all) where none was.

    Raises:
        ConfigError: an arm is not `known`.
    """
    for arm in arms:
        if arm not in known:
            raise ConfigError(f"--arm: must be one of {', '.join(known)}, got {arm!r}; leave it out for the usual ones")
    return tuple(arms) or tuple(usual or known)


def result_row(name: str, statement: str, seeds: int, mean: float, ci95: Interval, verdict: str = "measured") -> Row:
    """Return the row of one measured thing; see `Row` for the arguments."""
    return {
        "id": name, "statement": statement, "verdict": verdict, "seeds": seeds,
        "mean": round(float(mean), 4), "ci95": [round(float(x), 4) for x in ci95],
    }  # fmt: skip


def finish_study(
    name: str,
    seeds: int,
    arms: Sequence[str],
    rows: Sequence[Row],
    table: str,
    extra: Mapping[str, Any],
    tell: Tell,
    first_seed: int = 1,
    options: Sequence[str] = (),
    part: str = "",
) -> dict[str, Any]:
    """Write `studies_out/NAME/PART/result.json` and `table.md`, and return the result as plain data.

    Args:
        name: the study's.
        seeds: how many seeds (or trials) were asked for.
        arms: the arms that were asked for, empty for the usual ones.
        rows: what was measured.
        table: the rows in Markdown; `tell` is given it at the end.
        extra: further keys of the result.
        tell: is given lines.
        first_seed: the first of the seeds.
        options: options of the command besides those that every study has.
        part: of the study, where it has several results.
    """
    # the command that gives this result again
    first = [f"--first-seed {first_seed}"] if first_seed != 1 else []
    by_arm = [f"--arm {arm}" for arm in arms]
    command = " ".join([f"cosignal study {name}", *options, f"--seeds {seeds}", *first, *by_arm, "--json"])
    result: dict[str, Any] = {"name": name, "command": command, "commit": commit(), "rows": list(rows), **extra}
    folder = OUT / name / part
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "result.json", json.dumps(result, indent=1))
    write_whole(folder / "table.md", table + "\n")
    tell(table)
    return result


# ---------------------------------------------------------------- Markdown


def markdown_table(rows: Sequence[Row], columns: Mapping[str, str] = COLUMNS, first: str = "arm") -> str:
    """Return a line for each arm with mean [95 % interval] in each cell, and below it the rows without an arm.

    Steps to 90 % count an unsolved seed at its end; `c` says for how many seeds that is so. A cell without a row is a
    dash.

    Args:
        rows: what was measured.
        columns: field of a row's id → heading.
        first: heading of the column of arms.
    """
    # cells by arm and field; rows without a field are statements
    by_arm: dict[str, dict[str, Row]] = {}
    statements = []
    for row in rows:
        arm, _, field = row["id"].partition(".")
        if field:
            by_arm.setdefault(arm, {})[field] = row
        else:
            statements.append(row)
    table = [[first, *columns.values()], ["---"] * (1 + len(columns))]
    table += [[arm, *(_cell(cells.get(field)) for field in columns)] for arm, cells in by_arm.items()]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    for row in statements:
        lines += ["", f"{row['id']}, {row['statement']}: **{row['verdict']}**, {_cell(row)}, n = {row['seeds']}."]
    return "\n".join(lines)


def _cell(row: Row | None) -> str:
    if row is None or row["mean"] is None or row["ci95"] is None:
        return "–"
    mean, low, high = (
        f"{value / 1000:,.0f}k" if abs(value) >= 1000 else f"{value:.2f}" for value in (row["mean"], *row["ci95"])
    )
    censored = f" c{row['censored']}" if row.get("censored") else ""
    return f"{mean} [{low}, {high}]{censored}"
