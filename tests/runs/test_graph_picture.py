"""The graph's drawing and the report's charts."""

from __future__ import annotations

from cosignal.runs import charts, report
from cosignal.runs.graph_picture import Edge, Topology, arrange, layers, spine, svg
from hypothesis import given
from hypothesis import strategies as st
from made_up_run import GRAPH


def test_layers_are_the_longest_ways_without_the_cycles() -> None:
    assert layers(GRAPH) == {
        "__start__": 0, "observe": 1, "critic": 2, "critic_tools": 3, "generator": 3, "decide": 4, "promote": 5,
        "__end__": 6,
    }  # fmt: skip
    assert spine(GRAPH, layers(GRAPH)) == [
        "promote",
        "decide",
        "generator",
        "critic",
        "observe",
        "__start__",
        "__end__",
    ]


def test_the_spine_is_straight_and_the_rest_stands_left_of_it() -> None:
    centre = arrange(GRAPH).centre
    assert len({centre[name][0] for name in GRAPH.nodes if name != "critic_tools"}) == 1
    assert centre["critic_tools"][0] < centre["critic"][0]
    assert centre["critic_tools"][1] == centre["generator"][1]


def test_no_line_of_the_loops_own_graph_runs_through_a_node() -> None:
    """Beside the spine stands what no edge into the spine has to pass; what is skipped to is outermost."""
    layout = arrange(report.loop_topology())
    centre = layout.centre
    assert layout.layer["remove_shaping"] == layout.layer["critic_tools"] == layout.layer["rank_transitions"]
    assert centre["remove_shaping"][0] < centre["critic_tools"][0] < centre["rank_transitions"][0]
    beside = {layout.layer[name] for name, (x, _) in centre.items() if x < centre["observe"][0]}
    entered = {"critic", "generator", "check", "decide", "end"}  # from the left side
    assert not beside & {layout.layer.get(name) for name in entered}


names = st.sampled_from(["a", "b", "c", "d", "e"])


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


def test_ticks_are_round_and_inside() -> None:
    assert charts.ticks(0.0, 1.0) == [0.0, 0.5, 1.0]
    assert charts.ticks(-0.8, 3.1) == [0.0, 1.0, 2.0, 3.0]
    assert charts.short(1_250_000) == "1.25M"
    assert charts.short(200_000) == "200k"
    assert charts.short(950) == "950"


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_there_are_always_a_few_ticks(low: float, span: float) -> None:
    found = charts.ticks(low, low + span)
    assert 1 <= len(found) <= 8
    assert all(low - 1e-6 <= tick <= low + span + 1e-6 for tick in found)


def test_a_chart_has_a_line_and_a_dot_for_each_branch() -> None:
    branch = charts.Branch([(0, 0.0), (100, 1.0)], (100, 0.5))
    drawn = charts.curves([branch], [branch, branch], (0.0, 1.0), "label")
    assert drawn.count("<polyline") == 3
    assert drawn.count("<circle") == 3
    dots = charts.dots([charts.Arm("<control>", [0.0, 1.0], "control")], (0.0, 1.0), "label")
    assert dots.count("<circle") == 2
    assert "<control>" not in dots
    assert "mean 0.500" in dots
