"""Small inline SVG charts of branches: numbers in, one SVG string out. Their colours come from the page's CSS.

A number that is not finite has no place on an axis, and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

Point = tuple[float, float]  # (environment steps since the fork, sparse return)

# Lengths are in pixels.
WIDTH, HEIGHT = 340, 170
LEFT, RIGHT, TOP, BOTTOM = 40, 18, 10, 26
ROW = 30
LARGEST = 1e300  # of the values of an axis, whose differences must be numbers too
NAMES = 110  # width of the names of a dot chart


class Branch(NamedTuple):
    """One seed's branch: the `curve` of its training episodes, and at its `end` the evaluation at the horizon."""

    curve: Sequence[Point]
    end: Point


class Arm(NamedTuple):
    """One row of a dot chart: the final return of each seed. `kind` is a CSS class: control, candidate or winner."""

    name: str
    finals: Sequence[float]
    kind: str


class Scale(NamedTuple):
    """A linear map from values in [low, high] to pixels in [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)


# ---------------------------------------------------------------- the charts


def curves(control: Sequence[Branch], candidate: Sequence[Branch], values: tuple[float, float], label: str) -> str:
    """Draw sparse return over steps since the fork: a thin line per seed, and a dot for its evaluation at the end.

    Args:
        control: branches of the control, drawn dashed.
        candidate: branches of the candidate.
        values: the lowest and highest return of the vertical axis.
        label: what a screen reader says of the chart.
    """
    last = max((branch.end[0] for branch in (*control, *candidate)), default=1.0)
    x = Scale(0, last, LEFT, WIDTH - RIGHT)
    y = Scale(*values, HEIGHT - BOTTOM, TOP)

    # Axes: horizontal lines with their values on the left, and the steps below.
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="tick y" x="{LEFT - 6}" y="{y(t) + 4:.1f}">{t:g}</text>'
        for t in ticks(*values)
    )
    parts = [grid, *(_label_x(x(t), HEIGHT - 8, short(t)) for t in ticks(0, last, 3))]

    # The candidate is drawn last, so that it lies above the control.
    for kind, branches in (("control", control), ("candidate", candidate)):
        for branch in branches:
            points = " ".join(f"{x(t):.1f},{y(value):.1f}" for t, value in branch.curve if math.isfinite(value))
            end = ""
            if math.isfinite(branch.end[1]):
                end = f'<circle cx="{x(branch.end[0]):.1f}" cy="{y(branch.end[1]):.1f}" r="3.5"/>'
            parts.append(f'<g class="{kind}"><polyline class="{kind}" points="{points}"/>{end}</g>')
    return _svg(WIDTH, HEIGHT, parts, label)


def dots(arms: Sequence[Arm], values: tuple[float, float], label: str, width: int = 560) -> str:
    """Draw a row per arm with a dot per seed and a bar at the mean, so that bimodal outcomes stay visible.

    Args:
        arms: the rows, from top to bottom.
        values: the lowest and highest return of the horizontal axis.
        label: what a screen reader says of the chart.
        width: of the chart in pixels.
    """
    height = ROW * len(arms) + BOTTOM
    low, high = values
    x = Scale(low, high, NAMES, width - RIGHT)

    # Axis: vertical lines with their values below.
    parts = [
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="0" y2="{height - BOTTOM}"/>' for t in ticks(low, high)
    ]
    parts += [_label_x(x(t), height - 8, f"{t:g}") for t in ticks(low, high)]

    # Rows: the arm's name, its dots, and the bar at their mean.
    for number, arm in enumerate(arms):
        y, finals = ROW * (number + 0.5), [value for value in arm.finals if math.isfinite(value)]
        name = f'<text class="name" x="{x.start - 12:.0f}" y="{y + 4:.1f}">{escape(arm.name)}</text>'
        marks = "".join(
            f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="5"><title>{value:.3f}</title></circle>' for value in finals
        )
        if finals:
            mean = sum(finals) / len(finals)
            line = f'x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="{y - 10:.1f}" y2="{y + 10:.1f}"'
            marks += f'<line class="mean" {line}><title>mean {mean:.3f}</title></line>'
        parts.append(f'<g class="{arm.kind}">{name}{marks}</g>')
    return _svg(width, height, parts, label, "dots")


# ---------------------------------------------------------------- axes


def padded(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of the finite values with 6 % more at both ends; (0, 1) when there are none."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return (0.0, 1.0)
    low, high = max(min(values), -LARGEST), min(max(values), LARGEST)
    air = 0.06 * (high - low) or 0.5
    return (low - air, high + air)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return about `about` round numbers inside the range: multiples of 1, 2 or 5 times a power of ten."""
    # The step is the first round number that is not below the exact one.
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= raw)
    first = math.ceil(low / step)
    return [round(n * step, 10) for n in range(first, math.floor(high / step) + 1)]


def short(steps: float) -> str:
    """Write a number of steps in a few letters: 950, 20k, 1.25M."""
    if abs(steps) >= 1_000_000:
        return f"{steps / 1_000_000:.3g}M"
    return f"{steps / 1000:.3g}k" if abs(steps) >= 1000 else f"{steps:.0f}"


def _label_x(x: float, y: float, text: str) -> str:
    return f'<text class="tick x" x="{x:.1f}" y="{y:.1f}">{text}</text>'


def _svg(width: float, height: float, parts: Sequence[str], label: str, kind: str = "curves") -> str:
    return (
        f'<svg class="chart {kind}" role="img" aria-label="{escape(label)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
