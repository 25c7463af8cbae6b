"""One row a model call: what was asked, what came back, what it cost. Pydantic only, so readers need no LangChain.

A call is priced by the config, else by the offline table of the package genai-prices, else unknown (None).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..config import ROLES, LLMConfig, ModelConfig, Role, Structured

MILLION = 1_000_000

# error: no answer came. budget: the call was not made, since a limit of the run is reached.
Outcome = Literal["ok", "repaired", "tool_call", "invalid", "error", "budget"]


@dataclass(frozen=True)
class Place:
    """The place of a call in the run.

    Attributes:
        point: update index of the adaptation point.
        round: the Generator's round.
        part: ends the call's name where one node asks in many calls.
    """

    point: int
    round: int = 0
    part: str = ""

    def question_id(self, role: Role, turn: int = 0) -> str:
        """Return what the names of all attempts at a question begin with."""
        return f"p{self.point}-r{self.round}-{role}{self.part}-t{turn}"


class Call(BaseModel):
    """A row of the table `calls`, one an attempt: retries, the repair turn and fallbacks have their own.

    Long texts are cut; none holds a key.

    Attributes:
        id: made of place, role, turn and attempt, so that a node that runs again writes the same row.
        raw: the text of the answer.
        parsed: the schema object, None where there is none.
        clipped: numbers of the answer that were out of bounds and were set to the nearest bound, a line each.
        provider, model: those of `fallback`; `model` as the server names it.
        input_tokens, output_tokens: None where the provider does not say.
        latency_s: seconds that the model took, without waits.
        started: Unix time in seconds.
        fallback: place in the role's chain, 0 for its own model.
        structured: how the schema was sent.
        charged_tokens: what the run's budget was charged, an estimate of four characters a token where the provider
            does not count.
        cost_usd: US dollars of the charged tokens, None where no price is known or nothing was charged (never 0 but
            for the embedded rules).
        error_class: name of the exception behind `error`.
        temperature: what the question was asked at in place of the model's own; None where it was asked at that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Which attempt of which question.
    id: str
    role: Role
    point: int
    round: int
    attempt: int = Field(ge=0)
    # What was asked.
    prompt_id: str
    prompt_hash: str
    messages: list[dict[str, Any]]
    # Who answered, and what.
    provider: str
    model: str
    raw: str
    parsed: dict[str, Any] | None
    outcome: Outcome
    error: str | None
    # What it took. Runs of earlier versions lack the fields with defaults.
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float
    started: float
    fallback: int = Field(default=0, ge=0)
    structured: Structured = "prompt"
    charged_tokens: int = Field(default=0, ge=0)
    cost_usd: float | None = None
    error_class: str | None = None
    temperature: float | None = None
    clipped: list[str] = Field(default_factory=list)


def cost_usd(config: ModelConfig, model: str, input_tokens: int, output_tokens: int) -> float | None:
    """Return the US dollars of one call, None where no price is known (which is not 0). The rules cost nothing.

    Args:
        config: the model that was asked.
        model: the one that answered, which may be a dated name of it.
        input_tokens, output_tokens: of the call.
    """
    if config.provider == "rules":
        return 0.0
    # The user's own price comes first.
    if config.price is not None:
        return (config.price.input * input_tokens + config.price.output * output_tokens) / MILLION
    try:
        table: Any = import_module("genai_prices")  # the extra `prices`
    except ImportError:
        return None
    # By address where one is given: what another server asks for a model of that name is not known.
    by = {"provider_api_url": config.base_url} if config.base_url else {"provider_id": config.provider}
    usage = table.Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    # The name that answered, then the one that was asked for.
    for name in dict.fromkeys((model, config.model)):
        if not name:
            continue
        try:
            return float(table.calc_price(usage, name, **by).total_price)
        except LookupError:
            continue
    return None


def unpriced_roles(config: LLMConfig) -> list[Role]:
    """Return the roles with a model of unknown price in their chain: `llm.limits.usd` does not see its calls."""
    return [
        role for role in ROLES if any(cost_usd(model, model.model or "", 1, 1) is None for model in config.chain(role))
    ]
