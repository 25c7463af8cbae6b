"""The rows of the study stages, on runs made by hand."""

from __future__ import annotations

from typing import Any

import pytest
from cosignal.studies import stages
from cosignal.studies.loop_arms import LoopRun
from made_up_outcomes import loop_run, outcome, rows_by_id

Json = dict[str, Any]


def signals(*entries: tuple[int, int]) -> list[Json]:
    """(main steps, terms that stay)."""
    return [{"steps": steps, "staying": staying} for steps, staying in entries]


def test_when_shaping_was_taken_away() -> None:
    def log(*entries: tuple[int, int]) -> LoopRun:
        return loop_run(outcome("auto", 1), signals=signals(*entries))

    plain, kept, faded = log((0, 0)), log((0, 0), (300, 2)), log((0, 0), (300, 2), (700, 0))
    assert (stages.shaped_at(plain), stages.removed_at(plain)) == (None, None)
    assert (stages.shaped_at(kept), stages.removed_at(kept)) == (300, None)
    assert (stages.shaped_at(faded), stages.removed_at(faded)) == (300, 700)
    back = log((0, 0), (300, 2), (700, 0), (800, 0), (900, 2))  # a removal that was rolled back
    assert stages.removed_at(back) is None
    assert stages.removed_at(log((0, 0), (300, 2), (700, 0), (800, 0))) == 700


def test_the_return_after_the_removal() -> None:
    curve = [[300, 1.0, 0.0], [500, 3.6, 1.0], [700, 3.8, 1.0], [800, 3.7, 1.0], [900, 3.9, 1.0]]
    gone = loop_run(outcome("auto", 1), signals=signals((0, 0), (300, 2), (700, 0)), curve=curve)
    rows = rows_by_id(stages.removal_rows([gone, loop_run(outcome("auto", 2), signals=signals((0, 0)))]))
    assert (rows["S-1"]["mean"], rows["S-1"]["seeds"]) == (1.0, 1)
    assert rows["S-2"]["mean"] == pytest.approx((3.7 + 3.9) / 2 - (3.6 + 3.8) / 2)


def test_knowing_the_stage_is_compared_seed_by_seed() -> None:
    auto = [loop_run(outcome("auto", seed)) for seed in (1, 2, 3)]
    later = [loop_run(outcome("improving", s, steps_total=5_000_000, main_to_90=400_000)) for s in (1, 2, 3)]
    rows = rows_by_id(stages.paired_rows("improving", later, auto))
    assert rows["auto − improving: main"]["mean"] == -100_000
    assert rows["auto − improving: main"]["verdict"] == "worth it"
    assert rows["auto − improving: solved"]["verdict"] == "worth nothing that shows"
    worse = [loop_run(outcome("auto", s, final)) for s, final in ((1, 3.7), (2, 3.6), (3, 3.5))]
    rows = rows_by_id(stages.paired_rows("improving", later, worse))
    assert (rows["auto − improving: return"]["mean"], rows["auto − improving: return"]["verdict"]) == (-0.2, "harmful")
    alone = rows_by_id(stages.paired_rows("improving", later[:1], auto[:1]))
    assert {row["verdict"] for row in alone.values()} == {"one seed shows nothing"}
