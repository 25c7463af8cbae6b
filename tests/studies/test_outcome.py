"""When a seed counts as solved, and the intervals of a study, on numbers made by hand."""

from __future__ import annotations

import pytest
from cosignal.errors import ConfigError
from cosignal.studies import run_study
from cosignal.studies.outcome import Point, first_solved, mean_ci, median_censored, rare_ci, share_ci
from cosignal.studies.report import COLUMNS, table
from scipy import stats


def points(*successes: float | None) -> list[Point]:
    return [Point(10 * i, 20 * i, s) for i, s in enumerate(successes)]


def test_ten_updates_of_training_success_count() -> None:
    assert first_solved(points(*[1.0] * 9)) is None
    assert first_solved(points(0.0, *[1.0] * 9)) == Point(90, 180, 1.0)  # 0.9 over ten updates
    assert first_solved(points(None, *[0.89] * 30)) is None
    assert first_solved(points(*[1.0] * 5, None, *[1.0] * 5)) == Point(100, 200, 1.0)  # one without an episode


def test_an_adopted_state_counts_by_its_fresh_episodes() -> None:
    adopted = Point(500, 900, None, fresh_success=0.95)
    assert first_solved([*points(*[0.0] * 5), adopted]) == adopted
    worse = [*points(*[1.0] * 9), Point(95, 190, None, fresh_success=0.2), Point(100, 200, 1.0)]
    assert first_solved(worse) is None  # what the state before it did does not count for this one


def test_statistics() -> None:
    assert mean_ci([2.0, 2.0, 2.0]) == (2.0, (2.0, 2.0))
    mean, (low, high) = mean_ci([0.0, 1.0] * 20)
    assert mean == 0.5 and 0.33 < low < 0.37 and 0.63 < high < 0.67  # ± 1.96 · 0.5 / √40
    share, (low, high) = share_ci(10, 10)
    assert share == 1.0 and high == pytest.approx(1.0) and low == pytest.approx(0.7225, abs=1e-3)  # Wilson, n = 10
    assert median_censored([3.0, 1.0, None]) == 3.0
    assert median_censored([1.0, None, None]) is None


@pytest.mark.parametrize(("hits", "of"), [(0, 64), (1, 64), (5, 5), (3, 20), (64, 64)])
def test_the_interval_of_rare_things_is_clopper_and_pearsons(hits: int, of: int) -> None:
    exact = stats.binomtest(hits, of).proportion_ci(0.95, method="exact")
    share, interval = rare_ci(hits, of)
    assert share == hits / of and interval == pytest.approx((exact.low, exact.high))


def test_the_interval_of_nothing_seen() -> None:
    assert rare_ci(0, 64)[1] == (0.0, pytest.approx(1 - 0.025 ** (1 / 64)))  # by hand
    assert rare_ci(0, 0) == (0.0, (0.0, 1.0))


def test_a_table_has_a_line_an_arm_and_the_comparisons_below() -> None:
    row = {"statement": "x", "verdict": "measured", "seeds": 2, "mean": 0.5, "ci95": [0.1, 0.9]}
    rows = [{**row, "id": f"plain.{field}"} for field in COLUMNS]
    rows[1] |= {"mean": 387_000.0, "ci95": [254_000, 637_000], "censored": 1}
    rows.append({**row, "id": "T-1", "statement": "it helps", "verdict": "weaker"})
    lines = table(rows).splitlines()
    assert lines[2].startswith("| plain | 0.50 [0.10, 0.90] | 387k [254k, 637k] c1 |")
    assert lines[-1] == "T-1, it helps: **weaker**, 0.50 [0.10, 0.90], n = 2."
    other = table([{**row, "id": "a.x"}, {**row, "id": "b.y"}], {"x": "ex", "y": "why"}, "arms").splitlines()
    assert other[0] == "| arms | ex | why |" and other[2:] == [
        "| a | 0.50 [0.10, 0.90] | – |",
        "| b | – | 0.50 [0.10, 0.90] |",
    ]


def test_an_unknown_study_is_named() -> None:
    names = "two-switch, adversary, gate-trials, economy, stages, dip, lca, union"
    with pytest.raises(ConfigError, match=f"must be one of {names}, got 'nonsense'"):
        run_study("nonsense", 1, (), lambda line: None)
    with pytest.raises(ConfigError, match="--arm: must be one of loop, plain, .* got 'x'"):
        run_study("two-switch", 1, ("loop", "x"), lambda line: None)
    with pytest.raises(ConfigError, match="--arm: the study 'dip' has no such option, got 'keep'"):
        run_study("dip", 1, ("keep",), lambda line: None)
    for name, arms in (("adversary", "plain, harmful"), ("gate-trials", "harmful, good"), ("economy", "all, recorded")):
        with pytest.raises(ConfigError, match=f"--arm: must be one of {arms}.* got 'x'"):
            run_study(name, 1, ("x",), lambda line: None)
