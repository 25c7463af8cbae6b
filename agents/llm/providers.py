"""From a `ModelConfig` to a LangChain chat model. Provider packages take seconds to import, so only here, and late."""

from __future__ import annotations

import os
import re
from typing import Any

from langchain_core.language_models import BaseChatModel

from ...errors import ConfigError
from ..config import ModelConfig
from .parse import printable
from .secrets import NEEDS_KEY, PROVIDER_VARIABLES, Redactor, variables

# Providers whose chat model takes the bound of an answer by this name.
TAKES_MAX_TOKENS = frozenset(
    {"anthropic", "azure_openai", "bedrock_converse", "deepseek", "fireworks", "google_genai", "groq", "mistralai",
     "openai", "openrouter", "perplexity", "together", "upstage", "xai"}
)  # fmt: skip

# Providers whose chat model takes `logprobs` and `top_logprobs` and answers with them as OpenAI does.
TAKES_LOGPROBS = frozenset({"azure_openai", "deepseek", "openai", "together", "upstage", "xai"})
TOP_LOGPROBS = 5  # the most that every one of them takes


def build_chat_model(config: ModelConfig) -> BaseChatModel:
    """The chat model of `config`; contacts nobody.

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
    built = _init(config.model, config.provider, _settings(config), Redactor(variables(config)))
    if isinstance(built, str):
        raise ConfigError(built)  # out here, so that the package's own error, which may hold the key, is no context
    return built


def _init(model: str, provider: str, settings: dict[str, Any], redactor: Redactor) -> BaseChatModel | str:
    """The chat model, or in words why there is none."""
    from langchain.chat_models import init_chat_model

    try:
        chat = init_chat_model(model, model_provider=provider, **settings)
    except ImportError as error:
        said = _one_line(redactor.text(str(error)))
        package = _package(said, provider)
        return f"llm provider {provider!r} is not installed ({said}); install it with: pip install {package}"
    except Exception as error:  # noqa: BLE001 - packages disagree on what they raise for a wrong name or key
        said = _one_line(redactor.text(str(error)))
        return f"llm provider {provider!r} cannot be set up: {said}; check provider, model and api_key_env"
    if not isinstance(chat, BaseChatModel):
        return f"llm model {model!r} gives {type(chat).__name__!r}; name a chat model"
    return chat


def _one_line(text: str) -> str:
    """Packages write paragraphs; whoever shows this shows rows."""
    return printable(" ".join(text.split()))


def _package(said: str, provider: str) -> str:
    named = re.search(r"pip install (?:-U )?([\w.\-\[\]]+)", said)
    return named[1] if named else f"langchain-{provider.replace('_', '-')}"


def _settings(config: ModelConfig) -> dict[str, Any]:
    # One layer retries, and it is ours (`retry`): it sees the run's limits and writes a ledger row an attempt.
    settings: dict[str, Any] = {"max_retries": 0, "timeout": config.timeout_s}
    if config.provider in TAKES_MAX_TOKENS:
        settings["max_tokens"] = config.max_output_tokens
    if config.temperature is not None:
        settings["temperature"] = config.temperature
    if config.logprobs:
        _require_logprobs(config.provider)
        settings |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    if config.base_url is not None:
        settings["base_url"] = config.base_url
    if config.provider == "openai":
        settings["use_responses_api"] = False  # what OpenAI-compatible servers speak
    key = _key(config)
    if key is not None:
        settings["api_key"] = key
    return settings


def _key(config: ModelConfig) -> str | None:
    """The key that `api_key_env` names; None leaves it to the provider's package, which reads its own variable."""
    if config.api_key_env is not None:
        key = os.environ.get(config.api_key_env)
        if not key:
            raise ConfigError(
                f"environment variable {config.api_key_env!r} (llm api_key_env) is not set; "
                f"export {config.api_key_env}=<the key>"
            )
        return _require_plain(config.api_key_env, key)
    if config.base_url is not None:
        # Local servers take any key, and the client refuses to start without one. It must not be the provider's own:
        # that key is for the provider's address.
        return "unused" if config.provider in PROVIDER_VARIABLES else None
    names = PROVIDER_VARIABLES.get(config.provider, ())
    for name in names:
        _require_plain(name, os.environ.get(name, ""))
    if config.provider in NEEDS_KEY and not any(os.environ.get(name) for name in names):
        name = names[0]
        raise ConfigError(
            f"environment variable {name!r}, which llm provider {config.provider!r} reads, is not set; "
            f"export {name}=<the key>, or name another variable by api_key_env"
        )
    return None


def _require_logprobs(provider: str) -> None:
    if provider not in TAKES_LOGPROBS:
        raise ConfigError(
            f"llm logprobs must be false but for the providers {', '.join(sorted(TAKES_LOGPROBS))}, got true for "
            f"{provider!r}; set it to false, and preferences.queries to 2 or more"
        )


def _require_plain(name: str, key: str) -> str:
    """`key`, which goes into an HTTP header. Its value is not repeated where it cannot."""
    if key.isascii() and not any(letter.isspace() or not letter.isprintable() for letter in key):
        return key
    raise ConfigError(
        f"the key in environment variable {name!r} holds blanks, line ends or letters of no key; export it again"
    )
