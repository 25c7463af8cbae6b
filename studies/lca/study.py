"""The figures of the LCA study as PNG: mean and spread over seeds, on the paper's axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError
from ..report import OUT, Row, finished, table
from .arms import FIGURES, FIRST_SEED, TASKS, LcaArm, LcaTask, arms_of, tasks_of
from .curves import Curves, run_curves
from .laws import law_rows
from .rollout import rollout_rows
from .statements import Found, measures, rows_of

# ---------------------------------------------------------------- MERGED studies.lca_figures

POINTS = 200


def draw_curves(task: LcaTask, figure: int, arms: Sequence[LcaArm], curves: Curves, path: Path) -> None:
    """One line an arm, with the standard deviation over seeds around it."""
    plt = pyplot()
    steps = np.linspace(0, task.steps, POINTS)
    drawing, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    for number, arm in enumerate(arms):
        values = np.stack([curve.at(steps) for curve in curves[arm.name]])
        mean, sd = values.mean(0), values.std(0)
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
    """Figure 6: what each step of one episode pays; one row a kind of reward."""
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
    """matplotlib's, drawing to files. Raises ConfigError where it is not installed (extra `studies`)."""
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


# ---------------------------------------------------------------- MERGED studies.lca
# DOC """`cosignal study lca`: the figures of LCA (Lin et al., arXiv 2502.03723) that need no hosted model.
# DOC
# DOC | figure | what it compares |
# DOC |---|---|
# DOC | 3 | LCA, ranked by a task's heuristic, with MAPPO, QMIX, VDN and LIIR on the task's own rewards |
# DOC | 4 | LCA from several queries of synthetic accuracy |
# DOC | 5 | LCA from one and two queries (the paper's needs a model: this is a stand-in) |
# DOC | 6 | what single steps pay; and laws of the method (T-1 to T-3) |
# DOC
# DOC The ranker is the task's heuristic, an oracle: nothing here says how well a language model ranks.
# DOC """

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
