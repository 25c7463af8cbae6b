"""Asking one question over real HTTP, of a server that misbehaves on order."""

from __future__ import annotations

import json
from typing import Any

from cosignal.agents.config import LimitsConfig, ModelConfig
from cosignal.agents.llm.ledger import Call, Place
from cosignal.agents.llm.model_call import Answered, Question
from cosignal.agents.llm.models import RoleModel
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.agents.schemas import Diagnosis
from cosignal.errors import InvalidAnswer, ModelAnswerError, ProviderError
from cosignal.prompts import Rendered
from cosignal.testing import MisbehavingServer
from langchain_core.tools import tool

KEY = 'sk-very"secret/key'  # with characters that JSON and URLs write differently
PROMPT = Rendered("critic/v1", "0" * 64, "role: critic", "What is wrong?")
FINDING = {"failure": "plateau", "cites": ["sparse.trend"], "explanation": "flat"}
GOOD = json.dumps({"findings": [FINDING], "advice": ""})
PROPOSAL = {"title": "t", "reason": "r", "addresses": ["plateau"], "beta": 0.5, "exploration": {}}
GOOD_SET = json.dumps({"proposals": [{**PROPOSAL, "terms": []}]})


def config(server: MisbehavingServer, **changes: Any) -> ModelConfig:
    told: dict[str, Any] = {"model": "tiny", "base_url": server.url, "timeout_s": 5.0, "deadline_s": 30.0} | changes
    return ModelConfig(provider="openai", api_key_env="MY_KEY", **told)


def question(**more: Any) -> Question[Diagnosis]:
    return Question(Place(16, 1), PROMPT, Diagnosis, **more)


async def built(model: RoleModel) -> RoleModel:
    """Its clients take part of a second to build, which must not eat the short deadlines of these tests."""
    for endpoint in model.endpoints:
        await endpoint.ready()
    return model


async def asked(
    server: MisbehavingServer, rows: list[Call], budget: CallBudget | None = None, **changes: Any
) -> Answered[Diagnosis] | ModelAnswerError:
    """What one question ends in; `rows` gets its ledger rows."""
    model = await built(
        RoleModel("critic", config(server, **changes), budget or CallBudget(LimitsConfig()), rows.append)
    )
    try:
        return await model.ask(question())
    except (ProviderError, InvalidAnswer) as error:  # nothing else may come out
        return error


def parsed(end: Answered[Diagnosis] | ModelAnswerError) -> bool:
    return isinstance(end, Answered) and isinstance(end.parsed, Diagnosis)


@tool
def look(what: str, often: int = 1) -> str:
    """Look at something."""
    return what * often
