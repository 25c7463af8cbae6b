"""The only door to a provider: limits, calls, validation, one repair turn, a ledger row an attempt.

A model is asked for plain JSON (the schema is in the prompt) and its raw text is validated here, by pydantic. Provider
features for structured output are not used: they differ between servers, and some complete truncated JSON silently.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from asyncio_throttle.throttler import Throttler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool
from pydantic import BaseModel, ValidationError

from ..errors import BudgetExhausted, InvalidAnswer, ModelAnswerError, ProviderError
from ..prompts import Rendered, Template, load_template, render
from .config import LimitsConfig, LLMConfig, ModelConfig, Role
from .ledger import Call, Outcome, Place
from .providers import build_chat_model, secret

Record = Callable[[Call], None]
T = TypeVar("T", bound=BaseModel)
_CHARS_PER_TOKEN = 4  # used for the budget only, where a provider does not count


class Door:
    """Shared by all roles of a run: throttle, concurrency, and the hard budget of calls and tokens.

    `calls`, `tokens`: what the run has spent before (the ledger's sums), so that a resumed run keeps its limits.
    """

    def __init__(self, limits: LimitsConfig, calls: int = 0, tokens: int = 0) -> None:
        self.limits = limits
        self.calls = calls
        self.tokens = tokens
        self._throttle = Throttler(rate_limit=limits.requests_per_minute, period=60.0)
        self._slots = asyncio.Semaphore(limits.concurrency)

    @asynccontextmanager
    async def passage(self, remote: bool) -> AsyncIterator[None]:
        """One call's way through. Local rules (`remote=False`) count as calls and wait for nothing.

        Raises:
            BudgetExhausted: the run's calls or tokens are used up.
        """
        if not remote:
            self._take_call()
            yield
            return
        async with self._slots:
            self._check()
            async with self._throttle:
                self._take_call()
                yield

    def add_tokens(self, tokens: int) -> None:
        self.tokens += tokens

    def _take_call(self) -> None:
        self._check()
        self.calls += 1

    def _check(self) -> None:
        for name, spent, limit in (
            ("calls", self.calls, self.limits.calls),
            ("tokens", self.tokens, self.limits.tokens),
        ):
            if spent >= limit:
                raise BudgetExhausted(
                    f"llm.limits.{name} is reached: {spent!r} of {limit!r}; raise it to adapt further"
                )


@dataclass(frozen=True)
class Answered(Generic[T]):
    """`parsed` is None exactly when `message` carries tool calls."""

    parsed: T | None
    message: AIMessage
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Question(Generic[T]):
    """What is asked. `conversation` follows the prompt: the model's tool calls and the tools' answers so far.

    `problems`: semantic checks on a parsed answer; each returned line is shown to the model in the repair turn.
    """

    place: Place
    prompt: Rendered
    schema: type[T]
    conversation: tuple[BaseMessage, ...] = ()
    tools: tuple[BaseTool, ...] = ()
    problems: Callable[[T], list[str]] | None = None

    @property
    def turn(self) -> int:
        return sum(isinstance(message, AIMessage) for message in self.conversation)

    def messages(self) -> list[BaseMessage]:
        return [SystemMessage(self.prompt.system), HumanMessage(self.prompt.user), *self.conversation]


class RoleModel:
    """One role's model. The chat model is built at the first call; `chat` replaces it (tests, replays)."""

    def __init__(
        self,
        role: Role,
        config: ModelConfig,
        door: Door,
        record: Record,
        template: Template | None = None,
        chat: BaseChatModel | None = None,
    ) -> None:
        self.role: Role = role
        self.config = config
        self.door = door
        self.record = record
        self.template = template or load_template(role)
        self._chat = chat

    @property
    def chat(self) -> BaseChatModel:
        """Raises ConfigError where package, model or key is missing."""
        if self._chat is None:
            self._chat = build_chat_model(self.config)
        return self._chat

    def prompt(self, variables: dict[str, Any]) -> Rendered:
        return render(self.template, variables)

    async def ask(self, question: Question[T]) -> Answered[T]:
        """Ask, validate, and give the model one turn to repair an invalid answer. Every attempt is recorded.

        Raises:
            InvalidAnswer: also the repaired answer is not of the schema; carries the raw text.
            ProviderError: the provider failed or took longer than `timeout_s`.
            BudgetExhausted: the run's calls or tokens are used up.
            ConfigError: the chat model cannot be built.
        """
        messages = question.messages()
        rows: list[Call] = []
        for attempt in (0, 1):
            reply, row = await self._call(question, messages, attempt)
            if question.tools and reply.tool_calls:
                rows.append(self._finish(row, "tool_call"))
                return Answered(None, reply, tuple(rows))
            try:
                parsed = _parse(reply, question)
            except InvalidAnswer as error:
                rows.append(self._finish(row, "invalid", error=str(error)))
                failure = error
                messages = [*messages, AIMessage(reply.text or "(empty)"), HumanMessage(_repair_text(str(error)))]
                continue
            outcome: Outcome = "repaired" if attempt else "ok"
            rows.append(self._finish(row, outcome, parsed=parsed.model_dump(mode="json")))
            return Answered(parsed, reply, tuple(rows))
        raise failure

    async def _call(self, question: Question[T], messages: list[BaseMessage], attempt: int) -> tuple[AIMessage, Call]:
        row = self._row(question, messages, attempt)
        begin = time.perf_counter()
        try:
            async with self.door.passage(remote=self.config.provider != "rules"):
                begin = time.perf_counter()  # waiting for the throttle is not latency and does not time out
                reply = await self._invoke(messages, question.tools)
        except ModelAnswerError as error:
            outcome: Outcome = "budget" if isinstance(error, BudgetExhausted) else "error"
            self._finish(_timed(row, begin), outcome, error=str(error))
            raise
        self.door.add_tokens(self._tokens(messages, reply))
        return reply, _answered(_timed(row, begin), reply)

    async def _invoke(self, messages: list[BaseMessage], tools: Sequence[BaseTool]) -> AIMessage:
        runnable = self.chat.bind_tools(tools) if tools else self.chat
        if self.config.provider == "rules":
            return await runnable.ainvoke(messages)  # its errors are our bugs: they stay what they are
        try:
            async with asyncio.timeout(self.config.timeout_s):
                return await runnable.ainvoke(messages)
        except TimeoutError as error:
            raise ProviderError(
                f"provider {self.config.provider!r} did not answer within llm timeout_s {self.config.timeout_s!r}; "
                "raise it or use a faster model"
            ) from error
        except Exception as error:  # every provider package has its own tree of errors
            raise ProviderError(self._redacted(f"provider {self.config.provider!r} failed: {error!r}")) from error

    def _tokens(self, messages: list[BaseMessage], reply: AIMessage) -> int:
        if reply.usage_metadata is not None:
            return reply.usage_metadata["input_tokens"] + reply.usage_metadata["output_tokens"]
        if self.config.provider == "rules":
            return 0
        return sum(len(message.text) for message in [*messages, reply]) // _CHARS_PER_TOKEN

    def _row(self, question: Question[T], messages: list[BaseMessage], attempt: int) -> Call:
        place = question.place
        return Call(
            id=f"p{place.point}-r{place.round}-{self.role}-t{question.turn}-a{attempt}",
            role=self.role,
            point=place.point,
            round=place.round,
            attempt=attempt,
            prompt_id=question.prompt.prompt_id,
            prompt_hash=question.prompt.sha256,
            messages=[_plain(message) for message in messages],
            provider=self.config.provider,
            model=self.config.model or self.config.provider,
            raw="",
            parsed=None,
            outcome="error",
            error=None,
            input_tokens=None,
            output_tokens=None,
            latency_s=0.0,
            started=time.time(),
        )

    def _finish(
        self, row: Call, outcome: Outcome, parsed: dict[str, Any] | None = None, error: str | None = None
    ) -> Call:
        row = row.model_copy(update={"outcome": outcome, "parsed": parsed, "error": error})
        self.record(row)
        return row

    def _redacted(self, text: str) -> str:
        key = secret(self.config)
        return text.replace(key, "***") if key else text


@dataclass(frozen=True)
class Models:
    """The three roles' models of a run."""

    critic: RoleModel
    generator: RoleModel
    ranker: RoleModel


def build_models(config: LLMConfig, door: Door, record: Record) -> Models:
    """One model a role behind one door. Nothing is contacted or imported before the first call.

    Raises:
        ConfigError: a prompt template is broken.
    """
    return Models(
        critic=RoleModel("critic", config.for_role("critic"), door, record),
        generator=RoleModel("generator", config.for_role("generator"), door, record),
        ranker=RoleModel("ranker", config.for_role("ranker"), door, record),
    )


def check_models(config: LLMConfig) -> None:
    """Build every role's chat model once, without calling it: for `doctor` and for the start of a run.

    Raises:
        ConfigError: a package, a model's name or a key is missing.
    """
    for role in ("critic", "generator", "ranker"):
        build_chat_model(config.for_role(role))


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema that a prompt shows: no titles, and the tags of unions (`kind`) required, as validation does."""
    shown: dict[str, Any] = _shown(model.model_json_schema())
    return shown


def strip_fence(text: str) -> str:
    """Without one Markdown fence around the whole text, which many models add to JSON."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") + 1 : -3].strip()
    return text


def _shown(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_shown(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _shown(item) for key, item in schema.items() if not (key == "title" and isinstance(item, str))}
    properties = kept.get("properties", {})
    tags = [name for name, item in properties.items() if isinstance(item, dict) and "const" in item]
    if tags:
        kept["required"] = [*tags, *kept.get("required", [])]
    return kept


def _parse(reply: AIMessage, question: Question[T]) -> T:
    raw = reply.text
    try:
        parsed = question.schema.model_validate_json(strip_fence(raw))
    except ValidationError as error:
        raise InvalidAnswer(f"not a JSON object of schema {question.schema.__name__!r}: {error}", raw) from error
    problems = question.problems(parsed) if question.problems else []
    if problems:
        raise InvalidAnswer("; ".join(problems), raw)
    return parsed


def _repair_text(error: str) -> str:
    return (
        f"Your answer could not be used: {error[:2000]}\n"
        "Answer again: one JSON object of the schema above, corrected, with no other text."
    )


def _timed(row: Call, begin: float) -> Call:
    return row.model_copy(update={"latency_s": time.perf_counter() - begin})


def _answered(row: Call, reply: AIMessage) -> Call:
    usage = reply.usage_metadata
    return row.model_copy(
        update={
            "raw": reply.text,
            "model": reply.response_metadata.get("model_name") or row.model,
            "input_tokens": usage["input_tokens"] if usage else None,
            "output_tokens": usage["output_tokens"] if usage else None,
        }
    )


def _plain(message: BaseMessage) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.type, "content": message.text}
    if isinstance(message, AIMessage) and message.tool_calls:
        plain["tool_calls"] = [{"name": call["name"], "args": call["args"]} for call in message.tool_calls]
    if isinstance(message, ToolMessage):
        plain["tool"] = message.name
    return plain
