"""What tests of providers over HTTP share."""

from __future__ import annotations

import pytest
from asking import KEY
from cosignal.agents.llm import retry


@pytest.fixture
def quick_and_keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_S", 0.001)
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
