"""Small inline SVG charts of branches and races: numbers in, one SVG string out. Colours come from the page's CSS.

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
CONTOUR, BANDS = 300, 8  # side of a contour plot, and its bands
NAMES = 110  # width of the names of a dot chart
RACE_WIDTH, RACE_HEIGHT = 760, 320
RACE_NAMES = 160  # width of the names at the right end of a race's lines
DODGE = 3.0  # between the dots of two lines at the same steps
LINE = 15.0  # of text


class Branch(NamedTuple):
    """One seed's branch: the `curve` of its training episodes, and at its `end` the evaluation at the horizon."""

    curve: Sequence[Point]
    end: Point


class Arm(NamedTuple):
    """One row of a dot chart: the final return of each seed. `kind` is a CSS class: control, candidate or winner."""

    name: str
    finals: Sequence[float]
    kind: str


class RaceDot(NamedTuple):
    """A look: mean `value` at `steps`, an interval of ± `reach`, what it says when pointed at.

    `mark` is `confirmed` or `proven` where the policy was confirmed there, else empty.
    """

    steps: float
    value: float
    reach: float
    title: str
    mark: str = ""


class RaceLine(NamedTuple):
    """The looks of one arm of a race.

    Attributes:
        name: at the end of the line.
        kind: a CSS class: control, candidate, kick, fresh, carried or winner.
        dots: in the order of their steps.
        start: where the line begins before its first dot; None where that is its first dot.
        note: a word after the name, such as adopted.
        dropped: why the line ends where it ends; empty where it was not dropped.
    """

    name: str
    kind: str
    dots: Sequence[RaceDot]
    start: Point | None = None
    note: str = ""
    dropped: str = ""


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
    parts = [*_grid(values, y, LEFT, WIDTH - RIGHT), *(_label_x(x(t), HEIGHT - 8, short(t)) for t in ticks(0, last, 3))]

    # The candidate is drawn last, so that it lies above the control.
    for kind, branches in (("control", control), ("candidate", candidate)):
        for branch in branches:
            points = " ".join(f"{x(t):.1f},{y(value):.1f}" for t, value in branch.curve if math.isfinite(value))
            end = ""
            if math.isfinite(branch.end[1]):
                end = f'<circle cx="{x(branch.end[0]):.1f}" cy="{y(branch.end[1]):.1f}" r="3.5"/>'
            parts.append(f'<g class="{kind}"><polyline class="{kind}" points="{points}"/>{end}</g>')
    return _svg(WIDTH, HEIGHT, parts, label)


def curve(along: Sequence[float], values: Sequence[float], label: str) -> str:
    """Draw one line, of values over what stands along the horizontal axis."""
    limits = padded(values)
    x, y = Scale(along[0], along[-1], LEFT, WIDTH - RIGHT), Scale(*limits, HEIGHT - BOTTOM, TOP)
    below = [_label_x(x(t), HEIGHT - 8, f"{t:g}") for t in ticks(along[0], along[-1], 4)]
    places = zip(along, values, strict=True)
    points = " ".join(f"{x(a):.1f},{y(value):.1f}" for a, value in places if math.isfinite(value))
    line = f'<polyline class="candidate" points="{points}"/>'
    return _svg(WIDTH, HEIGHT, [*_grid(limits, y, LEFT, WIDTH - RIGHT), *below, line], label)


def contour(
    across: Sequence[float], up: Sequence[float], grid: Sequence[Sequence[float]], names: tuple[str, str], label: str
) -> str:
    """Draw values over two axes as filled bands, darker where they are higher; a cell says its value when pointed at.

    Args:
        across: what stands along the horizontal axis.
        up: the same of the vertical one.
        grid: a value for each pair, [across][up].
        names: of both axes.
        label: what a screen reader says of the picture.
    """
    low, high = padded([value for column in grid for value in column])
    side, bottom = CONTOUR - LEFT - RIGHT, CONTOUR - 2 * BOTTOM
    width, height = side / len(across), (bottom - TOP) / len(up)
    parts = []
    for i, column in enumerate(grid):
        for j, value in enumerate(column):
            if not math.isfinite(value):
                continue
            band = min(int((value - low) / (high - low) * BANDS), BANDS - 1)
            at = f"{names[0]} {across[i]:.3g}, {names[1]} {up[j]:.3g}: {value:.3g}"
            parts.append(
                f'<rect class="band" x="{LEFT + i * width:.1f}" y="{bottom - (j + 1) * height:.1f}" '
                f'width="{width + 0.3:.1f}" height="{height + 0.3:.1f}" fill-opacity="{(band + 0.5) / BANDS:.2f}">'
                f"<title>{escape(at)}</title></rect>"
            )
    # the ends of both axes, under the middles of their cells
    parts += [_label_x(LEFT + (k + 0.5) * width, bottom + 14, f"{across[k]:g}") for k in (0, len(across) - 1)]
    parts += [
        f'<text class="tick y" x="{LEFT - 6}" y="{bottom - (k + 0.5) * height + 4:.1f}">{up[k]:g}</text>'
        for k in (0, len(up) - 1)
    ]
    parts.append(_label_x(LEFT + side / 2, bottom + 30, f"{escape(names[0])} →, {escape(names[1])} ↑"))
    return _svg(CONTOUR, CONTOUR, parts, label)


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


def race(lines: Sequence[RaceLine], label: str, description: str, key: str) -> str:
    """Draw the mean return of each arm over steps: a line an arm, a dot with its interval a look.

    A ring marks a look after which the arm's policy was confirmed, a cross the last look of an arm that was dropped.
    The names stand on the right, moved apart where lines end beside each other.

    Args:
        lines: the arms; what is drawn later lies above.
        label: what a screen reader says of the chart.
        description: what it says of what can be seen there.
        key: makes the ids of both unique on a page.
    """
    shown = [line._replace(dots=[dot for dot in line.dots if _drawn(dot)]) for line in lines]
    shown = [line for line in shown if line.dots]
    dots = [dot for line in shown for dot in line.dots]
    values = padded([dot.value + sign * dot.reach for dot in dots for sign in (-1, 1)])
    last = max((dot.steps for dot in dots), default=1.0) or 1.0
    right = RACE_WIDTH - RACE_NAMES
    x, y = Scale(0, last, LEFT + 12, right - 30), Scale(*values, RACE_HEIGHT - BOTTOM - LINE, TOP)
    parts = _grid(values, y, LEFT, right)
    parts += [_label_x(x(t), RACE_HEIGHT - BOTTOM, short(t)) for t in ticks(0, last, 6)]
    parts.append(_label_x((LEFT + right) / 2, RACE_HEIGHT - 8, "environment steps since the fork"))

    names = _apart([y(line.dots[-1].value) for line in shown], LINE, TOP, RACE_HEIGHT - BOTTOM - LINE)
    for number, (line, name_y) in enumerate(zip(shown, names, strict=True)):
        # Dots at equal steps stand a little beside each other, so that every interval can be seen.
        shift = DODGE * (number - (len(shown) - 1) / 2)
        points = [(x(dot.steps) + (shift if dot.steps else 0.0), y(dot.value)) for dot in line.dots]
        marks = "".join(_race_dot(dot, px, y) for dot, (px, _) in zip(line.dots, points, strict=True))
        if line.start is not None and math.isfinite(line.start[1]):
            points.insert(0, (x(line.start[0]), y(line.start[1])))
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        end_x, end_y = points[-1]
        if line.dropped:
            cross = f"M{end_x - 6:.1f} {end_y - 6:.1f} l12 12 m0 -12 l-12 12"
            marks += f'<path class="drop" d="{cross}"><title>{escape(line.dropped)}</title></path>'
        note = f" <tspan>{escape(line.note)}</tspan>" if line.note else ""
        leader = f'<line class="leader" x1="{end_x + 10:.1f}" y1="{end_y:.1f}" x2="{right}" y2="{name_y:.1f}"/>'
        name = f'<text class="arm" x="{right + 4}" y="{name_y + 4:.1f}">{escape(line.name)}{note}</text>'
        kind = line.kind + (" dropped" if line.dropped else "")
        parts.append(f'<g class="{kind}"><polyline class="{line.kind}" points="{path}"/>{leader}{marks}{name}</g>')
    ids = f"race-{escape(key)}"
    return (
        f'<svg class="chart race" role="img" aria-labelledby="{ids}-title" aria-describedby="{ids}-desc" '
        f'viewBox="0 0 {RACE_WIDTH} {RACE_HEIGHT}" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{ids}-title">{escape(label)}</title><desc id="{ids}-desc">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def _drawn(dot: RaceDot) -> bool:
    return math.isfinite(abs(dot.value) + dot.reach)


def _race_dot(dot: RaceDot, x: float, y: Scale) -> str:
    """Draw a look: its interval, its dot, and a ring where it was confirmed."""
    low, high = y(dot.value - dot.reach), y(dot.value + dot.reach)
    whisker = f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>' if dot.reach else ""
    ring = f'<circle class="ring {dot.mark}" cx="{x:.1f}" cy="{y(dot.value):.1f}" r="8"/>' if dot.mark else ""
    circle = f'<circle class="look" cx="{x:.1f}" cy="{y(dot.value):.1f}" r="4"/>'
    return f"<g>{whisker}{ring}{circle}<title>{escape(dot.title)}</title></g>"


def _apart(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Return the places moved as little as needed to be `least` apart, in their order, at most down to `high`.

    Where there is no room for all, they begin at `low` and are closer.
    """
    order = sorted(range(len(places)), key=lambda n: places[n])
    least = min(least, (high - low) / max(len(places) - 1, 1))
    moved = list(places)
    # Downwards from the top, then back up from the bottom where that went too far.
    for before, this in zip([None, *order], order, strict=False):
        floor = low if before is None else moved[before] + least
        moved[this] = max(moved[this], floor)
    for after, this in zip([None, *order[::-1]], order[::-1], strict=False):
        ceiling = high if after is None else moved[after] - least
        moved[this] = min(moved[this], ceiling)
    return moved


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


def _grid(values: tuple[float, float], y: Scale, left: float, right: float) -> list[str]:
    """Draw horizontal lines at round values, with the values on the left."""
    return [
        f'<line class="grid" x1="{left}" x2="{right}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="tick y" x="{left - 6}" y="{y(t) + 4:.1f}">{t:g}</text>'
        for t in ticks(*values)
    ]


def _label_x(x: float, y: float, text: str) -> str:
    return f'<text class="tick x" x="{x:.1f}" y="{y:.1f}">{text}</text>'


def _svg(width: float, height: float, parts: Sequence[str], label: str, kind: str = "curves") -> str:
    return (
        f'<svg class="chart {kind}" role="img" aria-label="{escape(label)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
