"""Prompts stay on this machine whatever the environment asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from cosignal.agents.config import LLMConfig
from cosignal.agents.llm.hosted_tracing import tracing_variables
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession
from langchain_core.tracers.langchain import LangChainTracer
from langsmith.utils import get_env_var
from loop_runs import first_helps


@pytest.fixture
def tracers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An environment that asks LangChain to post prompts; one entry for each time that it tries to. What the tracer's
    constructor raises does not count: LangChain logs it and goes on."""
    made: list[str] = []

    def refuse(self: Any, *_: Any, **__: Any) -> None:
        made.append("tracer")
        raise AssertionError("tests post nothing")

    get_env_var.cache_clear()
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setattr(LangChainTracer, "__init__", refuse)
    yield made
    get_env_var.cache_clear()


async def test_prompts_are_not_posted_anywhere(tmp_path: Path, tracers: list[str]) -> None:
    assert tracing_variables() == ["LANGSMITH_TRACING"]
    trainer = FakeTrainer(tmp_path)
    await LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, first_helps)).run()
    assert trainer.log
    assert tracers == []


async def test_with_llm_tracing_they_are(tmp_path: Path, tracers: list[str]) -> None:
    session = LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, first_helps))
    session.config = session.config.model_copy(update={"llm": LLMConfig(tracing=True)})
    await session.run()
    assert tracers


async def test_without_the_protection_they_would_be(
    tmp_path: Path, tracers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosignal.graphs.session.graph_runner.tracing_context", lambda **_: nullcontext())
    await LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, first_helps)).run()
    assert tracers
