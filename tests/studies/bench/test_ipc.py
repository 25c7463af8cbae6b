"""The arithmetic of `bench ipc`, and one tiny real run with a trainer process."""

from __future__ import annotations

import json

import pytest
from cosignal.studies.bench.ipc import idle_poll_s, poll_metrics, round_trip_metrics, run_ipc

KEYS = {
    "round_trip_ms_p50", "round_trip_ms_p99", "evidence_ms_p50", "evidence_ms_p99", "echo_ms_p50", "echo_ms_p99",
    "round_trip_to_echo", "idle_poll_us", "update_ms", "idle_poll_share",
}  # fmt: skip


def test_metrics_by_hand() -> None:
    """Status requests of 1 to 101 ms: the median is 51, and 100 is the 99th percentile."""
    found = round_trip_metrics(
        {"round_trip": [x / 1000 for x in range(1, 102)], "evidence": [0.002], "echo": [0.017, 0.017]}
    )
    assert (found["round_trip_ms_p50"], found["round_trip_ms_p99"], found["evidence_ms_p50"]) == (51.0, 100.0, 2.0)
    assert found["round_trip_to_echo"] == 3.0
    assert poll_metrics(5e-6, 0.05) == {"idle_poll_us": 5.0, "update_ms": 50.0, "idle_poll_share": 0.0001}


def test_nobody_asks() -> None:
    assert idle_poll_s(10) > 0


@pytest.mark.integration
def test_a_tiny_run_has_all_keys() -> None:
    found = run_ipc(lambda line: None, requests=8, polls=10, updates=1)
    assert set(found) == {"name", "config", "device", "threads", "blas", "commit", "metrics"}
    assert set(found["metrics"]) == KEYS
    assert 0 < found["metrics"]["round_trip_ms_p50"] <= found["metrics"]["round_trip_ms_p99"]
    json.dumps(found)
