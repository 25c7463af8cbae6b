"""One model of a role's chain: how a request is made, and the reply as bounded texts without keys.

How the schema of an answer reaches the provider, besides the prompt. `parse` validates the reply in any case.

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
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, SecretStr

from ...errors import ModelAnswerError, ProviderError
from ...text import cut, printable
from ..config import ModelConfig, Role, Structured
from ..rules.chat_model import NAME as RULES
from .completion import NoCompletion
from .endings import Ending, end_reason, ending, refusal
from .explain import describe, remedy
from .extract import ending_object
from .ledger import cost_usd
from .parse import MAX_ERROR, encodable, json_schema, map_texts
from .providers import build_chat_model
from .rate_limits import Spend
from .retry import AttemptFailed, ProviderFailure, classify
from .secrets import Redactor, model_key_variables

CHARS_PER_TOKEN = 4  # where a provider does not count, and for what a call reserves
MAX_TOKENS = 10**9  # of one call; a provider that counts more does not count
MAX_NAME = 200  # characters of a model's name
REFUSED = (400, 404, 422, 501)  # how servers refuse a response format or tools
BLAMED = "response_format"  # what a 500 names where the server could not read it (llama-cpp-python)
ANSWER_TOOL = "answer"
SHORT_OF_LIMIT = 0.9  # of max_output_tokens; a reply that was cut with fewer met another bound
# What OpenAI documents for strict schemas. Bounds of texts are not among it; all bounds are in the prompt and checked.
_STRICT_KEYS = ("type", "enum", "items", "anyOf", "$ref", "description")


@dataclass(frozen=True)
class Reply:
    """A model's reply to one request.

    Attributes:
        message: the reply with texts that are fit to keep.
        text: the raw answer.
        model: name of the model, as the server gives it.
        input_tokens, output_tokens: None where the provider does not count.
        ending: how it ended.
    """

    message: AIMessage
    text: str
    model: str
    input_tokens: int | None
    output_tokens: int | None
    ending: Ending = "whole"


@dataclass(frozen=True)
class Charge:
    """Tokens of one call and its US dollars, None where no price is known."""

    tokens: int
    usd: float | None

    @property
    def spend(self) -> Spend:
        return Spend(self.tokens, self.usd or 0.0)


@dataclass(frozen=True)
class RequestMode:
    """The form of a request: the method by which the schema is sent, and whether tools are offered."""

    method: Structured
    tools: bool


class Endpoint:
    """One model of a role's chain. It makes single requests and never retries.

    Args:
        config: which model.
        position: place in the chain, 0 for the role's own model.
        chat: a chat model that replaces what `config` would build.
        secrets: environment variables whose values no text may hold, besides those of `config`.

    Attributes:
        mode: the request mode that the model is known to accept.
    """

    def __init__(
        self,
        config: ModelConfig,
        position: int = 0,
        chat: BaseChatModel | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        # Where the config says `rules` and the user has built a chat model, that model answers.
        self.is_rules = config.provider == "rules" and (chat is None or chat._llm_type == RULES)
        if chat is not None and config.provider == "rules" and not self.is_rules:
            config = config.model_copy(update={"provider": chat._llm_type})  # it is not the rules that answer
        self.config = config
        self.position = position
        self.mode = RequestMode(schema_method(config), tools=True)
        self._given = chat
        self._chat: BaseChatModel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # whose connections the chat model has
        self._building = asyncio.Lock()
        # A chat model of the user's own may have been built with a key that is in no variable.
        fields = [getattr(chat, name, None) for name in type(chat).model_fields] if chat is not None else []
        keys = [value.get_secret_value() for value in fields if isinstance(value, SecretStr)]
        self._redactor = Redactor({*model_key_variables(config), *secrets}, keys)

    @property
    def chat(self) -> BaseChatModel:
        """The chat model, built at the first use. Raises ConfigError where package, model or key is missing."""
        # Usually `ready` has built it.
        if self._chat is None:
            self._chat = self._build()
        return self._chat

    @property
    def has_temperature(self) -> bool:
        """Whether the chat model has a sampling temperature that can be set."""
        return "temperature" in type(self.chat).model_fields

    def _at(self, temperature: float | None) -> BaseChatModel:
        """Return the chat model at this temperature; the copy shares the connections."""
        if temperature is None or not self.has_temperature:
            return self.chat
        return self.chat.model_copy(update={"temperature": temperature})

    async def ready(self, end: float | None = None) -> None:
        """Build the chat model for the running event loop, in a thread, since it may read files and load packages.

        Args:
            end: time of the event loop at which to give up.

        Raises:
            ConfigError: package, model or key is missing.
            ProviderError: it took too long.
        """
        loop = asyncio.get_running_loop()
        # Connections of an earlier loop can neither be used nor closed any more.
        if self._loop is not loop:
            self._chat, self._loop, self._building = None, loop, asyncio.Lock()
        try:
            # Of questions that come at once the first one builds it.
            async with asyncio.timeout_at(end), self._building:
                if self._chat is None:
                    self._chat = await asyncio.to_thread(self._build)
        except TimeoutError:
            text = f"provider {self.config.provider!r} was not set up within llm deadline_s; raise it"
            raise ProviderError(text) from None

    def _build(self) -> BaseChatModel:
        chat = build_chat_model(self.config) if self._given is None else self._given
        package = sys.modules.get("langchain_openai.chat_models.base")  # if it is one of its, the package is there
        if package is None or not isinstance(chat, package.BaseChatOpenAI):
            return chat
        from .openai_chat import with_own_client

        return with_own_client(chat)

    async def aclose(self) -> None:
        """Close the connections; the next question opens others. What the caller has made stays as it is."""
        chat, self._chat = self._chat, None
        client = getattr(chat, "root_async_client", None)
        if client is not None and chat is not self._given and self._loop is asyncio.get_running_loop():
            await client.close()

    async def request(
        self,
        messages: list[BaseMessage],
        schema: type[BaseModel],
        tools: Sequence[BaseTool],
        mode: RequestMode,
        timeout_s: float,
        temperature: float | None = None,
        narrow_schema: dict[str, Any] | None = None,
    ) -> Reply:
        """Make one request, without any retry.

        Args:
            messages, schema, tools, mode: what is asked, and how.
            timeout_s: seconds that it may take.
            temperature: takes the place of the model's own, if it has one.
            narrow_schema: is sent in place of the schema's own JSON schema.

        Raises:
            AttemptFailed: the provider failed, or did not answer within `timeout_s`.
            ModelAnswerError: raised by the chat model itself, as it is.
        """
        tools = tools if mode.tools else ()
        sent = narrow_schema or json_schema(schema)
        if self.is_rules:  # a failure of the rules is a bug of ours and passes through
            return self.read(
                await bind(self.chat, mode.method, sent, schema.__name__, tools).ainvoke(messages), mode.method
            )
        # The timer tells our own timeout from one that the package raises.
        timer = asyncio.timeout(timeout_s)
        try:
            async with timer:
                model = self._at(temperature)
                try:
                    chat = bind(model, mode.method, sent, schema.__name__, tools)
                except NotImplementedError:  # LangChain's base class raises it in `bind_tools`
                    if not tools or mode.method == "function_calling":
                        raise
                    # A chat model that takes no tools is asked without them from now on.
                    self.mode = replace(self.mode, tools=False)
                    chat = bind(model, mode.method, sent, schema.__name__, ())
                message = await chat.ainvoke(messages)
            return self.read(message, mode.method)
        except ModelAnswerError:
            raise
        except Exception as error:  # noqa: BLE001 - every provider package has its own tree of errors
            provider = self.config.provider
            if timer.expired():
                limit = f"llm timeout_s {self.config.timeout_s!r}"
                if timeout_s < self.config.timeout_s:
                    limit = f"the {timeout_s:.3g} s that were its part of llm deadline_s"
                text = f"provider {provider!r} did not answer within {limit}; raise it or use a faster model"
                failure = ProviderFailure(text, "TimeoutError", may_pass=True, billed=True)
            else:
                text = printable(cut(self._clean(describe(error)), MAX_ERROR))
                failure = classify(error, f"provider {provider!r} failed: {text}")
                advice = remedy(error, failure.status, self.config)
                failure = replace(failure, text=f"{failure.text}; {advice}") if advice else failure
        raise AttemptFailed(failure)  # out here: the package's error may hold the key, so it must not be the context

    def read(self, message: AIMessage, method: Structured) -> Reply:
        """Return the reply that `message` is, its texts without keys and fit to be stored."""
        # Redacted everywhere in the message: a server may repeat the key in tool calls or metadata.
        content, redact = message.model_dump(), self._redactor.function()
        cleaned = map_texts(content, lambda text: encodable(redact(text)))
        if cleaned != content:
            message = AIMessage.model_validate(cleaned)
        # Tokens, as far as they can be believed.
        usage = message.usage_metadata
        counts = (usage["input_tokens"], usage["output_tokens"]) if usage else (0, 0)
        # Zeros and nonsense are no count: they would make the budget endless.
        is_count = all(type(n) is int and 0 <= n <= MAX_TOKENS for n in counts) and sum(counts) > 0
        # The server's own name for the model, which is what its price is looked up by.
        name = message.response_metadata.get("model_name")
        model = printable(cut(name, MAX_NAME)) if isinstance(name, str) and name else None
        return Reply(
            message=message,
            text=self._clean(answer_text(message, method)),
            model=model or self.config.model or self.config.provider,
            input_tokens=counts[0] if is_count else None,
            output_tokens=counts[1] if is_count else None,
            ending=ending(message),
        )

    def failure_in(self, reply: Reply) -> ProviderFailure | None:
        """Return why a reply is no answer, whatever it says: withheld by the provider or the model, or failed."""
        if reply.ending not in ("withheld", "failed"):
            return None
        said = refusal(reply.message) or reply.text.strip()
        words = f": {printable(cut(said, MAX_ERROR // 4))}" if said else ""
        reason = end_reason(reply.message) or "not given"
        text = f"provider {self.config.provider!r} gave no answer (finish_reason {reason!r:.80}){words}"
        if reply.ending == "failed":
            return ProviderFailure(text, NoCompletion.__name__, may_pass=True, billed=True)
        text = f"{text}; use another model, or name one as fallback"
        return ProviderFailure(text, NoCompletion.__name__, billed=True)

    def explain_cut(self, reply: Reply, role: Role) -> str:
        """Return what to raise where a reply was cut at its length."""
        limit, tokens = self.config.max_output_tokens, reply.output_tokens
        key = f"llm.{role}.max_output_tokens" if self.position == 0 else "max_output_tokens of the fallback"
        counted = f"{tokens} tokens" if tokens is not None else "its length"
        nothing = "" if reply.text.strip() else ", with nothing but thinking until then"
        text = f"the answer was cut at {counted} (finish_reason {end_reason(reply.message)!r:.80}){nothing}"
        if tokens is not None and tokens < SHORT_OF_LIMIT * limit:
            own = f"{key} is {limit}, so it was the server's own bound or its context (num_ctx, --n_ctx, max_model_len)"
            return f"{text}; {own}: raise that"
        return f"{text}; raise {key}, {limit} now (in llm.default where the role has no model of its own)"

    def downgraded(self, mode: RequestMode, failure: ProviderFailure, offers_tools: bool) -> RequestMode | None:
        """Return the next simpler mode for a server that has refused a request of `mode`.

        First the response format that `auto` chose is left out, then the tools. None where there is no simpler mode,
        or where something else has failed.
        """
        blames_format = failure.status == 500 and BLAMED in failure.text
        if failure.status not in REFUSED and not blames_format:
            return None
        # A method that the config demands is not taken back.
        if self.config.structured == "auto" and mode.method == "json_schema":
            return replace(mode, method="prompt")
        if blames_format:
            return None
        if offers_tools and mode.tools and mode.method != "function_calling":  # there the answer itself is a tool's
            return replace(mode, tools=False)
        return None

    def estimate(self, messages: Sequence[BaseMessage]) -> Spend:
        """Return the most that a call with these messages may take."""
        if self.is_rules:
            return Spend()
        # The prompt as long as it is, and the longest answer that is allowed.
        tokens = sum(map(_chars, messages)) // CHARS_PER_TOKEN
        answer_tokens = self.config.max_output_tokens
        usd = cost_usd(self.config, self.config.model or "", tokens, answer_tokens)
        return Spend(tokens + answer_tokens, usd or 0.0)

    def charge(self, messages: Sequence[BaseMessage], reply: Reply | None = None) -> Charge:
        """Return what a call took: counted by the provider, else estimated; without a reply, what it has read."""
        if self.is_rules:
            return Charge(0, 0.0)
        if reply is not None and reply.input_tokens is not None and reply.output_tokens is not None:
            input_tokens, output_tokens = reply.input_tokens, reply.output_tokens
        else:
            # Rounded so that input and output together are the estimate of the whole text.
            answer = [reply.message] if reply else []
            output_tokens = sum(map(_chars, answer)) // CHARS_PER_TOKEN
            input_tokens = sum(map(_chars, [*messages, *answer])) // CHARS_PER_TOKEN - output_tokens
        model = reply.model if reply else self.config.model
        return Charge(input_tokens + output_tokens, cost_usd(self.config, model or "", input_tokens, output_tokens))

    def _clean(self, text: str) -> str:
        return encodable(self._redactor.redact(text))


def _chars(message: BaseMessage) -> int:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return len(message.text) + (len(json.dumps(calls, default=str, skipkeys=True)) if calls else 0)


# ---------------------------------------------------------------- sending the schema, finding the answer


def schema_method(config: ModelConfig) -> Structured:
    """Return what `structured` means for this model; never `auto`."""
    if config.provider == "rules":
        return "prompt"
    if config.structured != "auto":
        return config.structured
    return "json_schema" if config.provider == "openai" else "prompt"


def bind(
    chat: BaseChatModel, method: Structured, schema: dict[str, Any], name: str, tools: Sequence[BaseTool]
) -> Runnable[LanguageModelInput, AIMessage]:
    """Return `chat` with `tools` offered and the JSON schema of the answer, which has a name, sent by `method`."""
    if method == "function_calling":
        function = {"name": ANSWER_TOOL, "description": "Give your answer.", "parameters": schema}
        offered = [*(convert_to_openai_tool(tool) for tool in tools), {"type": "function", "function": function}]
        # With tools beside it the model chooses, and must call one; without, it must call this one.
        return chat.bind_tools(offered, tool_choice="any" if tools else ANSWER_TOOL)
    settings: dict[str, Any] = {}
    if method == "json_schema":
        json_schema_format = {"name": name, "strict": True, "schema": strict_schema(schema)}
        settings = {"response_format": {"type": "json_schema", "json_schema": json_schema_format}}
    elif method == "json_mode":
        settings = {"response_format": {"type": "json_object"}}
    if settings and "extra_body" in type(chat).model_fields:
        # In the plain body: given by its own name, OpenAI's client parses the answer itself, raises where it is cut,
        # and refuses tools whose schemas are not strict.
        settings = {"extra_body": settings}
    if tools:
        return chat.bind_tools(tools, **settings)
    return chat.bind(**settings) if settings else chat


def answer_text(reply: AIMessage, method: Structured) -> str:
    """Return the raw answer: the arguments of the answer's tool, else the reply's text.

    Some servers put an answer that needed no thought where the thoughts belong, or where calls stood before there were
    tools. Where there is nothing else, the object that ends the thoughts or the arguments of that call are the answer.
    """
    # The arguments may come parsed, or as a text that is no JSON.
    if method == "function_calling":
        for call in reply.tool_calls:
            if call["name"] == ANSWER_TOOL:
                return json.dumps(call["args"], ensure_ascii=False)
        for broken in reply.invalid_tool_calls:
            if broken["name"] == ANSWER_TOOL:
                return broken["args"] or ""
    legacy = reply.additional_kwargs.get("function_call")
    if not reply.text.strip() and not reply.tool_calls and isinstance(legacy, dict):
        arguments = legacy.get("arguments")
        return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    thoughts = reply.additional_kwargs.get("reasoning_content")
    if reply.text.strip() or reply.tool_calls or ending(reply) != "whole" or not isinstance(thoughts, str):
        return reply.text
    return ending_object(thoughts) or reply.text


def asks_for_tools(reply: AIMessage) -> bool:
    """Tell whether the reply calls tools of ours and is no answer. Calls that cannot be read are an invalid answer."""
    # An answer wins over tools that are called beside it.
    names = [call["name"] for call in reply.tool_calls]
    return bool(names) and ANSWER_TOOL not in names and not reply.invalid_tool_calls


def strict_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema in OpenAI's strict form.

    Every property is required and none additional, `oneOf` is written as `anyOf`, constants as an `enum` of one;
    titles, defaults and bounds are left out.

    Source: OpenAI, "Structured model outputs", section "Supported schemas".
    """
    strict: dict[str, Any] = _strict(schema)
    return strict


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # Whatever is not named here is left out.
    strict = {key: _strict(value) for key, value in schema.items() if key in _STRICT_KEYS}
    # Keywords that the strict form writes in another way.
    if "oneOf" in schema:
        strict["anyOf"] = _strict(schema["oneOf"])
    if "const" in schema:
        strict["enum"] = [schema["const"]]
    # Names of properties and definitions are not keywords, so that none of them is left out.
    if "properties" in schema:
        strict["properties"] = {name: _strict(item) for name, item in schema["properties"].items()}
        strict |= {"required": list(schema["properties"]), "additionalProperties": False}
    if "$defs" in schema:
        strict["$defs"] = {name: _strict(item) for name, item in schema["$defs"].items()}
    return strict
