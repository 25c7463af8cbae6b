"""One row a model call: what was asked, what came back, what it cost. Pydantic only, so readers need no LangChain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .config import Role, Structured

Outcome = Literal["ok", "repaired", "tool_call", "invalid", "error", "budget"]


@dataclass(frozen=True)
class Place:
    """Where a call is made. `point`: update index of the adaptation point. `round`: the Generator's round. `part`: of
    what one node asks in many calls, ends the call's name."""

    point: int
    round: int = 0
    part: str = ""


class Call(BaseModel):
    """A row of the table `calls`, one an attempt: retries, the repair turn and fallbacks have their own.

    `id` is made of place, role, turn and attempt, so a node that runs again writes the same row. `fallback`: place in
    the role's chain, 0 for its own model; `provider` and `model` are those of that place, `model` as the server names
    it. `structured`: how the schema was sent. Tokens are None where the provider does not say; `charged_tokens` is what
    the run's budget was charged, an estimate of four characters a token in that case. `cost_usd` is that of the charged
    tokens, None where no price is known or nothing was charged (never 0 but for the embedded rules). `error_class`: the
    name of the exception behind `error`. `started` is Unix time in seconds. Long texts are cut; none holds a key.
    """

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
    fallback: int = Field(default=0, ge=0)
    structured: Structured = "prompt"
    charged_tokens: int = Field(default=0, ge=0)
    cost_usd: float | None = None
    error_class: str | None = None
