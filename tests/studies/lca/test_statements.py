"""Parts, verdicts and rows of statements, on curves made by hand."""

from __future__ import annotations

from cosignal.studies.lca.arms import FIGURES, TASKS, arms_of
from cosignal.studies.lca.curves import Curve
from cosignal.studies.lca.statements import (
    STATEMENTS,
    Part,
    TaskCurves,
    above,
    below,
    measure_rows,
    rows_of,
    statement_row,
    verdict_of,
)
from made_up_curves import curve

TWO_SWITCH = TASKS["two_switch"]


def result(**arms: list[Curve]) -> TaskCurves:
    return TaskCurves(TWO_SWITCH, arms)


def test_a_part_holds_fails_or_is_open() -> None:
    assert above("x", [1.0, 1.2], 1.0).level == "holds"
    assert above("x", [0.0, 1.9], 1.0).level == "open"  # the mean fails, its interval does not
    assert above("x", [0.0, 0.1], 1.0).level == "fails"
    assert above("x", [1.0, 1.0], 1.0, strictly=True).level == "fails"
    low = below("x", [0.25, 0.5], 0.375)
    assert (low.level, low.mean, low.interval) == ("holds", 0.375, (0.25, 0.5))
    assert below("x", [0.2, 0.6], 0.3).level == "open"


def test_a_verdict_is_that_of_all_parts() -> None:
    assert verdict_of(["holds", "holds"]) == "reproduced"
    assert verdict_of(["fails", "fails"]) == "not reproduced"
    assert verdict_of(["holds", "fails"]) == verdict_of(["open"]) == "weaker"
    row = statement_row("X", "it holds", [Part("a", 1.0, (0.5, 1.5), "holds")], 2)
    assert (row["mean"], row["ci95"], row["verdict"]) == (1.0, [0.5, 1.5], "reproduced")


def test_far_above_is_beyond_the_pooled_deviation() -> None:
    mine, others = [curve(3.0), curve(5.0)], [curve(1.0), curve(3.0)]  # deviations √2, difference 2
    assert result(a=mine, b=others).far_above("a", "b").level == "holds"
    assert result(a=mine, b=[curve(2.0), curve(4.0)]).far_above("a", "b").level == "fails"  # the difference is 1


def test_sooner_and_steadier_compare_what_they_say() -> None:
    early, late = curve(0, 3, 3, 3), curve(0, 0, 0, 3)
    both = result(a=[early, early], b=[late, late], c=[curve(1.0), curve(2.0)])
    assert both.sooner("a", "b").mean == -2000 and both.sooner("a", "b").level == "holds"
    assert both.sooner("b", "a").level == "fails"
    assert both.steadier("a", "c").level == "holds" and both.steadier("c", "a").level == "fails"
    assert both.no_worse("a", "b").level == "holds"
    assert both.on_par("a", "c").level == "fails"


def all_arms(**special: float) -> dict[str, list[Curve]]:
    """Every arm of Two-Switch's figures at a return of 1, but for `special`."""
    names = {arm.name for figure in FIGURES for arm in arms_of(figure, TWO_SWITCH)}
    return {name: [curve(*[special.get(name, 1.0)] * 10) for _ in range(3)] for name in names}


def test_the_rows_of_figure_3_say_what_curves_show() -> None:
    verdicts = {row["id"]: row["verdict"] for row in rows_of(3, [result(**all_arms(lca=4.7))])}
    assert verdicts["F3-1"] == verdicts["F3-2"] == verdicts["F3-4"] == "reproduced"
    assert verdicts["F3-3"] == "weaker"  # as steady as the others
    assert verdicts["F3-5"] == "not run" and verdicts["E3-2"] == "not reproduced"
    worse = {row["id"]: row["verdict"] for row in rows_of(3, [result(**all_arms(qmix=4.0, vdn=4.0))])}
    assert worse["F3-1"] == worse["F3-2"] == worse["F3-4"] == "not reproduced"


def test_the_rows_of_figures_4_and_5() -> None:
    arms = all_arms(lca_4q80=4.6, lca_4q70=3.0, lca_1q80=2.0, lca_1q70=0.0, lca_2q80=4.5)
    fourth = {row["id"]: row["verdict"] for row in rows_of(4, [result(**arms)])}
    assert fourth == {
        "F4-1.two_switch": "reproduced", "F4-2": "reproduced", "F4-3": "reproduced", "F4-4": "weaker",
        "F4-5.two_switch": "reproduced",
    }  # fmt: skip
    fifth = {row["id"]: row["verdict"] for row in rows_of(5, [result(**arms)])}
    assert fifth == {"F5-1.two_switch": "weaker", "F5-3": "not run"}


def test_every_row_of_the_specification_is_there_once() -> None:
    ids = [statement.id for statement in STATEMENTS]
    assert len(set(ids)) == len(ids)
    assert {f"F3-{n}" for n in range(1, 11)} | {f"F4-{n}" for n in range(1, 6)} | {"F5-1", "F5-2", "F5-3"} <= set(ids)


def test_every_arm_is_measured_whatever_is_said_of_it() -> None:
    agreed = Curve(1, [1000, 2000], [2.0, 4.0], [0.5, 1.0], 5.0, 1.0, [0.9, None], 0)
    rows = {row["id"]: row for row in measure_rows(result(a=[agreed], b=[curve(1.0, 1.0)]))}
    assert {name: rows[f"a.{name}"]["mean"] for name in ("r", "success", "half", "fresh", "agreement")} == {
        "r": 4.0, "success": 1.0, "half": 2000.0, "fresh": 5.0, "agreement": 0.9,
    }  # fmt: skip
    assert rows["b.half"]["mean"] == 2000.0 and "b.agreement" not in rows  # never half-way, no scorer
