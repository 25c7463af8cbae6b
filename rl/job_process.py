"""A job in a file, that a process of its own does: `python -m MODULE JOB.json`.

The same job always gives the same files; the last one, which whoever asks looks for, is written as a whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..errors import CosignalError
from ..files import write_whole
from .processes import leave_with_parent, one_thread

RESULT = "result.json"


class FileJob(Protocol):
    """What a process is asked; a frozen config."""

    @property
    def kind(self) -> str: ...

    @property
    def run_dir(self) -> Path: ...

    @property
    def out(self) -> str:
        """The folder that the result is written to, relative to the run directory."""
        ...

    def model_dump_json(self, *, indent: int | None = None) -> str: ...


J = TypeVar("J", bound=FileJob)


def result_file(job: FileJob) -> Path:
    """Return where the process writes the answer to a job, as its last file."""
    return job.run_dir / job.out / f"{job.kind}.{RESULT}"


def do_job(path: Path, read: Callable[[str], J], work: Callable[[J, ExitStack], Any], closing: ExitStack) -> int:
    """Do the job that is written in `path`, and return the exit code; errors of a job go to standard error.

    Args:
        path: the file of the job.
        read: makes a job of its text.
        work: does it, and returns the answer as plain data.
        closing: what is to be closed at last, such as environments, goes onto it.
    """
    leave_with_parent()
    one_thread()
    try:
        job = read(path.read_text())
        result = work(job, closing)
    except CosignalError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    file = result_file(job)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(result))
    return 0
