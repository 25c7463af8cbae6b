"""The loop's log `log.jsonl`: one JSON object a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import structlog

from ...files import writing


class RunLog:
    """JSON lines, appended to a file, without touching anybody's global logging configuration."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises StorageError where it cannot be written."""
        self._path = path
        with writing(path):
            self._file = path.open("ab", buffering=0)
            # A disk that was full may have cut the last line.
            if self._file.tell() and not _ends_with_newline(path):
                self._file.write(b"\n")
        self._logger = structlog.wrap_logger(
            structlog.BytesLogger(self._file),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(_json_bytes),
            ],
            process="loop",
        )

    def write(self, event: str, **values: Any) -> None:
        """Append one line: the event's name, `values`, the level and the time (UTC).

        Raises:
            StorageError: the disk is full.
        """
        with writing(self._path):
            self._logger.info(event, **values)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _json_bytes(event: Any, **options: Any) -> bytes:
    return json.dumps(event, **options).encode()
