"""Which signals only take away from the one in force."""

from __future__ import annotations

from typing import Any

import pytest
from cosignal.rl.signals.signal import EventTerm, PotentialTerm, Signal, is_removal


def potential(**more: Any) -> PotentialTerm:
    return PotentialTerm(**{"name": "phi", "expression": "dist", "weight": 2, **more})


BONUS = EventTerm(name="e", event="found")


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (potential(anneal_steps=50_000), potential(), True),
        (potential(anneal_steps=50_000, weight=1), potential(), True),
        (potential(anneal_steps=20_000), potential(anneal_steps=50_000), True),
        (potential(anneal_steps=80_000), potential(anneal_steps=50_000), False),
        (potential(), potential(anneal_steps=50_000), False),  # it stays for good
        (potential(anneal_steps=50_000, weight=3), potential(), False),
        (potential(anneal_steps=50_000, weight=-1), potential(), False),
        (potential(anneal_steps=50_000, expression="seen"), potential(), False),
    ],
)
def test_annealing_only_takes_away(new: PotentialTerm, old: PotentialTerm, expected: bool) -> None:
    assert is_removal(Signal(terms=(new, BONUS)), Signal(terms=(old, BONUS))) is expected


def test_nothing_left_is_a_removal_and_nothing_changed_is_none() -> None:
    annealing = Signal(terms=(potential(anneal_steps=50_000),))
    assert is_removal(Signal(), annealing)
    assert not is_removal(annealing, annealing)
