"""Two runs in one process, one after the other, that ask the same server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import cosignal
import pytest
from cosignal import RunConfig, RunView
from cosignal.testing import MisbehavingServer
from cosignal.testing.server import ChatRequestHandler, says
from langchain_openai import ChatOpenAI
from short_runs import SHORT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

NOTHING = {"findings": [{"failure": "insufficient_evidence", "cites": [], "explanation": "Enough was seen."}]}


def test_each_asks_with_connections_of_its_own_and_closes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays open at the end of an event loop is a warning, and so an error in these tests."""
    monkeypatch.setattr(ChatRequestHandler, "protocol_version", "HTTP/1.1")  # connections stay open

    async def train(chat: ChatOpenAI) -> Path:
        config = RunConfig.model_validate(settings)
        async with cosignal.start(config, chat_models={"critic": chat}) as run:
            return (await run.result()).path

    with MisbehavingServer(says(json.dumps(NOTHING))) as server:
        settings = {**SHORT, "run_dir": tmp_path, "trainer": {**SHORT["trainer"], "steps": 2_560}}
        settings["llm"] = {"generator": {"provider": "openai", "model": "tiny", "base_url": server.url}}
        chat = ChatOpenAI(model="tiny", base_url=server.url, api_key="k", max_retries=0, use_responses_api=False)
        for _ in range(2):
            path = asyncio.run(train(chat))
            outcomes = [call.outcome for call in RunView(path).calls()]
            assert set(outcomes) == {"ok"}
