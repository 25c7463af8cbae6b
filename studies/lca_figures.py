"""The figures of the LCA study as PNG: mean and spread over seeds, on the paper's axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from .lca_arms import LcaArm, LcaTask
from .lca_curves import Curves

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
