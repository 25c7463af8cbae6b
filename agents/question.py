"""What a role asks, and what it gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from ..prompts import Rendered
from .ledger import Call, Place

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Answered(Generic[T]):
    """`parsed` is None exactly when `message` carries tool calls. `calls`: the ledger rows of all attempts."""

    parsed: T | None
    message: AIMessage
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Question(Generic[T]):
    """What is asked. `conversation` follows the prompt: the model's tool calls and the tools' answers so far.

    `problems`: semantic checks on a parsed answer; each returned line is shown to the model in the repair turn.
    `by_rules`: whether the embedded rules can answer it; where they cannot, they are left out of the chain.
    """

    place: Place
    prompt: Rendered
    schema: type[T]
    conversation: tuple[BaseMessage, ...] = ()
    tools: tuple[BaseTool, ...] = ()
    problems: Callable[[T], list[str]] | None = None
    by_rules: bool = True

    @property
    def turn(self) -> int:
        return sum(isinstance(message, AIMessage) for message in self.conversation)

    def messages(self) -> list[BaseMessage]:
        return [SystemMessage(self.prompt.system), HumanMessage(self.prompt.user), *self.conversation]
