"""The loop's log: JSON lines in the run directory, without touching anybody's global logging configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TextIO

import structlog

HOSTED_TRACING = ("LANGSMITH_", "LANGCHAIN_")  # what the names of such a service's variables begin with
SENDING = (*HOSTED_TRACING, "OTEL_")  # and those of OpenTelemetry, which may hold a collector's key
TRACING = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")


class Log:
    """One JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._logger = structlog.wrap_logger(
            structlog.WriteLogger(stream),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
            process="loop",
        )

    def write(self, event: str, **values: Any) -> None:
        self._logger.info(event, **values)

    def close(self) -> None:
        self._stream.close()


def open_log(path: Path) -> Log:
    return Log(path.open("a", buffering=1))


def tracing_variables() -> list[str]:
    """Variables that ask LangChain to post prompts to a hosted service. Runs ignore them, but with `llm.tracing`."""
    return [name for name in TRACING if os.environ.get(name, "").lower() in ("1", "true")]
