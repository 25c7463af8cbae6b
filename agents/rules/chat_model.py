"""The embedded default model: a LangChain chat model that is plain rules and no language model.

It reads the role from the system message and the fenced JSON block from the prompt, and answers JSON text in the same
schemas as any model. It needs no key and no network, imports nothing from `rl/`, and names no task, feature or event:
renaming all of them by a bijection maps its answers exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from ...errors import InvalidAnswer
from ..evidence_view import rows_of
from . import critic as rules_critic
from . import generator as rules_generator
from . import ranker as rules_ranker
from .features import Json

NAME = "rules (no language model)"
EVIDENCE_TOOL = "query_trainer"

_ROLE = re.compile(r"^role: (critic|generator|ranker)$", re.MULTILINE)
_BLOCK = re.compile(r"^```json\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_ANSWERS: dict[str, Callable[[Json], Json]] = {
    "critic": rules_critic.diagnosis,
    "generator": rules_generator.proposals,
    "ranker": rules_ranker.ranking,
}
# What reading a block of another shape raises. The block is the work of a template, which may be a user's.
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


class RulesChatModel(BaseChatModel):
    """Answers by rule. As Critic it first asks for evidence with a tool call, where `query_trainer` is bound."""

    @property
    def _llm_type(self) -> str:
        return NAME

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,  # noqa: ARG002 - LangChain's signature
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer `tools`; a call is made for `query_trainer` only. `tool_choice` has no meaning for rules."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - LangChain's signature
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=answer(messages, kwargs.get("tools", [])))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        # Milliseconds of arithmetic: no thread is worth it.
        return self._generate(messages, stop, None, **kwargs)


def answer(messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]]) -> AIMessage:
    """Return the message that follows `messages`: an answer, or the Critic's first tool call.

    Raises:
        InvalidAnswer: no role in the system message or no JSON block in the prompt, or one that does not hold the
            evidence (another template's fault).
    """
    role, block = read_prompt(messages)
    try:
        return _answer(role, block, messages, tools)
    except _UNREADABLE as error:
        raise _unreadable_block(role, error) from error


def _answer(role: str, block: Json, messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]]) -> AIMessage:
    has_asked = any(isinstance(message, ToolMessage) for message in messages)
    is_offered = any(tool["function"]["name"] == EVIDENCE_TOOL for tool in tools)
    if role == "critic" and is_offered and not has_asked:
        call = {"name": EVIDENCE_TOOL, "args": rules_critic.tool_call(block), "id": "call_1", "type": "tool_call"}
        return AIMessage("", tool_calls=[call], response_metadata={"model_name": NAME})
    text = json.dumps(_ANSWERS[role](block), ensure_ascii=False)
    return AIMessage(text, response_metadata={"model_name": NAME})


def read_prompt(messages: Sequence[BaseMessage]) -> tuple[str, Json]:
    """Return role and JSON block of a prompt, its evidence with rows again.

    Raises:
        InvalidAnswer: one is missing, or no JSON, or one that does not hold the evidence.
    """
    # The first of each: what follows is the conversation with the tools.
    system = next((message.text for message in messages if isinstance(message, SystemMessage)), "")
    user = next((message.text for message in messages if isinstance(message, HumanMessage)), "")
    role, block = _ROLE.search(system), _BLOCK.search(user)
    if role is None or block is None:
        raise InvalidAnswer(
            "provider 'rules' needs a line 'role: …' in the system part and one ```json block in the user part of the "
            f"prompt, got role {role and role[1]!r} and {'a' if block else 'no'} block; use a template that has both"
        )
    try:
        found = json.loads(block[1])
        # A question on moves has none.
        return role[1], {**found, "evidence": rows_of(found["evidence"])} if "evidence" in found else found
    except _UNREADABLE as error:
        raise _unreadable_block(role[1], error) from error


def _unreadable_block(role: str, error: Exception) -> InvalidAnswer:
    return InvalidAnswer(
        "provider 'rules' needs one ```json block in the prompt that holds what the role is shown, got another one "
        f"({type(error).__name__}: {error!s:.200}); write {{{{ block | fenced }}}} in the template that "
        f"llm.prompts.{role} names (--prompt), or name a language model by llm.{role}"
    )
