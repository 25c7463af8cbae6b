"""From a `ModelConfig` to a LangChain chat model. Provider packages take seconds to import, so only here, and late."""

from __future__ import annotations

import os
from typing import Any

from langchain_core.language_models import BaseChatModel

from ..errors import ConfigError
from .config import ModelConfig


def build_chat_model(config: ModelConfig) -> BaseChatModel:
    """The chat model of `config`; contacts nobody.

    Raises:
        ConfigError: `llm.*.model` is missing, the provider or its package is unknown, or the key is not set.
    """
    if config.provider == "rules":
        from .rules import RulesChatModel

        return RulesChatModel()
    if not config.model:
        raise ConfigError(
            f"llm provider {config.provider!r} needs a model, got {config.model!r}; set llm.default.model"
        )
    from langchain.chat_models import init_chat_model

    try:
        chat = init_chat_model(config.model, model_provider=config.provider, **_settings(config))
    except ImportError as error:
        raise ConfigError(f"llm provider {config.provider!r} is not installed: {error}; install its package") from error
    except Exception as error:  # packages disagree on what they raise for an unknown provider or a missing key
        raise ConfigError(
            f"llm provider {config.provider!r} cannot be set up: {error}; check provider, model and api_key_env"
        ) from error
    if not isinstance(chat, BaseChatModel):
        raise ConfigError(f"llm model {config.model!r} gives {type(chat).__name__!r}; name a chat model")
    return chat


def secret(config: ModelConfig) -> str | None:
    """The key that `api_key_env` names, None where none is named or set."""
    return os.environ.get(config.api_key_env) if config.api_key_env else None


def _settings(config: ModelConfig) -> dict[str, Any]:
    # The provider's client retries by itself (429 and dropped connections); no other layer does.
    settings: dict[str, Any] = {"max_retries": 2, "timeout": config.timeout_s}
    if config.temperature is not None:
        settings["temperature"] = config.temperature
    if config.base_url is not None:
        settings["base_url"] = config.base_url
    if config.provider == "openai":
        settings["use_responses_api"] = False  # what OpenAI-compatible servers speak
    key = _key(config)
    if key is not None:
        settings["api_key"] = key
    return settings


def _key(config: ModelConfig) -> str | None:
    if config.api_key_env is None:
        # Local servers take any key, and the client refuses to start without one.
        return "unused" if config.base_url is not None else None
    key = secret(config)
    if not key:
        raise ConfigError(f"environment variable {config.api_key_env!r} (llm api_key_env) is not set; export the key")
    return key
