"""Check whom a run would talk to, and whether they answer: models, the cluster of branches, the collector of spans.

At most a connection is opened and closed. Servers that a `base_url` names are asked for their list of models; neither a
key nor a prompt is sent to anybody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..agents.config import ROLES, LLMConfig, ModelConfig, Role
from ..agents.llm.hosted_tracing import tracing_variables
from ..agents.llm.ledger import unpriced_roles
from ..agents.llm.models import model_problems
from ..config.run_config import RunConfig
from ..errors import ConfigError
from ..graphs.tracing.otel import ENDPOINTS, collector_address
from ..rl.branches.config import BranchConfig
from ..rl.branches.executors import check_executor
from .addresses import try_address
from .check import Check, ok, problems_from, warning
from .installation import check_cores

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
GATEWAY = "LANGSMITH_GATEWAY"  # a variable that leads questions over a service of LangChain's, or to the host it names
GATEWAY_HOST = "https://gateway.smith.langchain.com"
GATEWAY_PATHS = {"openai": "openai/v1", "anthropic": "anthropic"}
# Variables that the packages read by themselves, the first that is set counts.
BASE_URL_VARIABLES = {"openai": ("OPENAI_API_BASE", GATEWAY, "OPENAI_BASE_URL"), "anthropic": (GATEWAY,)}
LANGSMITH = "https://api.smith.langchain.com"  # where the package langsmith posts to when nothing else is named


# ---------------------------------------------------------------- models


def check_models(config: LLMConfig) -> Iterator[Check]:
    """Check packages, models, keys and prompt templates of the roles. Contacts nobody."""
    problems: dict[str, list[Role]] = {}
    # What is wrong with several roles is said once.
    for role, message in model_problems(config):
        problems.setdefault(message, []).append(role)
    for message, roles in problems.items():
        yield from problems_from(f"llm.{', '.join(roles)}", ConfigError(message))
    broken = {role for roles in problems.values() for role in roles}
    # Roles that share a model and a prompt template share a line.
    sharing: dict[tuple[ModelConfig, Path | None], list[Role]] = {}
    for role in ROLES:
        sharing.setdefault((config.for_role(role), config.prompt_path(role)), []).append(role)
    for (head, template), roles in sharing.items():
        if not broken & set(roles):
            chain = " then ".join(_describe_model(model) for model in (head, *head.fallback))
            yield ok(f"llm.{', '.join(roles)}", f"{chain}; prompts {template or 'of the package'}")


def _describe_model(model: ModelConfig) -> str:
    if model.provider == "rules":
        return "rules: plain rules, no language model"
    where = f" at {model.base_url}" if model.base_url else ""
    if not where and (led := _led_elsewhere(model.provider)):
        where = f" at {led[0]}, as {led[1]} says"
    key = f", key from {model.api_key_env}" if model.api_key_env else ""
    return f"{model.provider} {model.model}{where}{key}"


def _led_elsewhere(provider: str) -> tuple[str, str] | None:
    """Return the address to which the environment leads a provider's questions, and the variable that does it.

    That is where no `base_url` is given; None where the provider itself is asked.
    """
    for name in BASE_URL_VARIABLES.get(provider, ()):
        value = os.environ.get(name, "")
        if name == GATEWAY and value.lower() in ("0", "false", "no"):
            continue
        if name == GATEWAY and value:
            host = GATEWAY_HOST if value.lower() in ("1", "true", "yes") else value.rstrip("/")
            return f"{host}/{GATEWAY_PATHS[provider]}", name
        if value:
            return value, name
    return None


def check_prices(config: LLMConfig) -> Iterator[Check]:
    """Check that the limit in dollars can be kept; says nothing where no model costs anything."""
    unknown = unpriced_roles(config)
    if unknown:
        rule = f"unknown for {', '.join(unknown)}: llm.limits.usd {config.limits.usd:g} cannot hold"
        remedy = (
            "set llm.default.price (or the role's), or pip install 'cosignal[prices]'; calls and tokens are limited"
        )
        yield warning("llm.price", rule, remedy)
    elif any(model.provider != "rules" for role in ROLES for model in config.chain(role)):
        yield ok("llm.price", f"known for every model; llm.limits.usd {config.limits.usd:g} holds")


def check_tracing(config: LLMConfig) -> Check:
    """Check whether prompts go to a hosted tracing service."""
    variables = ", ".join(tracing_variables())
    if not config.tracing:
        return ok("llm.tracing", f"off: {variables} is ignored" if variables else "off: prompts go to the models alone")
    address = os.environ.get("LANGSMITH_ENDPOINT") or os.environ.get("LANGCHAIN_ENDPOINT") or LANGSMITH
    rule = f"llm.tracing is true: prompts and answers are sent to {address}"
    return warning("llm.tracing", rule, "set llm.tracing to false to keep them here")


def check_network(config: LLMConfig, online: bool) -> Iterator[Check]:
    """Try every `base_url`, and with `online` also the addresses of providers that have none."""
    # Each model is asked about once, in the order of roles and of their fallbacks.
    models = dict.fromkeys(model for role in ROLES for model in config.chain(role) if model.provider != "rules")
    heads = {config.for_role(role) for role in ROLES}
    needed: dict[str, bool] = {}  # address → whether any role asks there first
    speaks_openai: set[str] = set()  # addresses that the config gives and of which the protocol is known
    for model in models:
        url = model.base_url
        # Without `base_url` a package goes to its provider, or where a variable of its own says.
        if url is None and online:
            led = _led_elsewhere(model.provider)
            url = led[0] if led else HOSTED.get(model.provider)
            if url is None:
                rule = f"the address of provider {model.provider!r} is not known here, so it was not tried"
                yield warning("network", rule, "name it by base_url where the provider has one")
        elif url is not None and model.provider == "openai":
            speaks_openai.add(url)
        if url is not None:
            needed[url] = needed.get(url, False) or model in heads
    # Models that share an address share a connection.
    for url, first in needed.items():
        yield try_address("network", url, first, asks_path=url in speaks_openai)
    if not needed:
        more = "; --online tries the addresses of the providers" if models and not online else ""
        yield ok("network", f"nobody was contacted{more}")


# ---------------------------------------------------------------- branches and spans


def check_branches(config: BranchConfig, overlap: bool) -> Iterator[Check]:
    """Check the executor's package and cluster, and, where workers are on this machine, its cores."""
    try:
        yield ok("executor", check_executor(config))
    except ConfigError as error:
        yield from problems_from("executor", error)
    if not config.on_cluster:
        yield check_cores(config.workers, overlap)


def check_spans(config: RunConfig) -> Iterator[Check]:
    """Check the collector of spans; one that does not answer is a warning, for the run goes on without it."""
    try:
        address = collector_address(config)
    except ConfigError as error:
        yield from problems_from("otel", error)
        return
    if address is not None:
        yield try_address("otel", address, first=False)
        return
    ignored = ", ".join(name for name in ENDPOINTS if os.environ.get(name))
    yield ok("otel", f"off: no spans are sent, {ignored} is ignored" if ignored else "off: no spans are sent")
