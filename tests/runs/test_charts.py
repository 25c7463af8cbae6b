"""The charts of branches in report and pages."""

from __future__ import annotations

from itertools import pairwise

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


def test_names_at_the_ends_of_lines_stand_apart_and_in_their_order() -> None:
    assert charts._apart([10.0, 12.0, 50.0], 15.0, 0.0, 100.0) == [10.0, 25.0, 50.0]
    assert charts._apart([95.0, 96.0], 15.0, 0.0, 100.0) == [85.0, 100.0]
    assert charts._apart([], 15.0, 0.0, 100.0) == []


@given(st.lists(st.floats(0, 100), max_size=12))
def test_names_never_leave_the_chart_or_cover_each_other(places: list[float]) -> None:
    moved = charts._apart(places, 15.0, 0.0, 100.0)
    least = min(15.0, 100.0 / max(len(places) - 1, 1))
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in moved)
    ordered = sorted(moved)
    assert all(other - one >= least - 1e-6 for one, other in pairwise(ordered))
    assert [moved[n] for n in sorted(range(len(places)), key=lambda n: places[n])] == ordered


def test_a_race_without_finite_numbers_is_empty_and_no_error() -> None:
    nothing = charts.RaceLine("a", "candidate", [charts.RaceDot(1.0, float("nan"), 0.0, "x")])
    assert charts.race([nothing], "label", "told", "key").count("<polyline") == 0
    huge = charts.RaceLine("a", "candidate", [charts.RaceDot(1.0, 1e308, 1e308, "x"), charts.RaceDot(2.0, 1, 0, "y")])
    assert charts.race([huge], "label", "told", "key").count('class="look"') == 1


def test_what_stands_in_the_chart_of_a_race_is_escaped() -> None:
    evil = "<script>\"'</script>"
    line = charts.RaceLine(evil, "candidate", [charts.RaceDot(1.0, 1.0, 0.1, evil, "proven")], (0, 1), evil, evil)
    drawn = charts.race([line], evil, evil, evil)
    assert "<script" not in drawn
    assert drawn.count("&lt;script&gt;") == 10
