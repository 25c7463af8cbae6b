"""Keys: environment variables that are named and never written, and texts without their values."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from urllib.parse import quote

from ..config import ROLES, LLMConfig, ModelConfig

REDACTED = "***"
MIN_SECRET = 8  # characters; shorter values (`none`, `dummy`) stand in any text, and no provider's key is that short
# The variables that provider packages read by themselves where the config names none.
PROVIDER_VARIABLES: dict[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "anthropic_bedrock": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "azure_ai": ("AZURE_AI_CREDENTIAL", "AZURE_OPENAI_API_KEY"),
    "azure_openai": ("AZURE_OPENAI_API_KEY", "OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
    "baseten": ("BASETEN_API_KEY",),
    "bedrock": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"),
    "bedrock_converse": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "fireworks": ("FIREWORKS_API_KEY",),
    "google_genai": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "huggingface": ("HUGGINGFACEHUB_API_TOKEN", "HF_TOKEN"),
    "ibm": ("WATSONX_API_KEY", "WATSONX_APIKEY", "WATSONX_PASSWORD", "WATSONX_TOKEN"),
    "langsmith": ("LANGSMITH_API_KEY",),
    "mistralai": ("MISTRAL_API_KEY",),
    "nvidia": ("NVIDIA_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "perplexity": ("PPLX_API_KEY", "PERPLEXITY_API_KEY"),
    "together": ("TOGETHER_API_KEY",),
    "upstage": ("UPSTAGE_API_KEY",),
    "xai": ("XAI_API_KEY",),
}
# Providers whose package takes its key from exactly one variable: a missing key is reported before it is loaded.
NEEDS_KEY = ("anthropic", "deepseek", "fireworks", "groq", "openai", "openrouter", "together", "upstage", "xai")


def key_variable_names(config: LLMConfig) -> list[str]:
    """Return the environment variables with keys, which trainer and workers must not see.

    They are those that any model of the run names, fallbacks included, and those that any provider's package reads;
    each once and in order of the alphabet.
    """
    return sorted({name for role in ROLES for model in config.chain(role) for name in model_key_variables(model)})


def model_key_variables(config: ModelConfig) -> list[str]:
    """Return the environment variables with keys that a text about the model of `config` may repeat.

    They are the one that is named, and those of every provider, since a chat model of the user's own may have taken
    any of them.
    """
    named = [config.api_key_env] if config.api_key_env else []
    return [*named, *(name for names in PROVIDER_VARIABLES.values() for name in names)]


class Redactor:
    """Takes keys out of texts: the values of environment variables, read when a text is redacted, and `values`."""

    def __init__(self, names: Iterable[str], values: Iterable[str] = ()) -> None:
        self._names = tuple(names)
        self._values = tuple(values)

    def redact(self, text: str) -> str:
        """Return `text` with `***` for every key, also where it was escaped for JSON, a URL or Python."""
        return self.function()(text)

    def function(self) -> Callable[[str], str]:
        """Return `redact` for many texts: the variables are read once, now."""
        # A variable may hold blanks around the key; servers repeat it without.
        values = [*self._values, *(os.environ.get(name, "") for name in self._names)]
        # As it is, and as JSON, a URL and Python's repr would write it.
        written = {
            form
            for value in values
            for key in (value, value.strip())
            if len(key) >= MIN_SECRET
            for form in (key, json.dumps(key)[1:-1], quote(key, safe=""), repr(key)[1:-1])
        }
        longest_first = sorted(written, key=len, reverse=True)  # a key that is part of another one goes last

        def redact(text: str) -> str:
            for key in longest_first:
                text = text.replace(key, REDACTED)
            return text

        return redact
