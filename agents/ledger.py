"""One row a model call: what was asked, what came back, what it cost. Pydantic only, so readers need no LangChain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .config import Role

Outcome = Literal["ok", "repaired", "tool_call", "invalid", "error", "budget"]


@dataclass(frozen=True)
class Place:
    """Where a call is made. `point`: update index of the adaptation point. `round`: the Generator's round."""

    point: int
    round: int = 0


class Call(BaseModel):
    """A row of the table `calls`. `id` is made of place, role, turn and attempt, so a node that runs again writes the
    same row. Tokens are None where the provider does not say; `started` is Unix time in seconds. Holds no key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    role: Role
    point: int
    round: int
    attempt: int = Field(ge=0)
    prompt_id: str
    prompt_hash: str
    messages: list[dict[str, Any]]
    provider: str
    model: str
    raw: str
    parsed: dict[str, Any] | None
    outcome: Outcome
    error: str | None
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float
    started: float
