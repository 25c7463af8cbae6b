"""Who will answer, with which key and price, and whether its address answers at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..agents.config import ROLES, LLMConfig, ModelConfig, Role
from ..agents.llm import model_problems
from ..agents.prices import unpriced
from ..errors import ConfigError
from ..graphs.log import tracing_variables
from .check import Check, from_error, ok, warning

LANGSMITH = "https://api.smith.langchain.com"  # where the package langsmith posts to when nothing else is named


def check_models(config: LLMConfig) -> Iterator[Check]:
    """Packages, models, keys, prompt templates, prices and tracing. Contacts nobody."""
    problems: dict[str, list[Role]] = {}
    for role, words in model_problems(config):
        problems.setdefault(words, []).append(role)
    for words, roles in problems.items():
        yield from from_error(_name(roles), ConfigError(words))
    broken = {role for roles in problems.values() for role in roles}
    for (head, own), roles in _by_model(config).items():
        if not broken & set(roles):
            chain = " then ".join(_in_words(link) for link in (head, *head.fallback))
            yield ok(_name(roles), f"{chain}; prompts {own or 'of the package'}")
    yield from _check_prices(config)
    yield _check_tracing(config)


def _name(roles: list[Role]) -> str:
    return f"llm.{', '.join(roles)}"


def _by_model(config: LLMConfig) -> dict[tuple[ModelConfig, Path | None], list[Role]]:
    """The roles that share a model and a prompt template."""
    found: dict[tuple[ModelConfig, Path | None], list[Role]] = {}
    for role in ROLES:
        found.setdefault((config.for_role(role), config.prompt_path(role)), []).append(role)
    return found


def _in_words(model: ModelConfig) -> str:
    if model.provider == "rules":
        return "rules: plain rules, no language model"
    where = f" at {model.base_url}" if model.base_url else ""
    key = f", key from {model.api_key_env}" if model.api_key_env else ""
    return f"{model.provider} {model.model}{where}{key}"


def _check_prices(config: LLMConfig) -> Iterator[Check]:
    unknown = unpriced(config)
    if unknown:
        rule = f"unknown for {', '.join(unknown)}: llm.limits.usd {config.limits.usd:g} cannot hold"
        remedy = (
            "set llm.default.price (or the role's), or pip install 'cosignal[prices]'; calls and tokens are limited"
        )
        yield warning("llm.price", rule, remedy)
    elif any(link.provider != "rules" for role in ROLES for link in config.chain(role)):
        yield ok("llm.price", f"known for every model; llm.limits.usd {config.limits.usd:g} holds")


def _check_tracing(config: LLMConfig) -> Check:
    asked = ", ".join(tracing_variables())
    if not config.tracing:
        return ok("llm.tracing", f"off: {asked} is ignored" if asked else "off: prompts go to the models alone")
    address = os.environ.get("LANGSMITH_ENDPOINT") or os.environ.get("LANGCHAIN_ENDPOINT") or LANGSMITH
    rule = f"llm.tracing is true: prompts and answers are sent to {address}"
    return warning("llm.tracing", rule, "set llm.tracing to false to keep them here")


def check_no_models() -> Check:
    return ok("llm", "adaptation.enabled is false: no model is asked")
