"""The arithmetic of `make bench-peers`; JaxMARL itself is not installed here."""

from __future__ import annotations

import os
from typing import Any

import pytest
from cosignal.studies.bench import peers


def test_the_products_of_an_agent_step_by_hand() -> None:
    """Actor 20·64 + 64² + 64·5, critic 20·64 + 64² + 64, one pass and eight more; below the head 2·64² + 64·6, four."""
    assert peers.flop_of_agent_step(20, 5) == 2 * (9 * (5696 + 5440) + 4 * 8576)


@pytest.mark.parametrize("in_torch", [False, True])
def test_the_products_alone_are_those_of_one_update(in_torch: bool) -> None:
    assert peers.products_of_update(2, 8, in_torch)() == 2 * 8 * 2


def test_ratios_are_taken_run_by_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours 100, 200, 300 thousand beside theirs 100, 50, 100: ratios 1, 4, 3. Only one child is told a core type."""
    told: list[str] = []
    variables: list[dict[str, str]] = []
    ours, theirs = iter([100e3, 200e3, 300e3]), iter([100e3, 50e3, 100e3])

    def child(command: list[str], given: dict[str, str]) -> dict[str, Any]:
        variables.append(given)
        return {"train": 1.0 if given else next(ours), "environment": 1e6}

    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(peers, "SIZES", ((16, 128),))
    monkeypatch.setattr(peers, "child", child)
    monkeypatch.setattr(peers, "theirs", lambda *_: {"train": next(theirs), "environment": 1e6})
    peers.compare("python", told.append, runs=3)
    assert [line.split()[-3:] for line in told if line.startswith("  cosignal   ") and "JaxMARL" in line] == [
        ["3.0", "[1.0,", "4.0]"]
    ]
    assert variables == [{}, {peers.CORETYPE: "Haswell"}] * 3
