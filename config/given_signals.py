"""Signals that a config gives in place of a Generator's: somebody has made them before the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from ..errors import ConfigError
from ..rl.base_config import Config
from ..rl.signals.signal import Signal
from ..text import one_line
from .load import Settings, explain_errors, explain_misread, read_document

MAX_GIVEN = 8  # as many as a round may have candidates


class GivenSignal(Config):
    """A signal with the title that records show.

    The signal's own version, parent, stage and scale do not count: it gets those of the run at the point where it is
    tried, as a proposal does.
    """

    title: str = Field(min_length=1, max_length=80)
    signal: Signal


class _Given(BaseModel):
    signals: tuple[GivenSignal, ...]


def read_signals(path: Path) -> list[dict[str, Any]]:
    """Return the list of titles and signals that a file holds, as plain data that makes `GivenSignal`s.

    Args:
        path: a file in YAML or JSON, relative to the working directory.

    Raises:
        ConfigError: there is no such file, or something in it is wrong; a line for each, with place, rule, value and
            remedy.
    """
    read = read_document(path, "a file of signals")
    if not isinstance(read.data, list) or not 1 <= len(read.data) <= MAX_GIVEN:
        got = f"{len(read.data)} of them" if isinstance(read.data, list) else type(read.data).__name__
        raise ConfigError(f"{path}: must be a list of 1 to {MAX_GIVEN} signals, each {{title, signal}}, got {got}")
    places = {f"signals.{key}": f"{path}, line {line}: " for key, line in read.lines.items() if key}
    written = {f"signals.{key}": text for key, text in read.written.items()}
    settings = Settings(path, {"signals": read.data}, places, written)
    try:
        wrong = list(explain_misread(settings, _Given.model_validate(settings.data)))
    except ValidationError as error:
        wrong = list(explain_errors(_Given, settings, error))
    if wrong:
        raise ConfigError("\n".join(one_line(line) for line in wrong))
    return read.data
