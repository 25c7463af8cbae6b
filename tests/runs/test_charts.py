"""The charts of branches in report and pages."""

from __future__ import annotations

from cosignal.runs import charts
from hypothesis import given
from hypothesis import strategies as st


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
