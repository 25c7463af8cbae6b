"""The graph as a picture: what a PNG reader sees of it."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cosignal.runs import graph_picture as png
from cosignal.runs.graph_picture import NODE_H, NODE_W, Topology, arrange
from cosignal.runs.report import loop_topology
from made_up_run import GRAPH
from PIL import Image


def pixels(data: bytes) -> np.ndarray:
    """[height, width, 3], 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16)


def test_it_is_a_png_of_the_size_of_the_drawing() -> None:
    data, layout = png.graph_png(GRAPH), arrange(GRAPH)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    height, width, _ = pixels(data).shape
    assert width >= 2 * layout.width
    assert height == 2 * (round(layout.height) + png.HEADING + png.MARGIN)
    assert pixels(png.graph_png(GRAPH, zoom=1)).shape[0] == height / 2


def test_the_ground_is_light_and_opaque() -> None:
    data = png.graph_png(GRAPH)
    assert Image.open(io.BytesIO(data)).convert("RGBA").getextrema()[3] == (255, 255)
    assert pixels(data)[0, 0].min() > 245


def test_every_label_is_drawn_and_inside_its_node() -> None:
    """The dark pixels inside each node of the loop's own graph keep clear of its border."""
    topology = loop_topology()
    with_labels, boxes = pixels(png.graph_png(topology)), list(boxes_of(topology))
    for name, box in boxes:
        ink = (with_labels[box] < 110).all(axis=2)
        assert ink.sum() > 200, name
        columns = np.flatnonzero(ink.any(axis=0))
        assert columns[0] > 10 and columns[-1] < ink.shape[1] - 10, f"{name} is as wide as its node"


def test_the_font_is_our_own_and_no_font_of_the_machine_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its file nothing is written, whatever is installed."""
    monkeypatch.setattr(png, "FONT", Path("/no/such/font.ttf"))
    without = pixels(png.graph_png(loop_topology()))
    assert not any((without[box] < 110).any() for _, box in boxes_of(loop_topology()))


def boxes_of(topology: Topology) -> list[tuple[str, tuple[slice, slice]]]:
    """The inside of each node, in pixels of the picture."""
    layout, found = arrange(topology), []
    x0 = float(re.findall(r'<svg x="(\d+)"', png.framed(topology))[0])
    for name, (x, y) in layout.centre.items():
        left, top = x0 + x - NODE_W / 2 + 4, png.HEADING + y - NODE_H / 2 + 4
        across, down = (left, left + NODE_W - 8), (top, top + NODE_H - 8)
        found.append((name, (slice(*(round(2 * v) for v in down)), slice(*(round(2 * v) for v in across)))))
    return found


def test_arrows_and_dashes_are_drawn() -> None:
    """The more is drawn, the less of the picture is light."""

    def ink(topology: Topology) -> int:
        return int((pixels(png.graph_png(topology)) < 200).all(axis=2).sum())

    always = replace(GRAPH, edges=tuple(edge._replace(conditional=False) for edge in GRAPH.edges))
    sometimes = replace(GRAPH, edges=tuple(edge._replace(conditional=True) for edge in GRAPH.edges))
    assert ink(always) > ink(sometimes) > ink(replace(GRAPH, edges=()))


def test_no_variable_of_the_pages_is_left_and_hovering_is_left_out() -> None:
    style = png.light_style(png.STYLE.read_text(encoding="utf-8"))
    assert "var(" not in style
    assert ":hover" not in style
    assert re.search(r"svg \.node rect \{ fill: #ffffff; stroke: #[0-9a-f]{6};", style)


def test_the_light_form_is_drawn() -> None:
    css = ":root { --paper: #fff; --ink: #111; }\n@media x {\n  :root { --paper: #000; --ink: #eee; }\n}\n"
    assert "fill: #111;" in png.light_style(css + "svg text { fill: var(--ink); }")
