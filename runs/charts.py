"""Small inline SVG charts of branches: numbers in, one SVG string out. Colours come from the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

Point = tuple[float, float]  # (steps since the fork, sparse return)

WIDTH, HEIGHT = 340, 170
LEFT, RIGHT, TOP, BOTTOM = 40, 18, 10, 26
ROW = 30


class Scale(NamedTuple):
    """A linear map from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)


class Arm(NamedTuple):
    """One row of a dot chart: what each seed ended with."""

    name: str
    finals: Sequence[float]
    kind: str  # CSS class: control or candidate


def padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with some air around it; (0, 1) when there are none."""
    if not values:
        return (0.0, 1.0)
    low, high = min(values), max(values)
    air = 0.06 * (high - low) or 0.5
    return (low - air, high + air)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers inside the range, some `about` of them."""
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= raw)
    first = math.ceil(low / step)
    return [round(n * step, 10) for n in range(first, math.floor(high / step) + 1)]


def short(steps: float) -> str:
    """Steps for people: 950, 20k, 1.25M."""
    if abs(steps) >= 1_000_000:
        return f"{steps / 1_000_000:.3g}M"
    return f"{steps / 1000:.3g}k" if abs(steps) >= 1000 else f"{steps:.0f}"


class Branch(NamedTuple):
    """One seed's branch: `curve` of training episodes, `end` the evaluation at its horizon."""

    curve: Sequence[Point]
    end: Point


def curves(control: Sequence[Branch], candidate: Sequence[Branch], values: tuple[float, float], label: str) -> str:
    """Sparse return over steps since the fork: one thin line a seed and a dot for its evaluation at the end."""
    last = max((branch.end[0] for branch in (*control, *candidate)), default=1.0)
    x = Scale(0, last, LEFT, WIDTH - RIGHT)
    y = Scale(*values, HEIGHT - BOTTOM, TOP)
    body = [_grid_y(y, WIDTH - RIGHT), *(_label_x(x(t), HEIGHT - 8, short(t)) for t in ticks(0, last, 3))]
    body += [_branch(branch, x, y, "control") for branch in control]
    body += [_branch(branch, x, y, "candidate") for branch in candidate]
    return _svg(WIDTH, HEIGHT, body, label)


def dots(arms: Sequence[Arm], values: tuple[float, float], label: str, width: int = 560) -> str:
    """One row an arm, one dot a seed, a bar at the mean: bimodal outcomes stay visible."""
    names = 110
    height = ROW * len(arms) + BOTTOM
    low, high = values
    x = Scale(low, high, names, width - RIGHT)
    lines = [
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="0" y2="{height - BOTTOM}"/>' for t in ticks(low, high)
    ]
    labels = [_label_x(x(t), height - 8, f"{t:g}") for t in ticks(low, high)]
    rows = [_dot_row(arm, x, ROW * (number + 0.5)) for number, arm in enumerate(arms)]
    return _svg(width, height, [*lines, *labels, *rows], label, "dots")


def _dot_row(arm: Arm, x: Scale, y: float) -> str:
    name = f'<text class="name" x="{x.start - 12:.0f}" y="{y + 4:.1f}">{escape(arm.name)}</text>'
    marks = "".join(
        f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="5"><title>{value:.3f}</title></circle>' for value in arm.finals
    )
    if arm.finals:
        mean = sum(arm.finals) / len(arm.finals)
        at = f'x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="{y - 10:.1f}" y2="{y + 10:.1f}"'
        marks += f'<line class="mean" {at}><title>mean {mean:.3f}</title></line>'
    return f'<g class="{arm.kind}">{name}{marks}</g>'


def _branch(branch: Branch, x: Scale, y: Scale, kind: str) -> str:
    points = " ".join(f"{x(t):.1f},{y(value):.1f}" for t, value in branch.curve)
    end = f'<circle cx="{x(branch.end[0]):.1f}" cy="{y(branch.end[1]):.1f}" r="3.5"/>'
    return f'<g class="{kind}"><polyline class="{kind}" points="{points}"/>{end}</g>'


def _grid_y(y: Scale, right: float) -> str:
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="tick y" x="{LEFT - 6}" y="{y(t) + 4:.1f}">{t:g}</text>'
        for t in ticks(y.low, y.high)
    )


def _label_x(x: float, y: float, text: str) -> str:
    return f'<text class="tick x" x="{x:.1f}" y="{y:.1f}">{text}</text>'


def _svg(width: float, height: float, body: Sequence[str], label: str, kind: str = "curves") -> str:
    return (
        f'<svg class="chart {kind}" role="img" aria-label="{escape(label)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(body)}</svg>'
    )
