"""One row a model call: what was asked, what came back, what it cost. Pydantic only, so readers need no LangChain."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..config import ROLES, LLMConfig, ModelConfig, Role, Structured

# ---------------------------------------------------------------- MERGED agents.ledger

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


# ---------------------------------------------------------------- MERGED agents.prices
# DOC """What a call costs: the config's price, else the offline table of the package genai-prices, else unknown (None)."""

MILLION = 1_000_000


def cost_usd(config: ModelConfig, model: str, input_tokens: int, output_tokens: int) -> float | None:
    """US dollars of one call, None where no price is known (which is not 0). The embedded rules cost nothing.

    `model`: the one that answered, which may be a dated name of the one that was asked for.
    """
    if config.provider == "rules":
        return 0.0
    if config.price is not None:
        return (config.price.input * input_tokens + config.price.output * output_tokens) / MILLION
    for name in dict.fromkeys((model, config.model)):
        found = _of_table(config, name, input_tokens, output_tokens) if name else None
        if found is not None:
            return found
    return None


def unpriced(config: LLMConfig) -> list[Role]:
    """Roles with a model of unknown price in their chain: `llm.limits.usd` does not see its calls."""
    return [
        role for role in ROLES if any(cost_usd(link, link.model or "", 1, 1) is None for link in config.chain(role))
    ]


def _of_table(config: ModelConfig, model: str, input_tokens: int, output_tokens: int) -> float | None:
    """By address where one is given: what another server asks for a model of that name is not known."""
    table = _table()
    if table is None:
        return None
    by = {"provider_api_url": config.base_url} if config.base_url else {"provider_id": config.provider}
    try:
        usage = table.Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        return float(table.calc_price(usage, model, **by).total_price)
    except LookupError:
        return None


def _table() -> Any:
    """The package genai-prices (the extra `prices`), None where it is not installed."""
    try:
        return import_module("genai_prices")
    except ImportError:
        return None
