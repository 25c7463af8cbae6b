"""The benchmark of signals: every kind of term is measured beside none."""

from __future__ import annotations

from cosignal.rl.signals.terms import TERM_KINDS
from cosignal.studies.bench.signals import KINDS, run_signals


def test_every_kind_is_measured() -> None:
    told: list[str] = []
    metrics = run_signals(told.append, rounds=1, round_s=0.01)["metrics"]
    # what an event costs is what any column of an array does
    assert set(TERM_KINDS) - {"event"} <= set(KINDS)
    assert list(metrics) == ["none", *KINDS]
    assert metrics["none"]["ratio"] == 1.0
    assert all(row["steps_per_core_s"] > 0 for row in metrics.values())
    # a network for each of two agents, and a critic of the sparse return
    assert metrics["separate networks"]["state_kb"] > metrics["none"]["state_kb"]
    assert metrics["blend"]["state_kb"] > metrics["potential"]["state_kb"]
    assert len(told) == 1 + len(KINDS)
