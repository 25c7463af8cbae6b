"""Signals that a config gives, made before the run: in place of a Generator's, or as examples for one.

One form of file serves both, a list of `{title, signal}`. `cosignal signals` writes it with the origin of each, which
says for which task a signal is an example.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from ..errors import ConfigError
from ..rl.base_config import Config
from ..rl.signals.signal import Signal
from ..text import one_line
from .identity import TaskIdentity
from .load import Settings, explain_errors, explain_misread, read_document

MAX_GIVEN = 8  # as many as a round may have candidates
MAX_LIBRARY = 64  # signals of all files together


class Origin(Config):
    """The run in which a signal did well, and what was proven there.

    Attributes:
        version: of this form.
        task: name of the task, or the import path of its environment.
        task_digest: of its settings; see `config.identity.task_identity`.
        run: name of the run directory.
        seed: of the run.
        proposal: its id in the run.
        claim: what was proven: with `policy` that a policy which was trained under it is better than the main line's,
            and nothing of the signal; with `signal` that branches under it end better, over training seeds.
        gain: in sparse return: of that policy, or of those branches.
        over_kick: of that policy's mean return over that of the arm with the exploration kick alone, at their last
            common look; None where not both raced.
        steps: main environment steps at which it was put in force.
    """

    version: Literal[1] = 1
    task: str = Field(min_length=1, max_length=200)
    task_digest: str = Field(pattern=r"^[0-9a-f]{16}$")
    run: str = Field(max_length=300)
    seed: int = Field(ge=0)
    proposal: str = Field(max_length=80)
    claim: Literal["policy", "signal"]
    gain: float
    over_kick: float | None = None
    steps: int = Field(ge=0)

    @property
    def task_identity(self) -> TaskIdentity:
        """The task, as configs are compared with it."""
        return TaskIdentity(self.task, self.task_digest)


class GivenSignal(Config):
    """A signal with the title that records show.

    The signal's own version, parent, stage and scale do not count: it gets those of the run at the point where it is
    tried, as a proposal does.

    Attributes:
        origin: None for one that no run is known of.
    """

    title: str = Field(min_length=1, max_length=80)
    signal: Signal
    origin: Origin | None = Field(default=None, exclude_if=lambda origin: origin is None)


class _Given(BaseModel):
    signals: tuple[GivenSignal, ...]


def read_signals(path: Path, most: int = MAX_GIVEN) -> list[dict[str, Any]]:
    """Return the list of titles and signals that a file holds, as plain data that makes `GivenSignal`s.

    Args:
        path: a file in YAML or JSON, relative to the working directory.
        most: signals that it may hold.

    Raises:
        ConfigError: there is no such file, or something in it is wrong; a line for each, with place, rule, value and
            remedy.
    """
    read = read_document(path, "a file of signals")
    if not isinstance(read.data, list) or not 1 <= len(read.data) <= most:
        got = f"{len(read.data)} of them" if isinstance(read.data, list) else type(read.data).__name__
        raise ConfigError(f"{path}: must be a list of 1 to {most} signals, each {{title, signal}}, got {got}")
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
