"""`cosignal study lca`: the figures of LCA (Lin et al., arXiv 2502.03723) that need no hosted model.

| figure | what it compares |
|---|---|
| 3 | LCA, ranked by a task's heuristic, with MAPPO, QMIX, VDN and LIIR on the task's own rewards |
| 4 | LCA from several queries of synthetic accuracy |
| 5 | LCA from one and two queries (the paper's needs a model: this is a stand-in) |
| 6 | what single steps pay; and laws of the method (T-1 to T-3) |

The ranker is the task's heuristic, an oracle: nothing here says how well a language model ranks. Figures are drawn as
PNG, with mean and spread over seeds on the paper's axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError
from ..report import OUT, Row, Tell, finish_study, markdown_table
from .arms import FIGURES, FIRST_SEED, TASKS, LcaArm, LcaTask, arms_of, tasks_of
from .curves import Curves, run_curves
from .laws import law_rows
from .rollout import rollout_rows
from .statements import TaskCurves, measure_rows, rows_of

NAME = "lca"
COLUMNS = {
    "r": "R", "success": "success", "auc": "AUC", "half": "steps to half", "fresh": "100 fresh episodes",
    "agreement": "agreement",
}  # fmt: skip
POINTS = 200  # of a drawn curve


def run_lca(
    seeds: int,
    tell: Tell,
    first_seed: int = FIRST_SEED,
    figures: Sequence[int] = (),
    tasks: Sequence[str] = (),
) -> dict[str, Any]:
    """Make figures; rows have the ids of `statements`.

    PNG figures, `result.json` and `table.md` are written to `studies_out/lca/`.

    Args:
        seeds: how many.
        tell: is given lines of progress.
        first_seed: the first of them.
        figures: some of FIGURES, all where empty.
        tasks: some of TASKS, all where empty.

    Raises:
        ConfigError: a figure or task does not exist, or matplotlib is missing.
    """
    for figure in figures:
        if figure not in FIGURES:
            raise ConfigError(
                f"--figure: must be one of {', '.join(map(str, FIGURES))}, got {figure!r}; leave it out for all"
            )
    for task in tasks:
        if task not in TASKS:
            raise ConfigError(f"--task: must be one of {', '.join(TASKS)}, got {task!r}; leave it out for all")
    pyplot()  # where it is missing, that is said now and not after an hour
    numbers = range(first_seed, first_seed + seeds)
    rows, tables, drawn = list[Row](), list[str](), list[str]()
    for figure in figures or FIGURES:
        if figure == 6:
            new_rows, table, files = make_figure_6(tasks, numbers, tell)
        else:
            new_rows, table, files = make_curves(figure, tasks, numbers, tell)
        rows, tables, drawn = rows + new_rows, [*tables, table], drawn + files
    options = [f"--figure {figure}" for figure in figures] + [f"--task {task}" for task in tasks]
    result = finish_study(NAME, seeds, (), rows, "\n\n".join(tables), {"figures": drawn}, tell, first_seed, options)
    for file in drawn:
        tell(f"wrote {file}")
    return result


def make_curves(
    figure: int, tasks: Sequence[str], seeds: Sequence[int], tell: Tell
) -> tuple[list[Row], str, list[str]]:
    """Train the arms of figure 3, 4 or 5 and draw them; return rows, tables and the names of the drawings."""
    results, measured, tables, drawn = list[TaskCurves](), list[Row](), list[str](), list[str]()
    for task in tasks_of(tasks):
        arms = arms_of(figure, task)
        curves = run_curves(task, arms, seeds, tell)
        path = OUT / NAME / f"figure{figure}_{task.name}.png"
        draw_curves(task, figure, [arm for arm in arms if arm.drawn], curves, path)
        drawn.append(str(path))
        results.append(TaskCurves(task, curves))
        rows = measure_rows(results[-1])
        tables.append(f"**Figure {figure}, {task.title}**\n\n" + markdown_table(rows, COLUMNS))
        # arms of several tasks and figures are in one result
        for row in rows:
            row["id"] = f"{task.name}.{figure}.{row['id']}"
        measured += rows
    statements = rows_of(figure, results)
    return statements + measured, "\n\n".join([statements_table(statements), *tables]), drawn


def make_figure_6(tasks: Sequence[str], seeds: Sequence[int], tell: Tell) -> tuple[list[Row], str, list[str]]:
    """Check the laws of the method, and draw what single steps pay; return rows, table and the names of drawings."""
    rows, drawn = law_rows(seeds), list[str]()
    if not tasks or "victim_rubble" in tasks:
        step_rows, steps = rollout_rows(seeds, tell)
        path = OUT / NAME / "figure6_victim_rubble.png"
        draw_rollout(steps, path)
        rows, drawn = step_rows + rows, [str(path)]
    return rows, statements_table(rows), drawn


def statements_table(rows: Sequence[Row]) -> str:
    """Return the statements as Markdown, with their parts."""
    lines = ["| id | statement | verdict | seeds | parts |", "|---|---|---|---|---|"]
    for row in rows:
        parts = "; ".join(
            f"{part['what']}: {part['mean']:.2f} [{part['ci95'][0]:.2f}, {part['ci95'][1]:.2f}], {part['level']}"
            for part in row["parts"]
        )
        lines.append(f"| {row['id']} | {row['statement']} | **{row['verdict']}** | {row['seeds']} | {parts or '–'} |")
    return "\n".join(lines)


# ---------------------------------------------------------------- drawings


def draw_curves(task: LcaTask, figure: int, arms: Sequence[LcaArm], curves: Curves, path: Path) -> None:
    """Draw a line for each arm, with the standard deviation over seeds around it."""
    plt = pyplot()
    steps = np.linspace(0, task.steps, POINTS)
    drawing, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    for number, arm in enumerate(arms):
        values = np.stack([curve.at(steps) for curve in curves[arm.name]])
        mean, sd = values.mean(0), values.std(0)
        # a curve begins where all seeds have a full window
        begin = max(curve.steps[0] for curve in curves[arm.name])
        seen, colour = steps >= begin, f"C{number % 10}"
        style = "-" if number < 10 else "--"
        axes.plot(steps[seen], mean[seen], style, color=colour, label=arm.label, linewidth=1.6)
        axes.fill_between(steps[seen], (mean - sd)[seen], (mean + sd)[seen], color=colour, alpha=0.12, linewidth=0)
    axes.axhline(task.optimum, color="0.4", linewidth=0.8, linestyle=":", label="optimum")
    axes.set(xlim=(0, task.steps), ylim=task.axis, xlabel="environment steps", ylabel="return")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=6)
    seeds = len(next(iter(curves.values())))
    axes.set_title(f"{task.title}, figure {figure}: mean and standard deviation of {seeds} seeds", fontsize=10)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    _save(drawing, path)


def draw_rollout(rewards: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw figure 6: what each step of one episode pays, a row of bars for each kind of reward."""
    plt = pyplot()
    drawing, rows = plt.subplots(len(rewards), 1, figsize=(7.2, 1.7 * len(rewards)), layout="constrained", sharex=True)
    for axes, (label, values) in zip(rows, rewards.items(), strict=True):
        steps = np.arange(1, len(values) + 1)
        colours = ["C0" if value >= 0 else "C3" for value in values]
        axes.bar(steps, values, color=colours, width=0.8)
        axes.axhline(0, color="0.3", linewidth=0.6)
        axes.set_ylabel(label, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xlabel("step of the episode")
    _save(drawing, path)


def pyplot() -> Any:
    """Return matplotlib's `pyplot`, drawing to files.

    Raises:
        ConfigError: it is not installed (extra `studies`).
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ConfigError(
            "the figures of this study need matplotlib, it is not installed; pip install 'cosignal[studies]'"
        ) from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(drawing: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=130)
    pyplot().close(drawing)
