"""Does anybody listen where the models are said to be? A connection is opened and closed; nothing is sent."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..agents.config import ROLES, LLMConfig, ModelConfig, Role
from ..agents.llm.ledger import unpriced
from ..agents.llm.models import model_problems
from ..config.run_config import RunConfig
from ..errors import ConfigError
from ..graphs.session.log import tracing_variables
from ..graphs.tracing.otel import ENDPOINTS, collector
from ..rl.branches.config import BranchConfig
from ..rl.branches.executors import check_executor
from .check import Check, from_error, ok, problem, warning
from .installation import check_cores

# ---------------------------------------------------------------- MERGED doctor.network

TIMEOUT_S = 3.0
PORTS = {"http": 80, "https": 443}
# Where a provider's package goes without `base_url`; asked for only by --online.
HOSTED = {
    "anthropic": "https://api.anthropic.com",
    "cohere": "https://api.cohere.com",
    "deepseek": "https://api.deepseek.com",
    "fireworks": "https://api.fireworks.ai",
    "google_genai": "https://generativelanguage.googleapis.com",
    "groq": "https://api.groq.com",
    "mistralai": "https://api.mistral.ai",
    "ollama": "http://127.0.0.1:11434",
    "openai": "https://api.openai.com",
    "openrouter": "https://openrouter.ai",
    "perplexity": "https://api.perplexity.ai",
    "together": "https://api.together.xyz",
    "xai": "https://api.x.ai",
}
BASE_URL_VARIABLES = {"openai": ("OPENAI_API_BASE", "OPENAI_BASE_URL")}  # which its package reads by itself


def check_network(config: LLMConfig, online: bool) -> Iterator[Check]:
    """Tries every `base_url`, and with `online` also the addresses of providers that have none."""
    models = dict.fromkeys(link for role in ROLES for link in config.chain(role) if link.provider != "rules")
    heads = {config.for_role(role) for role in ROLES}
    needed: dict[str, bool] = {}  # address → whether any role asks there first
    for model in models:
        url = model.base_url or (_hosted(model) if online else None)
        if url is not None:
            needed[url] = needed.get(url, False) or model in heads
        elif online:
            yield _unknown(model)
    for url, first in needed.items():
        yield try_address("network", url, first)
    if not needed:
        more = "; --online tries the addresses of the providers" if models and not online else ""
        yield ok("network", f"nobody was contacted{more}")


def _hosted(model: ModelConfig) -> str | None:
    named = (os.environ.get(name) for name in BASE_URL_VARIABLES.get(model.provider, ()))
    return next(filter(None, named), HOSTED.get(model.provider))


def _unknown(model: ModelConfig) -> Check:
    rule = f"the address of provider {model.provider!r} is not known here, so it was not tried"
    return warning("network", rule, "name it by base_url where the provider has one")


def try_address(name: str, url: str, first: bool) -> Check:
    """A problem where somebody asks there `first`, a warning where the run goes on without."""
    try:
        host, port, proxy = _route(url)
        with socket.create_connection((host, port), TIMEOUT_S):
            return ok(name, f"{host}:{port}{proxy} answers for {url} (connected, nothing was sent)")
    except (OSError, ValueError) as error:  # ValueError: a port that is no number
        rule = f"{url!r} must be reachable within {TIMEOUT_S:g} s, got {error}"
        return (problem if first else warning)(name, rule, "start the server, or correct its address")


def _route(url: str) -> tuple[str, int, str]:
    """Host and port to connect to, and words for a proxy that the environment puts in between."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = getproxies().get(parts.scheme)
    if proxy is None or proxy_bypass(host):
        return host, parts.port or PORTS[parts.scheme], ""
    through = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return through.hostname or "", through.port or PORTS["http"], " (a proxy)"


# ---------------------------------------------------------------- MERGED doctor.executor
# DOC """Can branches run where the config wants them?"""


def check_branches(config: BranchConfig, overlap: bool) -> Iterator[Check]:
    """The executor's package and cluster, and, where workers are on this machine, its cores."""
    try:
        yield ok("executor", check_executor(config))
    except ConfigError as error:
        yield from from_error("executor", error)
    if not config.on_cluster:
        yield check_cores(config.workers, overlap)


# ---------------------------------------------------------------- MERGED doctor.spans
# DOC """Are spans sent, and does anybody listen where they go? A connection is opened and closed; nothing is sent."""


def check_spans(config: RunConfig) -> Iterator[Check]:
    """A collector that does not answer is a warning: the run goes on without it."""
    try:
        address = collector(config)
    except ConfigError as error:
        yield from from_error("otel", error)
        return
    if address is not None:
        yield try_address("otel", address, first=False)
        return
    named = [name for name in ENDPOINTS if os.environ.get(name)]
    yield ok("otel", f"off: no spans are sent, {', '.join(named)} is ignored" if named else "off: no spans are sent")


# ---------------------------------------------------------------- MERGED doctor.models
# DOC """Who will answer, with which key and price, and whether its address answers at all."""

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
