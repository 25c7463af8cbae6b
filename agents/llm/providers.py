"""Build LangChain chat models. Provider packages take seconds to import: they are imported here alone, and late."""

from __future__ import annotations

import os
import re
from typing import Any

from langchain_core.language_models import BaseChatModel

from ...errors import ConfigError
from ...text import cut, printable
from ..config import ModelConfig
from .parse import MAX_ERROR
from .secrets import NEEDS_KEY, PROVIDER_VARIABLES, Redactor, model_key_variables

# Providers whose chat model takes the bound of an answer by this name.
TAKES_MAX_TOKENS = frozenset(
    {"anthropic", "azure_openai", "bedrock_converse", "deepseek", "fireworks", "google_genai", "groq", "mistralai",
     "openai", "openrouter", "perplexity", "together", "upstage", "xai"}
)  # fmt: skip

# Providers whose chat model takes `logprobs` and `top_logprobs` and answers with them as OpenAI does.
TAKES_LOGPROBS = frozenset({"azure_openai", "deepseek", "openai", "together", "upstage", "xai"})
TOP_LOGPROBS = 5  # the most that every one of them takes


def build_chat_model(config: ModelConfig) -> BaseChatModel:
    """Return the chat model of `config`. Nobody is contacted.

    Raises:
        ConfigError: `llm.*.model` is missing, the provider or its package is unknown, or the key is not set. Its text
            and its traceback hold no key.
    """
    if config.provider == "rules":
        from ..rules.chat_model import RulesChatModel

        return RulesChatModel()
    if not config.model:
        raise ConfigError(
            f"llm provider {config.provider!r} needs a model, got {config.model!r}; set llm.default.model"
        )
    chat = _chat_model_or_problem(config.model, config)
    # Raised here, where neither the package's own error, which may hold the key, is the context, nor the key a local.
    if isinstance(chat, str):
        raise ConfigError(chat)
    return chat


def _chat_model_or_problem(model: str, config: ModelConfig) -> BaseChatModel | str:
    """Return the chat model, or in words why there is none."""
    # The key is in these settings and in no other frame of a traceback.
    settings, provider = _settings(config), config.provider
    try:
        if provider == "openai":
            from .openai_chat import TolerantChatOpenAI, bounded_client

            # LangChain takes a proxy from this variable, but not beside a client. Without its own options of sockets it
            # does not warn of every other proxy.
            client = bounded_client(os.environ.get("OPENAI_PROXY") or None)
            own = {"http_async_client": client, "openai_proxy": "", "http_socket_options": ()}
            return TolerantChatOpenAI(**{"model": model, **own, **settings})
        from langchain.chat_models import init_chat_model

        chat = init_chat_model(model, model_provider=provider, **settings)
    except ImportError as error:
        reason = _reason(error, config)
        # LangChain's own advice, where it gives one.
        named = re.search(r"pip install (?:-U )?([\w.\-\[\]]+)", reason)
        package = named[1] if named else f"langchain-{provider.replace('_', '-')}"
        return f"llm provider {provider!r} is not installed ({reason}); install it with: pip install {package}"
    except Exception as error:  # noqa: BLE001 - packages disagree on what they raise for a wrong name or key
        reason = _reason(error, config)
        return f"llm provider {provider!r} cannot be set up: {reason}; check provider, model and api_key_env"
    if not isinstance(chat, BaseChatModel):
        return f"llm model {model!r} gives {type(chat).__name__!r}; name a chat model"
    return chat


def _reason(error: Exception, config: ModelConfig) -> str:
    """Return the text of a package's error on one line (packages write paragraphs), bounded and without keys."""
    text = Redactor(model_key_variables(config)).redact(str(error))
    return printable(cut(" ".join(text.split()), MAX_ERROR))


def _settings(config: ModelConfig) -> dict[str, Any]:
    """Return the arguments of the chat model, its key included."""
    # One layer retries, and it is `retry`: it sees the run's limits and writes a ledger row an attempt.
    settings: dict[str, Any] = {"max_retries": 0, "timeout": config.timeout_s}
    if config.provider in TAKES_MAX_TOKENS:
        settings["max_tokens"] = config.max_output_tokens
    if config.temperature is not None:
        settings["temperature"] = config.temperature
    if config.logprobs:
        if config.provider not in TAKES_LOGPROBS:
            raise ConfigError(
                f"llm logprobs must be false but for the providers {', '.join(sorted(TAKES_LOGPROBS))}, got true for "
                f"{config.provider!r}; set it to false, and preferences.queries to 2 or more"
            )
        settings |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    if config.base_url is not None:
        settings["base_url"] = config.base_url
    if config.provider == "openai":
        settings["use_responses_api"] = False  # OpenAI-compatible servers speak chat completions
    key = _key(config)
    if key is not None:
        settings["api_key"] = key
    return settings


def _key(config: ModelConfig) -> str | None:
    """Return the key that `api_key_env` names; None leaves it to the provider's package, which reads its variable."""
    if config.api_key_env is not None:
        key = os.environ.get(config.api_key_env)
        if not key:
            if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", config.api_key_env):  # this may be the key itself
                raise ConfigError("the environment variable that llm api_key_env names is not set; name one that is")
            raise ConfigError(
                f"environment variable {config.api_key_env!r} (llm api_key_env) is not set; "
                f"export {config.api_key_env}=<the key>"
            )
        _check_fits_header(config.api_key_env, key)
        return key
    if config.base_url is not None:
        # Local servers take any key, and the client refuses to start without one. It must not be the provider's own:
        # that key is for the provider's address.
        return "unused" if config.provider in PROVIDER_VARIABLES else None
    # The package reads its key by itself; what it could not send is found here.
    names = PROVIDER_VARIABLES.get(config.provider, ())
    for name in names:
        _check_fits_header(name, os.environ.get(name, ""))
    if config.provider in NEEDS_KEY and not any(os.environ.get(name) for name in names):
        name = names[0]
        raise ConfigError(
            f"environment variable {name!r}, which llm provider {config.provider!r} reads, is not set; "
            f"export {name}=<the key>, or name another variable by api_key_env"
        )
    return None


def _check_fits_header(name: str, key: str) -> None:
    """Refuse a key that an HTTP header cannot hold, without repeating it."""
    if not key.isascii() or any(char.isspace() or not char.isprintable() for char in key):
        raise ConfigError(
            f"the key in environment variable {name!r} holds blanks, line ends or letters of no key; export it again"
        )
