"""`cosignal study lca`: the figures of LCA (Lin et al., arXiv 2502.03723) that need no hosted model.

| figure | what it compares |
|---|---|
| 3 | LCA, ranked by a task's heuristic, with MAPPO, QMIX, VDN and LIIR on the task's own rewards |
| 4 | LCA from several queries of synthetic accuracy |
| 5 | LCA from one and two queries (the paper's needs a model: this is a stand-in) |
| 6 | what single steps pay; and laws of the method (T-1 to T-3) |

The ranker is the task's heuristic, an oracle: nothing here says how well a language model ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ConfigError
from .lca_arms import FIGURES, FIRST_SEED, TASKS, arms_of, tasks_of
from .lca_curves import run_curves
from .lca_figures import draw_curves, draw_rollout, pyplot
from .lca_laws import law_rows
from .lca_rollout import rollout_rows
from .lca_rows import Found, measures, rows_of
from .markdown import table
from .results import OUT, Row, finished

NAME = "lca"
COLUMNS = {
    "r": "R", "success": "success", "auc": "AUC", "half": "steps to half", "fresh": "100 fresh episodes",
    "agreement": "agreement",
}  # fmt: skip


def run_lca(
    seeds: int,
    tell: Callable[[str], None],
    first_seed: int = FIRST_SEED,
    figures: Sequence[int] = (),
    tasks: Sequence[str] = (),
) -> dict[str, Any]:
    """The figures asked for, all where none is; `tasks` likewise. Rows have the ids of the specification.

    PNG figures, `result.json` and `table.md` are written to `studies_out/lca/`. Raises ConfigError for what does not
    exist, or where matplotlib is missing.
    """
    _check(figures, tasks)
    pyplot()  # where it is missing, that is said now and not after an hour
    numbers = range(first_seed, first_seed + seeds)
    rows, tables, drawn = list[Row](), list[str](), list[str]()
    for figure in figures or FIGURES:
        made, text, files = (_methods if figure == 6 else _curves)(figure, tasks, numbers, tell)
        rows, tables, drawn = rows + made, [*tables, text], drawn + files
    words = [f"--figure {figure}" for figure in figures] + [f"--task {task}" for task in tasks]
    result = finished(NAME, seeds, (), rows, "\n\n".join(tables), {"figures": drawn}, tell, first_seed, words)
    for file in drawn:
        tell(f"wrote {file}")
    return result


def _check(figures: Sequence[int], tasks: Sequence[str]) -> None:
    for figure in figures:
        if figure not in FIGURES:
            raise ConfigError(
                f"--figure: must be one of {', '.join(map(str, FIGURES))}, got {figure!r}; leave it out for all"
            )
    for task in tasks:
        if task not in TASKS:
            raise ConfigError(f"--task: must be one of {', '.join(TASKS)}, got {task!r}; leave it out for all")


def _curves(
    figure: int, tasks: Sequence[str], seeds: Sequence[int], tell: Callable[[str], None]
) -> tuple[list[Row], str, list[str]]:
    found, rows, texts, drawn = list[Found](), list[Row](), list[str](), list[str]()
    for task in tasks_of(tasks):
        arms = arms_of(figure, task)
        curves = run_curves(task, arms, seeds, tell)
        path = OUT / NAME / f"figure{figure}_{task.name}.png"
        draw_curves(task, figure, [arm for arm in arms if arm.drawn], curves, path)
        found.append(Found(task, curves))
        measured = measures(found[-1])
        texts.append(f"**Figure {figure}, {task.title}**\n\n" + table(measured, COLUMNS))
        rows += [{**row, "id": f"{task.name}.{figure}.{row['id']}"} for row in measured]
        drawn.append(str(path))
    judged = rows_of(figure, found)
    return judged + rows, "\n\n".join([verdicts(judged), *texts]), drawn


def _methods(
    _figure: int, tasks: Sequence[str], seeds: Sequence[int], tell: Callable[[str], None]
) -> tuple[list[Row], str, list[str]]:
    rows, drawn = law_rows(seeds), list[str]()
    if not tasks or "victim_rubble" in tasks:
        made, steps = rollout_rows(seeds, tell)
        path = OUT / NAME / "figure6_victim_rubble.png"
        draw_rollout(steps, path)
        rows, drawn = made + rows, [str(path)]
    return rows, verdicts(rows), drawn


def verdicts(rows: Sequence[Row]) -> str:
    """The statements as Markdown, with their parts."""
    lines = ["| id | statement | verdict | seeds | parts |", "|---|---|---|---|---|"]
    for row in rows:
        parts = "; ".join(
            f"{part['what']}: {part['mean']:.2f} [{part['ci95'][0]:.2f}, {part['ci95'][1]:.2f}], {part['level']}"
            for part in row["parts"]
        )
        lines.append(f"| {row['id']} | {row['statement']} | **{row['verdict']}** | {row['seeds']} | {parts or '–'} |")
    return "\n".join(lines)
