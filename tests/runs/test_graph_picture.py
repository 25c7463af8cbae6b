"""The picture of the graph: the SVG, and what a PNG reader sees of it."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cosignal.graphs.graph import loop_topology
from cosignal.runs import graph_picture
from cosignal.runs.graph_picture import BESIDE, NODE_H, NODE_W, Edge, Topology, arrange, svg
from hypothesis import given
from hypothesis import strategies as st
from made_up_run import GRAPH
from PIL import Image


def test_nodes_stand_in_the_order_of_the_graph_and_the_tools_beside_what_follows() -> None:
    assert arrange(GRAPH).row == {
        "__start__": 0, "observe": 1, "critic": 2, "critic_tools": 3, "generator": 3, "decide": 4, "promote": 5,
        "__end__": 6,
    }  # fmt: skip


def test_the_column_is_straight_and_the_rest_stands_left_of_it() -> None:
    centre = arrange(GRAPH).centre
    assert len({centre[name][0] for name in GRAPH.nodes if name != "critic_tools"}) == 1
    assert centre["critic_tools"][0] < centre["critic"][0]
    assert centre["critic_tools"][1] == centre["generator"][1]


def test_no_line_of_the_loops_own_graph_runs_through_a_node() -> None:
    """Beside the column stands what no edge into the column has to pass; what is skipped to is outermost."""
    layout = arrange(loop_topology())
    centre = layout.centre
    assert layout.row["remove_shaping"] == layout.row["critic_tools"] == layout.row["rank_transitions"]
    assert layout.row["given_signals"] == layout.row["rank_proposals"]
    assert centre["remove_shaping"][0] < centre["critic_tools"][0] < centre["rank_transitions"][0]
    beside = {layout.row[name] for name, (x, _) in centre.items() if x < centre["observe"][0]}
    entered = {"critic", "generator", "check", "decide", "__end__"}  # from the left side
    assert not beside & {layout.row[name] for name in entered}


def test_every_node_beside_the_column_is_one_of_the_loops_own_graph() -> None:
    assert BESIDE.keys() < set(loop_topology().nodes)


names = st.sampled_from(["a", "b", "c", "critic", *BESIDE])


@given(st.lists(st.tuples(names, names), min_size=1, max_size=15, unique=True))
def test_any_graph_is_drawn_inside_its_box_and_without_overlaps(edges: list[tuple[str, str]]) -> None:
    nodes = tuple(sorted({name for edge in edges for name in edge}))
    topology = Topology(nodes, tuple(Edge(*edge) for edge in edges))
    layout = arrange(topology)
    assert len(set(layout.centre.values())) == len(nodes)
    for x, y in layout.centre.values():
        assert 75 <= x <= layout.width - 75
        assert 19 <= y <= layout.height - 19
    drawn = svg(topology)
    assert drawn.count('class="edge') == len(edges)


def test_names_are_escaped_and_counts_shown() -> None:
    topology = Topology(("<b>", "plain"), (Edge("<b>", "plain"),))
    drawn = svg(topology, {"plain": 12}, {"plain": "#node-plain"})
    assert "<b>" not in drawn
    assert '<a href="#node-plain"' in drawn
    assert ">12<" in drawn


# ---------------------------------------------------------------- as a PNG


def pixels(data: bytes) -> np.ndarray:
    """[height, width, 3], 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16)


def test_it_is_a_png_of_the_size_of_the_drawing() -> None:
    data, layout = graph_picture.graph_png(GRAPH), arrange(GRAPH)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    height, width, _ = pixels(data).shape
    assert width >= 2 * layout.width
    assert height == 2 * (round(layout.height) + graph_picture.HEADING + graph_picture.MARGIN)
    assert pixels(graph_picture.graph_png(GRAPH, zoom=1)).shape[0] == height / 2


def test_the_ground_is_light_and_opaque() -> None:
    data = graph_picture.graph_png(GRAPH)
    assert Image.open(io.BytesIO(data)).convert("RGBA").getextrema()[3] == (255, 255)
    assert pixels(data)[0, 0].min() > 245


def test_every_label_is_drawn_and_inside_its_node() -> None:
    """The dark pixels inside each node of the loop's own graph keep clear of its border."""
    topology = loop_topology()
    with_labels, boxes = pixels(graph_picture.graph_png(topology)), list(boxes_of(topology))
    for name, box in boxes:
        ink = (with_labels[box] < 110).all(axis=2)
        assert ink.sum() > 200, name
        columns = np.flatnonzero(ink.any(axis=0))
        assert columns[0] > 10 and columns[-1] < ink.shape[1] - 10, f"{name} is as wide as its node"


def test_the_font_is_our_own_and_no_font_of_the_machine_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its file nothing is written, whatever is installed."""
    monkeypatch.setattr(graph_picture, "FONT", Path("/no/such/font.ttf"))
    without = pixels(graph_picture.graph_png(loop_topology()))
    assert not any((without[box] < 110).any() for _, box in boxes_of(loop_topology()))


def boxes_of(topology: Topology) -> list[tuple[str, tuple[slice, slice]]]:
    """The inside of each node, in pixels of the picture."""
    layout, found = arrange(topology), []
    x0 = float(re.findall(r'<svg x="(\d+)"', graph_picture.framed(topology))[0])
    for name, (x, y) in layout.centre.items():
        left, top = x0 + x - NODE_W / 2 + 4, graph_picture.HEADING + y - NODE_H / 2 + 4
        across, down = (left, left + NODE_W - 8), (top, top + NODE_H - 8)
        found.append((name, (slice(*(round(2 * v) for v in down)), slice(*(round(2 * v) for v in across)))))
    return found


def test_arrows_and_dashes_are_drawn() -> None:
    """The more is drawn, the less of the picture is light."""

    def ink(topology: Topology) -> int:
        return int((pixels(graph_picture.graph_png(topology)) < 200).all(axis=2).sum())

    always = replace(GRAPH, edges=tuple(edge._replace(conditional=False) for edge in GRAPH.edges))
    sometimes = replace(GRAPH, edges=tuple(edge._replace(conditional=True) for edge in GRAPH.edges))
    assert ink(always) > ink(sometimes) > ink(replace(GRAPH, edges=()))


def test_no_variable_of_the_pages_is_left_and_hovering_is_left_out() -> None:
    style = graph_picture.light_style(graph_picture.STYLE.read_text(encoding="utf-8"))
    assert "var(" not in style
    assert ":hover" not in style
    assert re.search(r"svg \.node rect \{ fill: #ffffff; stroke: #[0-9a-f]{6};", style)


def test_the_light_form_is_drawn() -> None:
    css = ":root { --paper: #fff; --ink: #111; }\n@media x {\n  :root { --paper: #000; --ink: #eee; }\n}\n"
    assert "fill: #111;" in graph_picture.light_style(css + "svg text { fill: var(--ink); }")
