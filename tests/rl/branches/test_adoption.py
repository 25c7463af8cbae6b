"""The rule of what a promotion takes over."""

from __future__ import annotations

from typing import Any

import pytest
from cosignal.rl.branches.adoption import choose_adopt, winning_seed


@pytest.mark.parametrize(
    ("stage", "success", "competence", "adopted"),
    [
        ("plateaued", 0.0, None, "state"),
        ("plateaued", 0.1, None, "state"),
        ("plateaued", 0.9, None, "signal"),
        ("regressing", 0.19, None, "state"),
        ("improving", 0.1, None, "signal"),
        ("exploring", 0.0, 0.9, "state"),
        ("improving", None, 0.5, "signal"),
        ("exploring", None, None, "state"),
    ],
)
def test_what_is_adopted(stage: Any, success: float | None, competence: float | None, adopted: str) -> None:
    assert choose_adopt("auto", stage, success, competence) == adopted
    assert choose_adopt("winner", stage, success, competence) == "state"
    assert choose_adopt("signal", stage, success, competence) == "signal"


def test_winning_seed() -> None:
    assert winning_seed({3: 2.0, 1: 2.5, 0: 1.0, 2: 2.5}) == 1
