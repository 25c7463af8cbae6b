"""Pieces of studies: run two at a time, each in a process of its own, and kept, so that a study that was interrupted
goes on where it was and studies share what they have in common.

A piece is one seed of one arm, or one trial. Its value follows from its content (what is run, with which config) and
from the code, so it is kept under the hash of both: `studies_out/cache/KIND-HASH.json`. Beside that file lies the
piece's own folder, where a run that was cut off is resumed.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ..rl.processes import leave_with_parent

CACHE = Path("studies_out/cache")
PARALLEL = 2  # pieces at a time; 0: one after another in this process
SOURCES = ("*.py", "*.yaml", "*.md")
NO_SOURCES = ("tests", "docs", "runs_out", "studies_out", "build", "shared")

Content = Mapping[str, Any]
Work = Callable[[dict[str, Any], Path], Any]


@dataclass(frozen=True)
class Job:
    """`work(content, folder)` gives the piece's value; content and value are plain JSON, `work` is a function of a
    module. `name` and `told(value)` are for lines of progress and change nothing."""

    kind: str
    content: Content
    work: Work = field(compare=False)
    name: str = ""
    told: Callable[[Any], str] = field(default=str, compare=False)

    @property
    def key(self) -> str:
        text = json.dumps([code_id(), self.content], sort_keys=True)
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def run_jobs(pieces: Sequence[Job], tell: Callable[[str], None]) -> list[Any]:
    """The values, in order. Kept ones are read; the others are run and kept; equal pieces are run once.

    What one raises is raised here, after the pieces that run beside it are finished and kept.
    """
    missing = {piece.key: piece for piece in pieces if not _path(piece).exists()}
    kept = len({piece.key for piece in pieces}) - len(missing)
    if kept:
        tell(f"{kept} pieces are kept from before, {len(missing)} are to be run")

    def done(piece: Job, row: dict[str, Any]) -> None:
        tell(f"{piece.name}: {piece.told(row['value'])}; {row['cpu_s']:.0f} CPU-s")

    _run_missing(deque(missing.values()), done)
    return [json.loads(_path(piece).read_text())["value"] for piece in pieces]


def _run_missing(missing: deque[Job], done: Callable[[Job, dict[str, Any]], None]) -> None:
    if not PARALLEL:
        for piece in missing:
            done(piece, _finish(*_task(piece)))
        return
    running: dict[Future[dict[str, Any]], Job] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PARALLEL, mp_context=context, initializer=leave_with_parent) as pool:
        while missing or running:
            while missing and len(running) < PARALLEL:  # none waits in the pool: an interrupt would still start it
                piece = missing.popleft()
                running[pool.submit(_finish, *_task(piece))] = piece
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                done(running.pop(future), future.result())


def _task(piece: Job) -> tuple[Work, dict[str, Any], str, str]:
    return piece.work, dict(piece.content), str(_path(piece)), code_id()


def _finish(work: Work, content: dict[str, Any], path: str, code: str) -> dict[str, Any]:
    """Run one piece and keep its value; the file is whole or not there."""
    file = Path(path)
    folder = file.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    before = _cpu_s()
    value = work(content, folder)
    row = {"content": content, "code": code, "cpu_s": round(_cpu_s() - before, 1), "value": value}
    write_whole(file, json.dumps(row))
    return row


def write_whole(file: Path, text: str) -> None:
    """The whole file or none, also after a kill."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def _path(piece: Job) -> Path:
    return CACHE / f"{piece.key}.json"


def _cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


# ---------------------------------------------------------------- the code


def commit() -> str:
    """Of the code that runs, with `-dirty` where it is not what was committed."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, cwd=_package(), capture_output=True, text=True, check=False)
    return found.stdout.strip() or "not a checkout"


@cache
def code_id() -> str:
    """The commit; where the code is not what was committed, with a hash of its sources."""
    name = commit()
    return name if name != "not a checkout" and not name.endswith("-dirty") else f"{name}+{_sources_hash()}"


def _sources_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES for path in _package().rglob(pattern)):
        inside = path.relative_to(_package()).parts
        if inside[0] not in NO_SOURCES and not any(part.startswith(".") for part in inside):
            digest.update(str(inside).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _package() -> Path:
    return Path(str(resources.files("cosignal")))
