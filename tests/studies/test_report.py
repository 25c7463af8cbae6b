"""The table of a study."""

from __future__ import annotations

from typing import Any

from cosignal.studies.report import COLUMNS, markdown_table


def test_a_table_has_a_line_an_arm_and_the_comparisons_below() -> None:
    row: Any = {"statement": "x", "verdict": "measured", "seeds": 2, "mean": 0.5, "ci95": [0.1, 0.9]}
    rows: list[Any] = [{**row, "id": f"plain.{field}"} for field in COLUMNS]
    rows[1] |= {"mean": 387_000.0, "ci95": [254_000, 637_000], "censored": 1}
    rows.append({**row, "id": "T-1", "statement": "it helps", "verdict": "weaker"})
    lines = markdown_table(rows).splitlines()
    assert lines[2].startswith("| plain | 0.50 [0.10, 0.90] | 387k [254k, 637k] c1 |")
    assert lines[-1] == "T-1, it helps: **weaker**, 0.50 [0.10, 0.90], n = 2."
    other = markdown_table([{**row, "id": "a.x"}, {**row, "id": "b.y"}], {"x": "ex", "y": "why"}, "arms").splitlines()
    assert other[0] == "| arms | ex | why |" and other[2:] == [
        "| a | 0.50 [0.10, 0.90] | – |",
        "| b | – | 0.50 [0.10, 0.90] |",
    ]
