"""The picture of the adaptation graph: an inline SVG for the report and the pages, and the same as a PNG.

The graph has about a dozen nodes, so a plain rule places them. They stand below each other in the order in which the
graph's source adds them, which is the order of an intervention; the nodes in `BESIDE` stand to the left of that column.
An edge to the next row is drawn straight, one to an earlier row along the right side, and one that jumps over a row
along the left side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

TERMINALS = {"__start__": "start", "__end__": "end"}
# Nodes outside the column: how many places to the left they stand, one row below which node. No edge into the column
# passes these rows, and the outermost is the one to which edges along the left side lead.
BESIDE = {"critic_tools": (1, "critic"), "remove_shaping": (2, "critic"), "given_signals": (1, "check")}

# Lengths are in pixels of the drawing.
NODE_W, NODE_H = 150, 38
GAP_X, GAP_Y = 36, 40
TOP = 12
SIDE = 34  # room for the first edge that runs beside the nodes
TRACK = 12  # and for each further one
CORNER = 8  # radius where an edge turns

# The PNG adds a heading to the drawing. The font is a part of DejaVu Sans (Latin, Greek, arrows, mathematics; its
# licence lies beside it), so that text is drawn where no font is installed.
STYLE = Path(__file__).with_name("assets") / "report.css"
FONT = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
FAMILY = "DejaVu Sans"
ZOOM = 2.0  # pixels of the picture for one of the drawing: sharp on a dense screen, and in print
MARGIN = 32
HEADING = 74  # from the top of the picture to the drawing
TITLE = "The adaptation graph"
CAPTION = "Solid arrows are always taken, dashed ones depend on the state."


class Edge(NamedTuple):
    """An arrow between two nodes; a conditional one depends on the state of the graph."""

    source: str
    target: str
    conditional: bool = False
    label: str = ""


@dataclass(frozen=True)
class Topology:
    """Node names in the order of the graph's source, and the edges between them."""

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]

    @classmethod
    def from_json(cls, graph: Mapping[str, Any]) -> Topology:
        """Read what LangGraph's `get_graph().to_json()` returns."""
        edges = (
            Edge(str(e["source"]), str(e["target"]), bool(e.get("conditional")), str(e.get("data") or ""))
            for e in graph["edges"]
        )
        return cls(tuple(str(node["id"]) for node in graph["nodes"]), tuple(dict.fromkeys(edges)))


class Layout(NamedTuple):
    """The place of every node, and the size of the drawing.

    Attributes:
        row: node → its row, 0 at the top.
        centre: node → (x, y) in pixels.
        left: room for edges on the left side, in pixels.
        right: room for edges on the right side.
        width: of the whole drawing.
        height: of the whole drawing.
    """

    row: dict[str, int]
    centre: dict[str, tuple[float, float]]
    left: float
    right: float
    width: float
    height: float


# ---------------------------------------------------------------- SVG


def svg(
    topology: Topology,
    visits: Mapping[str, int] | None = None,
    links: Mapping[str, str] | None = None,
    title: str = "",
    states: Mapping[str, str] | None = None,
) -> str:
    """Draw the graph as one SVG element without JavaScript; its colours come from the page's CSS.

    All text is escaped. CSS classes: `node`, `terminal`, `quiet` (not visited), `count`, `edge`, `conditional`.

    Args:
        topology: the graph.
        visits: node → how often it was visited, shown as a badge; None draws no badges and no node as quiet.
        links: node → the address that a click on it leads to.
        title: what a screen reader says of the drawing.
        states: node → a further CSS class.
    """
    layout, links, states = arrange(topology), links or {}, states or {}
    parts: list[str] = []
    # Edges come first: what is drawn later lies above.
    for edge, path in _edge_paths(topology, layout):
        kind = "edge conditional" if edge.conditional else "edge"
        note = f" ({edge.label})" if edge.label else ""
        tip = escape(f"{edge.source} → {edge.target}{note}")
        parts.append(f'<path class="{kind}" d="{path}" marker-end="url(#arrow)"><title>{tip}</title></path>')
    for name in topology.nodes:
        node = _node(name, layout.centre[name], visits, states.get(name, ""))
        if name in links:
            tip = escape(f"{name}: {(visits or {}).get(name, 0)} visits")
            node = f'<a href="{escape(links[name])}" aria-label="{tip}">{node}</a>'
        parts.append(node)
    label = escape(title or "The graph")
    return (
        f'<svg class="graph" role="img" aria-label="{label}" viewBox="0 0 {layout.width:.0f} {layout.height:.0f}" '
        f'width="{layout.width:.0f}" xmlns="http://www.w3.org/2000/svg">'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0 L8 4 L0 8 z"/></marker></defs>' + "".join(parts) + "</svg>"
    )


def arrange(topology: Topology) -> Layout:
    """Place the nodes: one column from top to bottom, and the nodes in `BESIDE` to its left."""
    beside = {node: place for node, place in BESIDE.items() if {node, place[1]} <= set(topology.nodes)}
    column = {node: beside[node][0] if node in beside else 0 for node in topology.nodes}
    row = {node: number for number, node in enumerate(node for node in topology.nodes if node not in beside)}
    row |= {node: row[above] + 1 for node, (_, above) in beside.items()}

    # Each edge beside the nodes has a track of its own.
    steps = [row[edge.target] - row[edge.source] for edge in topology.edges]
    left = SIDE + TRACK * sum(step > 1 for step in steps)
    right = SIDE + TRACK * sum(step < 0 for step in steps)

    # Sizes and places in pixels.
    x = left + max(column.values(), default=0) * (NODE_W + GAP_X) + NODE_W / 2  # of the column
    centre = {
        node: (x - column[node] * (NODE_W + GAP_X), TOP + NODE_H / 2 + row[node] * (NODE_H + GAP_Y))
        for node in topology.nodes
    }
    rows = max(row.values(), default=0) + 1
    return Layout(row, centre, left, right, x + NODE_W / 2 + right, 20 + rows * NODE_H + (rows - 1) * GAP_Y)


def _edge_paths(topology: Topology, layout: Layout) -> list[tuple[Edge, str]]:
    """Return each edge with its SVG path. Short jumps get the inner tracks, so that fewer edges cross."""
    paths: list[tuple[Edge, str]] = []
    on_left = on_right = SIDE * 0.6  # distance of the next free track from the nodes
    for edge in sorted(topology.edges, key=lambda e: abs(layout.row[e.target] - layout.row[e.source])):
        (x0, y0), (x1, y1) = layout.centre[edge.source], layout.centre[edge.target]
        step = layout.row[edge.target] - layout.row[edge.source]
        if edge.source == edge.target:
            # A small ear on the left side of the node.
            x, ear = x0 - NODE_W / 2, x0 - NODE_W / 2 - 30
            path = f"M{x:.0f} {y0 + 8:.0f} C{ear:.0f} {y0 + 18:.0f} {ear:.0f} {y0 - 18:.0f} {x:.0f} {y0 - 8:.0f}"
        elif step in (0, 1):
            # Out of the bottom, into the top.
            start, end = y0 + NODE_H / 2, y1 - NODE_H / 2
            middle = (start + end) / 2
            path = f"M{x0:.0f} {start:.0f} C{x0:.0f} {middle:.0f} {x1:.0f} {middle:.0f} {x1:.0f} {end:.0f}"
        elif step < 0 and x0 < x1:
            # From beside the column: out of the top, up, and into the left side of the column's node.
            x, y = x0 - 24, y1 + 6
            corner = f"V{y + CORNER:.0f} Q{x:.0f} {y:.0f} {x + CORNER:.0f} {y:.0f}"
            path = f"M{x:.0f} {y0 - NODE_H / 2:.0f} {corner} H{x1 - NODE_W / 2:.0f}"
        elif step < 0:
            # Back to an earlier row: along the right side.
            path = _around((x0, y0), (x1, y1), layout.width - layout.right + on_right)
            on_right += TRACK
        else:
            # Over one row or more: along the left side.
            path = _around((x0, y0), (x1, y1), layout.left - on_left)
            on_left += TRACK
        paths.append((edge, path))
    return paths


def _around(source: tuple[float, float], target: tuple[float, float], x: float) -> str:
    """Lead a path out of the source's side, along the track at `x`, and into the target's side."""
    side = 1 if x > source[0] else -1
    (x0, y0), (x1, y1) = (source[0] + side * NODE_W / 2, source[1] + 6), (target[0] + side * NODE_W / 2, target[1] - 6)
    turn = CORNER if y1 > y0 else -CORNER
    return (
        f"M{x0:.0f} {y0:.0f} H{x - side * CORNER:.0f} Q{x:.0f} {y0:.0f} {x:.0f} {y0 + turn:.0f} "
        f"V{y1 - turn:.0f} Q{x:.0f} {y1:.0f} {x - side * CORNER:.0f} {y1:.0f} H{x1:.0f}"
    )


def _node(name: str, centre: tuple[float, float], visits: Mapping[str, int] | None, state: str) -> str:
    """Draw a node with its name, and a badge with its visits where there are any."""
    x, y = centre[0] - NODE_W / 2, centre[1] - NODE_H / 2
    terminal = name in TERMINALS
    count = 0 if visits is None else visits.get(name, 0)
    kind = "node" + (" terminal" if terminal else "") + (" quiet" if visits is not None and not count else "")
    kind += f" {escape(state)}" if state else ""
    box = f'<rect x="{x:.0f}" y="{y:.0f}" width="{NODE_W}" height="{NODE_H}" rx="{NODE_H / 2 if terminal else 9:.0f}"/>'
    text = escape(TERMINALS.get(name, name.replace("_", " ")))
    label = f'<text x="{centre[0]:.0f}" y="{centre[1] + 5:.0f}">{text}</text>'
    badge = ""
    if count:
        # At the upper right corner, wider for more digits.
        right, width = x + NODE_W + 6, 14 + 8 * len(str(count))
        badge = (
            f'<g class="count"><rect x="{right - width:.0f}" y="{y - 9:.0f}" width="{width}" height="19" rx="9.5"/>'
            f'<text x="{right - width / 2:.0f}" y="{y + 5:.0f}">{count}</text></g>'
        )
    return f'<g class="{kind}">{box}{label}{badge}</g>'


# ---------------------------------------------------------------- PNG


def graph_png(topology: Topology, zoom: float = ZOOM) -> bytes:
    """Draw the graph under its title on a light ground, with the same pixels on every machine.

    Args:
        topology: the graph.
        zoom: pixels of the picture for one of the drawing.
    """
    from resvg_py import svg_to_bytes

    return svg_to_bytes(
        svg_string=framed(topology),
        style_sheet=light_style(STYLE.read_text(encoding="utf-8")),
        zoom=zoom,
        skip_system_fonts=True,
        font_files=[str(FONT)],
        font_family=FAMILY,
        sans_serif_family=FAMILY,
    )


def framed(topology: Topology) -> str:
    """Return an SVG document: the drawing with a margin, a title and a line that explains the dashes."""
    layout = arrange(topology)
    width = max(layout.width, 8 * len(CAPTION)) + 2 * MARGIN
    height = layout.height + HEADING + MARGIN
    x = (width - layout.width) / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}">'
        f'<rect class="ground" width="100%" height="100%"/>'
        f'<text class="heading" x="{MARGIN}" y="38">{TITLE}</text><text x="{MARGIN}" y="60">{CAPTION}</text>'
        f'<svg x="{x:.0f}" y="{HEADING}" width="{layout.width:.0f}" height="{layout.height:.0f}">'
        f"{svg(topology, title=TITLE)}</svg></svg>"
    )


def light_style(css: str) -> str:
    """Return the rules for SVG of a page's style sheet in a form that resvg, which is no browser, understands.

    Variables are replaced by their values in the first `:root`, which are the light colours. Rules that only a browser
    can follow, such as `:hover`, are left out.
    """
    # The first block of the sheet is the light `:root`.
    values = dict(re.findall(r"--([\w-]+):\s*([^;]+);", css.partition("}")[0]))
    rules = "\n".join(
        f"{selector.strip()} {{{body}}}"
        for selector, body in re.findall(r"^([^{}@]+)\{([^{}]*)\}", css, re.MULTILINE)
        if selector.strip().startswith("svg") and ":" not in selector
    ).replace("inherit", f"'{FAMILY}'")
    frame = f"svg .ground {{ fill: {values['paper']}; }} svg .heading {{ font-size: 19px; }}"
    return re.sub(r"var\(--([\w-]+)\)", lambda match: values[match[1]], rules) + frame
