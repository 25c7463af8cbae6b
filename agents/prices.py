"""What a call costs: the config's price, else the offline table of the package genai-prices, else unknown (None)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .config import ROLES, LLMConfig, ModelConfig, Role

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
