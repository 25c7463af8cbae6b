"""Every stage of the closed list, from histories made by hand."""

from __future__ import annotations

import pytest
from cosignal.rl.stage import WINDOW_STEPS, HistoryRow, stage_of, window


def history(*windows: tuple[float, float]) -> list[HistoryRow]:
    """Two updates a window, each with one episode: (return, success rate) of each window."""
    half = WINDOW_STEPS // 2
    rows: list[HistoryRow] = []
    for index, (value, success) in enumerate(windows):
        for update in (1, 2):
            rows.append({
                "steps": index * WINDOW_STEPS + update * half, "episodes": 1, "returns": value, "success": success,
                "entropy": [1.0], "no_effect": [0.1], "actions": [[1.0]], "terms": {}, "reward_abs": 0.1,
            })  # fmt: skip
    return rows


def stage(*windows: tuple[float, float], has_success: bool = True) -> str:
    return stage_of(
        history(*windows), start_return=windows[0][0] if windows else None,
        best_return=max((v for v, _ in windows), default=None), margin=0.1, has_success=has_success,
        return_range=(-1.0, 4.0),
    )[0]  # fmt: skip


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ((), "exploring"),
        (((0.2, 0.0),), "exploring"),  # too early to compare
        (((0.2, 0.0), (0.25, 0.0), (0.2, 0.0)), "exploring"),  # flat where it started
        (((0.2, 0.0), (0.5, 0.0)), "emerging"),
        (((0.2, 0.0), (1.0, 0.3)), "improving"),
        (((0.2, 0.0), (1.0, 0.0), (1.05, 0.0)), "plateaued"),
        (((0.2, 0.0), (2.0, 0.5), (1.0, 0.1)), "regressing"),
        (((0.2, 0.0), (2.0, 0.5), (1.0, 0.1), (1.6, 0.3)), "improving"),  # below its best, but on its way back
        (((0.2, 0.0), (3.6, 0.95)), "converged"),
    ],
)
def test_stage_by_rule(windows: tuple[tuple[float, float], ...], expected: str) -> None:
    assert stage(*windows) == expected


def test_without_a_success_test_competence_is_the_place_in_the_range() -> None:
    # range −1 … 4: 3.8 is at 0.96, 1.0 at 0.4, −0.5 at 0.1
    assert stage((0.0, 0.0), (3.8, 0.0), has_success=False) == "converged"
    assert stage((0.0, 0.0), (1.0, 0.0), has_success=False) == "improving"
    assert stage((-0.9, 0.0), (-0.5, 0.0), has_success=False) == "emerging"


def test_window_weighs_updates_by_their_episodes() -> None:
    rows = history((1.0, 0.0))
    rows[1] |= {"episodes": 3, "returns": 2.0, "success": 1.0}
    found = window(rows, WINDOW_STEPS)
    assert found is not None
    assert (found.episodes, found.returns, found.success) == (4, 1.75, 0.75)
    assert window(rows, 10 * WINDOW_STEPS) is None
