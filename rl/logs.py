"""JSON-lines logs (structlog)."""

from __future__ import annotations

from pathlib import Path

import structlog


def log_to(path: Path, **bound: str) -> None:
    """Send this process's log to `path`, one JSON object a line, with `bound` on every line."""
    stream = path.open("a", buffering=1)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )
    structlog.contextvars.bind_contextvars(**bound)
