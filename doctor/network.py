"""Does anybody listen where the models are said to be? A connection is opened and closed; nothing is sent."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..agents.config import ROLES, LLMConfig, ModelConfig
from .check import Check, ok, problem, warning

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
