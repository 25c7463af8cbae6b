"""How an answer's schema reaches the provider besides the prompt. What comes back is validated by `answers`.

=====================  ================================================================================================
`json_schema`          OpenAI's strict structured output: `response_format` with `strict_schema`
`function_calling`     a tool whose arguments are the answer, and which must be called
`json_mode`            `response_format: {"type": "json_object"}`
`prompt`               nothing: the schema is in the prompt
=====================  ================================================================================================

`auto` is `json_schema` for the provider `openai` and for every server that speaks its protocol (`base_url`). One that
refuses the request (400, 404, 422, 501, or a 500 that names `response_format`) is asked once more without, and where
that is answered it stays so for the run. Other providers are asked by prompt alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, SecretStr

from ...errors import ModelAnswerError
from ..config import ModelConfig, Structured
from ..rules.chat_model import NAME as RULES
from .ledger import cost_usd
from .parse import MAX_ERROR, clean, json_schema, map_texts, printable
from .providers import build_chat_model
from .rate_limits import Spend
from .retry import AttemptFailed, Failure, describe
from .secrets import Redactor, variables

# ---------------------------------------------------------------- MERGED agents.structured

ANSWER_TOOL = "answer"
# What OpenAI documents for strict schemas. Bounds of texts are not among it; all bounds are in the prompt and checked.
_KEPT = ("type", "enum", "items", "anyOf", "$ref", "description")


def first_method(config: ModelConfig) -> Structured:
    """What `structured` means for this model; never `auto`."""
    if config.provider == "rules":
        return "prompt"
    if config.structured != "auto":
        return config.structured
    return "json_schema" if config.provider == "openai" else "prompt"


def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema in OpenAI's strict form: every property required, none additional, `oneOf` written as
    `anyOf`, constants as an `enum` of one, without titles, defaults and bounds.

    Source: OpenAI, "Structured model outputs", section "Supported schemas".
    """
    strict: dict[str, Any] = _strict(json_schema(model))
    return strict


def bind(
    chat: BaseChatModel, method: Structured, schema: type[BaseModel], tools: Sequence[BaseTool]
) -> Runnable[LanguageModelInput, AIMessage]:
    """`chat` with `tools` offered and the answer's schema sent by `method`."""
    if method == "function_calling":
        offered = [*(convert_to_openai_tool(tool) for tool in tools), _answer_tool(schema)]
        return chat.bind_tools(offered, tool_choice="any" if tools else ANSWER_TOOL)
    sent = _response_format(chat, method, schema)
    if tools:
        return chat.bind_tools(tools, **sent)
    return chat.bind(**sent) if sent else chat


def raw_text(reply: AIMessage, method: Structured) -> str:
    """The text of the answer: the arguments of the answer's tool, or else the reply's text."""
    if method == "function_calling":
        for call in reply.tool_calls:
            if call["name"] == ANSWER_TOOL:
                return json.dumps(call["args"], ensure_ascii=False)
        for broken in reply.invalid_tool_calls:
            if broken["name"] == ANSWER_TOOL:
                return broken["args"] or ""
    return reply.text


def asks_for_tools(reply: AIMessage) -> bool:
    """Whether the reply calls tools of ours and is no answer. Calls that cannot be read make it an invalid answer."""
    names = [call["name"] for call in reply.tool_calls]
    return bool(names) and ANSWER_TOOL not in names and not reply.invalid_tool_calls


def _response_format(chat: BaseChatModel, method: Structured, schema: type[BaseModel]) -> dict[str, Any]:
    if method == "json_schema":
        named = {"name": schema.__name__, "strict": True, "schema": strict_schema(schema)}
        format_: dict[str, Any] = {"type": "json_schema", "json_schema": named}
    elif method == "json_mode":
        format_ = {"type": "json_object"}
    else:
        return {}
    if "extra_body" in type(chat).model_fields:
        # As plain body: given by its own name, OpenAI's client parses the answer itself, raises where it is cut, and
        # refuses tools whose schemas are not strict.
        return {"extra_body": {"response_format": format_}}
    return {"response_format": format_}


def _answer_tool(schema: type[BaseModel]) -> dict[str, Any]:
    function = {"name": ANSWER_TOOL, "description": "Give your answer.", "parameters": json_schema(schema)}
    return {"type": "function", "function": function}


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _strict(value) for key, value in schema.items() if key in _KEPT}
    if "oneOf" in schema:
        kept["anyOf"] = _strict(schema["oneOf"])
    if "const" in schema:
        kept["enum"] = [schema["const"]]
    if "properties" in schema:
        kept["properties"] = {name: _strict(item) for name, item in schema["properties"].items()}
        kept |= {"required": list(schema["properties"]), "additionalProperties": False}
    if "$defs" in schema:
        kept["$defs"] = {name: _strict(item) for name, item in schema["$defs"].items()}
    return kept


# ---------------------------------------------------------------- MERGED agents.link
# DOC """One model of a role's chain: a request to it, and what came back in bounded texts without keys."""

CHARS_PER_TOKEN = 4  # where a provider does not count, and for what a call reserves
MAX_TOKENS = 10**9  # of one call; a provider that counts more does not count
MAX_NAME = 200
REFUSED = (400, 404, 422, 501)  # how servers refuse a response format or tools
BLAMED = "response_format"  # what a 500 names where the server could not read it (llama-cpp-python)


@dataclass(frozen=True)
class Reply:
    """`text`: the raw answer. `model`: as the server names it. Tokens are None where the provider does not count."""

    message: AIMessage
    text: str
    model: str
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True)
class RequestMode:
    """How a request is made: the schema's method, and whether tools are offered where there are some."""

    method: Structured
    tools: bool


class Endpoint:
    """`position`: in the chain, 0 for the role's own model. `chat` replaces what `config` would build. `secrets`:
    environment variables whose values no text may hold, besides those of `config`.

    `method`, `has_tools`: the way to ask that the model is known to take.
    """

    def __init__(
        self,
        config: ModelConfig,
        position: int = 0,
        chat: BaseChatModel | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self.is_rules = config.provider == "rules" and (chat is None or chat._llm_type == RULES)
        if chat is not None and config.provider == "rules" and not self.is_rules:
            config = config.model_copy(update={"provider": chat._llm_type})  # who answers is not the rules
        self.config = config
        self.position = position
        self.method: Structured = first_method(config)
        self._chat = chat
        self.has_tools = True
        self._redactor = Redactor({*variables(config), *secrets}, _keys_in(chat))

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
        if self.is_rules:  # its errors are our bugs
            return self._read(await bind(self.chat, method, schema, tools).ainvoke(messages), method)
        clock = asyncio.timeout(timeout_s)
        try:
            async with clock:
                message = await self._bound(method, schema, tools).ainvoke(messages)
            return self._read(message, method)
        except ModelAnswerError:
            raise
        except Exception as error:  # noqa: BLE001 - every provider package has its own tree of errors
            failure = self._late(timeout_s) if clock.expired() else self._failed(error)
        raise AttemptFailed(failure)  # out here: the package's error may hold the key, so it must not be the context

    def _bound(
        self, method: Structured, schema: type[BaseModel], tools: Sequence[BaseTool]
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The chat model as it is to be asked; one that takes no tools is asked without them from now on."""
        try:
            return bind(self.chat, method, schema, tools)
        except NotImplementedError:  # what LangChain's base class says to `bind_tools`
            if not tools or method == "function_calling":
                raise
        self.has_tools = False
        return bind(self.chat, method, schema, ())

    def simpler(self, way: RequestMode, failure: Failure, offers_tools: bool) -> RequestMode | None:
        """How to ask a server that has refused a request of `way`: without the response format that `auto` chose, then
        without tools; None where there is no simpler way, or where something else has failed."""
        of_format = failure.status == 500 and BLAMED in failure.text
        if failure.status not in REFUSED and not of_format:
            return None
        if self.config.structured == "auto" and way.method == "json_schema":
            return RequestMode("prompt", way.tools)
        if of_format:
            return None
        if offers_tools and way.tools and way.method != "function_calling":  # there the answer itself is a tool's
            return RequestMode(way.method, False)
        return None

    def estimate(self, messages: Sequence[BaseMessage]) -> Spend:
        """What a call may take."""
        if self.is_rules:
            return Spend()
        tokens = sum(map(_chars, messages)) // CHARS_PER_TOKEN
        most = self.config.max_output_tokens
        return Spend(tokens + most, self._cost(self.config.model, tokens, most) or 0.0)

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
        content, redact = message.model_dump(), self._redactor.now()
        tidy = map_texts(content, lambda text: clean(redact(text)))
        return message if tidy == content else AIMessage.model_validate(tidy)

    def _tidy(self, text: str) -> str:
        return clean(self._redactor.text(text))

    def _failed(self, error: Exception) -> Failure:
        said = printable(self._tidy(repr(error)), MAX_ERROR)
        return describe(error, f"provider {self.config.provider!r} failed: {said}")

    def _late(self, timeout_s: float) -> Failure:
        given = f"llm timeout_s {self.config.timeout_s!r}"
        if timeout_s < self.config.timeout_s:
            given = f"the {timeout_s:.3g} s that were its part of llm deadline_s"
        text = f"provider {self.config.provider!r} did not answer within {given}; raise it or use a faster model"
        return Failure(text, "TimeoutError", may_pass=True, billed=True)


def _chars(message: BaseMessage) -> int:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return len(message.text) + (len(json.dumps(calls, default=str, skipkeys=True)) if calls else 0)


def _keys_in(chat: BaseChatModel | None) -> list[str]:
    """The keys that a chat model of the user's own was built with."""
    values = [getattr(chat, name, None) for name in type(chat).model_fields] if chat is not None else []
    return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
