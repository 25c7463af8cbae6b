"""Environment variables that make a library post prompts, spans or keys to a hosted service.

LangChain posts every prompt to LangSmith where a variable asks for it. A run ignores these variables unless the config
says `llm.tracing`, and hides them, with OpenTelemetry's and with all keys, from the processes that it starts.
"""

from __future__ import annotations

import os

from ..config import LLMConfig
from .secrets import key_variable_names

# The switches that LangChain reads.
TRACING_SWITCHES = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")
# How the variables of LangSmith and of OpenTelemetry begin; OTEL_… may hold the key of a collector.
POSTING_PREFIXES = ("LANGSMITH_", "LANGCHAIN_", "OTEL_")


def tracing_variables() -> list[str]:
    """Return the variables that ask LangChain to post prompts to a hosted service."""
    return [name for name in TRACING_SWITCHES if os.environ.get(name, "").lower() in ("1", "true")]


def hidden_from_children(config: LLMConfig) -> list[str]:
    """Return the variables that trainer and workers must not see: keys, and what would make a library post something.

    Only names are returned, never values.
    """
    return [*key_variable_names(config), *(name for name in os.environ if name.startswith(POSTING_PREFIXES))]
