"""One model of a role's chain: a request to it, and what came back in bounded texts without keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from ..errors import ModelAnswerError
from .answers import MAX_ERROR, clean, map_texts, printable
from .config import ModelConfig, Structured
from .door import Spend
from .keys import Redactor, variables
from .prices import cost_usd
from .providers import build_chat_model
from .retry import AttemptFailed, Failure, describe
from .rules import NAME as RULES
from .structured import bind, first_method, raw_text

CHARS_PER_TOKEN = 4  # where a provider does not count, and for what a call reserves
ANSWER_TOKENS = 1_000  # what a call reserves for its answer
MAX_TOKENS = 10**9  # of one call; a provider that counts more does not count
MAX_NAME = 200
REFUSED = (400, 422)  # how servers refuse a response format


@dataclass(frozen=True)
class Reply:
    """`text`: the raw answer. `model`: as the server names it. Tokens are None where the provider does not count."""

    message: AIMessage
    text: str
    model: str
    input_tokens: int | None
    output_tokens: int | None


class Link:
    """`position`: in the chain, 0 for the role's own model. `chat` replaces what `config` would build."""

    def __init__(self, config: ModelConfig, position: int = 0, chat: BaseChatModel | None = None) -> None:
        self.is_rules = config.provider == "rules" and (chat is None or chat._llm_type == RULES)
        if chat is not None and config.provider == "rules" and not self.is_rules:
            config = config.model_copy(update={"provider": chat._llm_type})  # who answers is not the rules
        self.config = config
        self.position = position
        self.method: Structured = first_method(config)
        self._chat = chat
        self._redactor = Redactor(variables(config))

    @property
    def chat(self) -> BaseChatModel:
        """Raises ConfigError where package, model or key is missing."""
        if self._chat is None:
            self._chat = build_chat_model(self.config)
        return self._chat

    async def ready(self) -> None:
        """Build the chat model, in a thread, since it may read files and load packages. Raises like `chat`."""
        if self._chat is None:
            self._chat = await asyncio.to_thread(build_chat_model, self.config)

    async def request(
        self,
        messages: list[BaseMessage],
        schema: type[BaseModel],
        tools: Sequence[BaseTool],
        method: Structured,
        timeout_s: float,
    ) -> Reply:
        """One request, without any retry.

        Raises:
            AttemptFailed: the provider failed, or did not answer within `timeout_s`.
            ModelAnswerError: raised by the chat model itself, as it is.
        """
        runnable = bind(self.chat, method, schema, tools)
        if self.is_rules:
            return self._read(await runnable.ainvoke(messages), method)  # its errors are our bugs
        clock = asyncio.timeout(timeout_s)
        try:
            async with clock:
                message = await runnable.ainvoke(messages)
            return self._read(message, method)
        except ModelAnswerError:
            raise
        except Exception as error:  # noqa: BLE001 - every provider package has its own tree of errors
            failure = self._late(timeout_s) if clock.expired() else self._failed(error)
        raise AttemptFailed(failure)  # out here: the package's error may hold the key, so it must not be the context

    def refuses_format(self, failure: Failure) -> bool:
        """Whether the server may have refused the response format that `auto` chose."""
        return (
            self.config.structured == "auto"
            and self.method == "json_schema"
            and failure.status is not None
            and failure.status in REFUSED
        )

    def estimate(self, messages: Sequence[BaseMessage]) -> Spend:
        """What a call may take."""
        if self.is_rules:
            return Spend()
        tokens = sum(map(_chars, messages)) // CHARS_PER_TOKEN
        return Spend(tokens + ANSWER_TOKENS, self._cost(self.config.model, tokens, ANSWER_TOKENS) or 0.0)

    def charge(self, messages: Sequence[BaseMessage], reply: Reply | None) -> tuple[int, float | None]:
        """Tokens of a call and its US dollars (None: unknown): counted by the provider, else estimated. Without a reply
        it is what the provider has read."""
        if self.is_rules:
            return 0, 0.0
        if reply is not None and reply.input_tokens is not None and reply.output_tokens is not None:
            given, got = reply.input_tokens, reply.output_tokens
        else:
            answer = [reply.message] if reply else []
            got = sum(map(_chars, answer)) // CHARS_PER_TOKEN
            given = sum(map(_chars, [*messages, *answer])) // CHARS_PER_TOKEN - got
        return given + got, self._cost(reply.model if reply else self.config.model, given, got)

    def _cost(self, model: str | None, input_tokens: int, output_tokens: int) -> float | None:
        return cost_usd(self.config, model or "", input_tokens, output_tokens)

    def _read(self, message: AIMessage, method: Structured) -> Reply:
        tidy = self._tidied(message)
        usage = tidy.usage_metadata
        counted = (usage["input_tokens"], usage["output_tokens"]) if usage else (0, 0)
        # Zeros and nonsense are no count: they would make the budget endless.
        sane = all(type(n) is int and 0 <= n <= MAX_TOKENS for n in counted) and sum(counted) > 0
        named = tidy.response_metadata.get("model_name")
        model = printable(named, MAX_NAME) if isinstance(named, str) and named else None
        return Reply(
            message=tidy,
            text=self._tidy(raw_text(tidy, method)),
            model=model or self.config.model or self.config.provider,
            input_tokens=counted[0] if sane else None,
            output_tokens=counted[1] if sane else None,
        )

    def _tidied(self, message: AIMessage) -> AIMessage:
        """`message` itself where its texts are fit to keep, else a copy."""
        content = message.model_dump()
        tidy = map_texts(content, self._tidy)
        return message if tidy == content else AIMessage.model_validate(tidy)

    def _tidy(self, text: str) -> str:
        return clean(self._redactor.text(text))

    def _failed(self, error: Exception) -> Failure:
        said = printable(self._tidy(repr(error)), MAX_ERROR)
        return describe(error, f"provider {self.config.provider!r} failed: {said}")

    def _late(self, timeout_s: float) -> Failure:
        name, given = "timeout_s", self.config.timeout_s
        if timeout_s < given:
            name, given = "deadline_s", self.config.deadline_s
        text = (
            f"provider {self.config.provider!r} did not answer within llm {name} {given!r}; "
            "raise it or use a faster model"
        )
        return Failure(text, "TimeoutError", may_pass=True, billed=True)


def _chars(message: BaseMessage) -> int:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return len(message.text) + (len(json.dumps(calls)) if calls else 0)
