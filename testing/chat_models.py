"""Chat models that answer from a script, and a role's model on top of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from ..agents.config import LimitsConfig, ModelConfig, Role
from ..agents.llm.ledger import Call
from ..agents.llm.models import RoleModel
from ..agents.llm.rate_limits import CallBudget


class ScriptedChatModel(BaseChatModel):
    """Answers request by request what its script holds. It is asynchronous only, as the loop is.

    Attributes:
        script: what is left to answer, first item first: a text or an `AIMessage` is the answer, a float sleeps that
            many seconds and then answers "late", an exception is raised. An empty script raises IndexError.
        seen: the messages of every request so far, in order.
    """

    script: list[Any]
    seen: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.bind(tools=list(tools))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise AssertionError("the loop is asynchronous: await the model's `ainvoke`")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.seen.append(list(messages))
        # an IndexError that says which answer is missing
        if not self.script:
            raise IndexError(f"the script has no answer to request {len(self.seen)}; add one")
        item = self.script.pop(0)
        if isinstance(item, float):
            await asyncio.sleep(item)
            item = "late"
        if isinstance(item, Exception):
            raise item
        message = item if isinstance(item, AIMessage) else AIMessage(item)
        return ChatResult(generations=[ChatGeneration(message=message)])


def role_model(
    role: Role,
    script: list[Any] | None = None,
    limits: LimitsConfig | None = None,
    record: Callable[[Call], None] = lambda _: None,
    timeout_s: float = 5.0,
) -> RoleModel:
    """Return a role on a scripted chat model, or on the embedded rules.

    Args:
        role: "critic", "generator" or "ranker".
        script: the answers, as `ScriptedChatModel.script` takes them; None for the embedded rules.
        limits: pace and budgets of the calls; the defaults of `llm.limits` where None.
        record: is given the ledger row of every attempt.
        timeout_s: how many seconds one request to the scripted model may take.
    """
    budget = CallBudget(limits or LimitsConfig())
    if script is None:
        return RoleModel(role, ModelConfig(), budget, record)
    config = ModelConfig(provider="scripted", model="s", timeout_s=timeout_s)
    return RoleModel(role, config, budget, record, chat=ScriptedChatModel(script=script))
