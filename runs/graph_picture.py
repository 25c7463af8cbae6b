"""The graph as one inline SVG: a layered drawing from top to bottom, no JavaScript, colours from the page's CSS.

The layout is Sugiyama's in small: edges that close a cycle are set aside, and a node's layer is the longest way to it.
The longest chain is the spine, at the right; other nodes stand to its left, as low as they may, so that fewer of them
are in the way. Edges that go back run along the right side, edges that jump over a layer along the left one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

# ---------------------------------------------------------------- MERGED runs.drawing

NODE_W, NODE_H = 150, 38
GAP_X, GAP_Y = 36, 40
SIDE = 34  # room for the first edge that runs beside the nodes
TRACK = 12  # and for each further one
END = "__end__"
TERMINALS = {"__start__": "start", END: "end"}
NOTHING: Mapping[str, str] = {}


class Edge(NamedTuple):
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
        """From LangGraph's `get_graph().to_json()`."""
        edges = (
            Edge(str(e["source"]), str(e["target"]), bool(e.get("conditional")), str(e.get("data") or ""))
            for e in graph["edges"]
        )
        return cls(tuple(str(node["id"]) for node in graph["nodes"]), tuple(dict.fromkeys(edges)))


class Layout(NamedTuple):
    """`layer` of each node, its `centre` in pixels, and the room on the left and right for edges."""

    layer: dict[str, int]
    centre: dict[str, tuple[float, float]]
    left: float
    right: float
    width: float
    height: float


def layers(topology: Topology) -> dict[str, int]:
    """Longest way to each node over the edges that do not close a cycle; the end comes last."""
    forward = _without_cycles(topology)
    layer = dict.fromkeys(topology.nodes, 0)
    for _ in topology.nodes:  # a longest path has fewer edges than there are nodes
        for source, target in forward:
            layer[target] = max(layer[target], layer[source] + 1)
    if END in layer:
        layer[END] = max([0, *(depth for node, depth in layer.items() if node != END)]) + 1
    return layer


def spine(topology: Topology, layer: Mapping[str, int]) -> list[str]:
    """The longest chain, from its last node upwards, and the end."""
    before: dict[str, list[str]] = defaultdict(list)
    for source, target in _without_cycles(topology):
        before[target].append(source)
    node = max((n for n in topology.nodes if n != END), key=lambda n: layer[n])
    chain = [node]
    while above := [n for n in before[node] if layer[n] == layer[node] - 1]:
        node = above[0]
        chain.append(node)
    return [*chain, END]


def _without_cycles(topology: Topology) -> list[tuple[str, str]]:
    """The edges that remain when a walk from the first node drops each edge that leads back to where it came from."""
    following: dict[str, list[str]] = defaultdict(list)
    for edge in topology.edges:
        following[edge.source].append(edge.target)
    kept: list[tuple[str, str]] = []
    state: dict[str, str] = {}

    def walk(node: str) -> None:
        state[node] = "open"
        for target in following[node]:
            if state.get(target) == "open":
                continue
            kept.append((node, target))
            if target not in state:
                walk(target)
        state[node] = "done"

    for node in topology.nodes:
        if node not in state:
            walk(node)
    return kept


def sunk(topology: Topology, layer: Mapping[str, int], straight: Collection[str]) -> dict[str, int]:
    """The layers with the nodes beside the spine as low above what follows them as may be, but out of the way of edges
    that run along the left side into and out of the spine."""
    forward, low = _without_cycles(topology), dict(layer)
    skips = [(a, b) for a, b in forward if a in straight and b in straight and layer[b] - layer[a] > 1]
    in_the_way = {layer[end] for skip in skips for end in skip}
    for node in sorted(set(topology.nodes) - set(straight), key=lambda n: (-layer[n], n)):
        following = [low[target] for source, target in forward if source == node and target != END]
        lowest = min(following, default=low[node] + 1) - 1
        free = [row for row in range(layer[node], lowest + 1) if row not in in_the_way]
        low[node] = max(free, default=lowest)
    return low


def _columns(topology: Topology, layer: Mapping[str, int], straight: Collection[str]) -> dict[str, int]:
    """0 for the spine, more to the left of it; outermost in a layer what an edge along the left side leads to."""
    skips = [edge for edge in topology.edges if _beside(edge, layer) == "skip"]
    skipped = {end for edge in skips for end in (edge.source, edge.target)}
    column, taken = dict.fromkeys(topology.nodes, 0), defaultdict[int, int](int)
    for node in sorted((n for n in topology.nodes if n not in straight), key=lambda n: n in skipped):
        taken[layer[node]] += 1
        column[node] = taken[layer[node]]
    return column


def arrange(topology: Topology) -> Layout:
    """Pixel centres: one row a layer; the spine straight, the others to its left in the order of the graph."""
    layer = layers(topology)
    straight = spine(topology, layer)
    layer = sunk(topology, layer, straight)
    column = _columns(topology, layer, straight)
    left, right = _sides(topology, layer)
    x0 = left + max(column.values(), default=0) * (NODE_W + GAP_X) + NODE_W / 2
    centre = {
        node: (x0 - column[node] * (NODE_W + GAP_X), 12 + NODE_H / 2 + layer[node] * (NODE_H + GAP_Y))
        for node in topology.nodes
    }
    rows = max(layer.values(), default=0) + 1
    return Layout(layer, centre, left, right, x0 + NODE_W / 2 + right, 20 + rows * NODE_H + (rows - 1) * GAP_Y)


def _beside(edge: Edge, layer: Mapping[str, int]) -> str | None:
    """Which side an edge runs along: `back` for one that goes up, `skip` for one that jumps over a layer."""
    step = layer[edge.target] - layer[edge.source]
    if step < 0:
        return "back"
    return "skip" if step > 1 else None


def _sides(topology: Topology, layer: Mapping[str, int]) -> tuple[float, float]:
    """Room for the edges on the left (skips) and on the right (back edges)."""
    kinds = [_beside(edge, layer) for edge in topology.edges]
    return SIDE + TRACK * kinds.count("skip"), SIDE + TRACK * kinds.count("back")


def svg(
    topology: Topology,
    visits: Mapping[str, int] | None = None,
    links: Mapping[str, str] = NOTHING,
    title: str = "",
    states: Mapping[str, str] = NOTHING,
) -> str:
    """The drawing. `visits` puts a count on each node; `links`: node → where a click leads; `states`: node → a CSS
    class of its own.

    All text is escaped. Classes: `node`, `tool`, `terminal`, `quiet` (not visited), `edge`, `conditional`, `count`.
    """
    layout = arrange(topology)
    body = [_edge(edge, path) for edge, path in _paths(topology, layout)]
    for node in topology.nodes:
        drawn = _node(node, layout.centre[node], visits, states.get(node, ""))
        body.append(_linked(node, drawn, visits, links[node]) if node in links else drawn)
    label = escape(title or "The graph")
    return (
        f'<svg class="graph" role="img" aria-label="{label}" viewBox="0 0 {layout.width:.0f} {layout.height:.0f}" '
        f'width="{layout.width:.0f}" xmlns="http://www.w3.org/2000/svg">'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0 L8 4 L0 8 z"/></marker></defs>' + "".join(body) + "</svg>"
    )


def _paths(topology: Topology, layout: Layout) -> list[tuple[Edge, str]]:
    """Each edge with its SVG path. Short jumps get the inner tracks, so that fewer edges cross."""
    tracks = {"back": 0, "skip": 0}
    drawn: list[tuple[Edge, str]] = []
    for edge in sorted(topology.edges, key=lambda e: abs(layout.layer[e.target] - layout.layer[e.source])):
        source, target = layout.centre[edge.source], layout.centre[edge.target]
        side = _beside(edge, layout.layer)
        if edge.source == edge.target:
            path = _loop(source)
        elif side is None:
            path = _straight(source, target)
        elif side == "back" and source[0] < target[0]:
            path = _up(source, target)
        else:
            track = SIDE * 0.6 + TRACK * tracks[side]
            tracks[side] += 1
            path = _around(
                source, target, layout.width - layout.right + track if side == "back" else layout.left - track
            )
        drawn.append((edge, path))
    return drawn


def _up(source: tuple[float, float], target: tuple[float, float]) -> str:
    """From the top of a node beside the spine, up and into the left side of the spine's node."""
    x, y = source[0] - 24, target[1] + 6
    corner = f"V{y + 8:.0f} Q{x:.0f} {y:.0f} {x + 8:.0f} {y:.0f}"
    return f"M{x:.0f} {source[1] - NODE_H / 2:.0f} {corner} H{target[0] - NODE_W / 2:.0f}"


def _straight(source: tuple[float, float], target: tuple[float, float]) -> str:
    if source[1] == target[1]:  # neighbours in one layer
        sign = 1 if target[0] > source[0] else -1
        return f"M{source[0] + sign * NODE_W / 2:.0f} {source[1]:.0f} H{target[0] - sign * NODE_W / 2:.0f}"
    y0, y1 = source[1] + NODE_H / 2, target[1] - NODE_H / 2
    middle = (y0 + y1) / 2
    return (
        f"M{source[0]:.0f} {y0:.0f} C{source[0]:.0f} {middle:.0f} {target[0]:.0f} {middle:.0f} {target[0]:.0f} {y1:.0f}"
    )


def _loop(centre: tuple[float, float]) -> str:
    """A small ear on the left of a node that follows itself."""
    x, y = centre[0] - NODE_W / 2, centre[1]
    return f"M{x:.0f} {y + 8:.0f} C{x - 30:.0f} {y + 18:.0f} {x - 30:.0f} {y - 18:.0f} {x:.0f} {y - 8:.0f}"


def _around(source: tuple[float, float], target: tuple[float, float], x: float) -> str:
    """Out of the source's side, along the track at `x`, into the target's side, with rounded corners."""
    sign = 1 if x > source[0] else -1
    (x0, y0), (x1, y1) = (source[0] + sign * NODE_W / 2, source[1] + 6), (target[0] + sign * NODE_W / 2, target[1] - 6)
    turn = 8 if y1 > y0 else -8
    return (
        f"M{x0:.0f} {y0:.0f} H{x - sign * 8:.0f} Q{x:.0f} {y0:.0f} {x:.0f} {y0 + turn:.0f} "
        f"V{y1 - turn:.0f} Q{x:.0f} {y1:.0f} {x - sign * 8:.0f} {y1:.0f} H{x1:.0f}"
    )


def _edge(edge: Edge, path: str) -> str:
    kind = "edge conditional" if edge.conditional else "edge"
    note = f" ({edge.label})" if edge.label else ""
    tip = escape(f"{edge.source} → {edge.target}{note}")
    return f'<path class="{kind}" d="{path}" marker-end="url(#arrow)"><title>{tip}</title></path>'


def _linked(name: str, drawn: str, visits: Mapping[str, int] | None, target: str) -> str:
    tip = escape(f"{name}: {(visits or {}).get(name, 0)} visits")
    return f'<a href="{escape(target)}" aria-label="{tip}">{drawn}</a>'


def _node(name: str, centre: tuple[float, float], visits: Mapping[str, int] | None, state: str) -> str:
    x, y = centre[0] - NODE_W / 2, centre[1] - NODE_H / 2
    terminal = name in TERMINALS
    count = 0 if visits is None else visits.get(name, 0)
    kind = "node" + (" terminal" if terminal else "") + (" quiet" if visits is not None and not count else "")
    kind += f" {escape(state)}" if state else ""
    box = f'<rect x="{x:.0f}" y="{y:.0f}" width="{NODE_W}" height="{NODE_H}" rx="{NODE_H / 2 if terminal else 9:.0f}"/>'
    text = escape(TERMINALS.get(name, name.replace("_", " ")))
    label = f'<text x="{centre[0]:.0f}" y="{centre[1] + 5:.0f}">{text}</text>'
    return f'<g class="{kind}">{box}{label}{_badge(x + NODE_W, y, count) if count else ""}</g>'


def _badge(x: float, y: float, count: int) -> str:
    width = 14 + 8 * len(str(count))
    return (
        f'<g class="count"><rect x="{x - width + 6:.0f}" y="{y - 9:.0f}" width="{width}" height="19" rx="9.5"/>'
        f'<text x="{x - width / 2 + 6:.0f}" y="{y + 5:.0f}">{count}</text></g>'
    )


# ---------------------------------------------------------------- MERGED runs.png
# DOC """The graph's drawing as a PNG, made here: no browser, no service, and a font of our own.
# DOC
# DOC Colours and line styles are those of the pages (`assets/report.css`), in their light form. The font is a part of DejaVu
# DOC Sans (Latin, Greek, arrows, mathematics; its licence lies beside it), so that text is drawn where no font is installed.
# DOC """

STYLE = Path(__file__).with_name("assets") / "report.css"
FONT = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
FAMILY = "DejaVu Sans"
ZOOM = 2.0  # pixels of the picture for one of the drawing: sharp on a screen of many pixels, and in print
MARGIN = 32
HEADING = 74  # from the top to the drawing
TITLE = "The adaptation graph"
CAPTION = "Solid arrows are always taken, dashed ones depend on the state."


def graph_png(topology: Topology, zoom: float = ZOOM) -> bytes:
    """The drawing under its title, on a light ground. `zoom`: pixels of the picture for one of the drawing."""
    from resvg_py import svg_to_bytes

    return svg_to_bytes(
        svg_string=framed(topology),
        style_sheet=light_style(STYLE.read_text(encoding="utf-8")),
        zoom=zoom,
        skip_system_fonts=True,  # the same picture on every machine
        font_files=[str(FONT)],
        font_family=FAMILY,
        sans_serif_family=FAMILY,
    )


def framed(topology: Topology) -> str:
    """The drawing as an SVG document of its own, with a margin, a title and a line that says what dashes mean."""
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
    """The rules for SVG of a page's style sheet with its variables resolved, since no renderer but a browser knows
    them: those of the first `:root`, which is the light form."""
    values = dict(re.findall(r"--([\w-]+):\s*([^;]+);", css.partition("}")[0]))
    more = f"svg .ground {{ fill: {values['paper']}; }} svg .heading {{ font-size: 19px; }}"
    rules = "\n".join(_svg_rules(css)).replace("inherit", f"'{FAMILY}'")
    return re.sub(r"var\(--([\w-]+)\)", lambda found: values[found[1]], rules) + more


def _svg_rules(css: str) -> Iterator[str]:
    """Without those that only a browser can follow, such as `:hover`."""
    for selector, body in re.findall(r"^([^{}@]+)\{([^{}]*)\}", css, re.MULTILINE):
        if selector.strip().startswith("svg") and ":" not in selector:
            yield f"{selector.strip()} {{{body}}}"
