"""An environment for the doctor that does not depend on whoever runs the tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cosignal.agents.llm.hosted_tracing import TRACING_SWITCHES
from cosignal.doctor import addresses, arithmetic, installation
from cosignal.graphs.tracing.otel import ENDPOINTS


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No keys, proxies or tracing of whoever runs the tests; four cores; run directories in a folder of the test."""
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "LANGSMITH_ENDPOINT",
        "LANGSMITH_GATEWAY",
        *TRACING_SWITCHES,
        *ENDPOINTS,
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(addresses, "getproxies", dict)
    monkeypatch.setattr(installation, "cores", lambda: 4)
    monkeypatch.setattr(arithmetic, "cores", lambda: 4)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening
