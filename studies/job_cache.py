"""Jobs of studies: run two at a time, each in a process of its own, and cached.

A job is one seed of one arm, or one trial. Its value follows from its content (what is run, with which config) and from
the code, so it is cached under the hash of both: `studies_out/cache/KIND-HASH.json`. So a study that was interrupted
goes on where it was, and studies share the jobs that they have in common. Beside that file lies the job's own folder,
where a run that was cut off is resumed.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
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

from ..files import write_whole
from ..rl.processes import leave_with_parent

CACHE = Path("studies_out/cache")
PARALLEL = 2  # jobs at a time; 0 runs them one after another in this process
SOURCES = ("*.py", "*.yaml", "*.md")  # files whose content counts where the code is not what was committed
NO_SOURCES = ("tests", "docs", "runs_out", "studies_out", "build", "shared")

Work = Callable[[dict[str, Any], Path], Any]


@dataclass(frozen=True)
class Job:
    """Something to run: `work(content, folder)` returns its value.

    Attributes:
        kind: of the work; begins the name of the file.
        content: everything that the value depends on besides the code, as plain JSON.
        work: a function of a module, so that another process can import it. Its value is plain JSON.
        name: what lines of progress call it; it does not change the key.
        summarise: returns the value in a few words for a line of progress.
    """

    kind: str
    content: Mapping[str, Any]
    work: Work = field(compare=False)
    name: str = ""
    summarise: Callable[[Any], str] = field(default=str, compare=False)

    @property
    def key(self) -> str:
        """The kind and 20 hex digits of content and code."""
        text = json.dumps([code_id(), self.content], sort_keys=True)
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"

    @property
    def path(self) -> Path:
        """The file of the cached value."""
        return CACHE / f"{self.key}.json"


def run_jobs(jobs: Sequence[Job], tell: Callable[[str], None]) -> list[Any]:
    """Return the values of the jobs, in order.

    Cached ones are read; the others are run and cached; equal jobs are run once. `tell` gets a line for each job that
    was run.

    Raises:
        Exception: whatever a job raises, after the jobs that run beside it are finished and cached.
    """
    # equal jobs have one key, so they are run once
    missing = deque({job.key: job for job in jobs if not job.path.exists()}.values())
    if cached := len({job.key for job in jobs}) - len(missing):
        tell(f"{cached} jobs are cached, {len(missing)} are to be run")

    def report(job: Job, row: dict[str, Any]) -> None:
        tell(f"{job.name}: {job.summarise(row['value'])}; {row['cpu_s']:.0f} CPU-s")

    def task(job: Job) -> tuple[Work, dict[str, Any], str, str]:
        return job.work, dict(job.content), str(job.path), code_id()

    if not PARALLEL:
        for job in missing:
            report(job, _run_and_cache(*task(job)))
    else:
        running: dict[Future[dict[str, Any]], Job] = {}
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(PARALLEL, mp_context=context, initializer=leave_with_parent) as pool:
            while missing or running:
                # none waits in the pool: an interrupt would still start it
                while missing and len(running) < PARALLEL:
                    job = missing.popleft()
                    running[pool.submit(_run_and_cache, *task(job))] = job
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    report(running.pop(future), future.result())
    return [json.loads(job.path.read_text())["value"] for job in jobs]


def _run_and_cache(work: Work, content: dict[str, Any], path: str, code: str) -> dict[str, Any]:
    """Run one job and write its file, which is whole or not there."""
    file = Path(path)
    folder = file.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    before = _cpu_s()
    value = work(content, folder)
    row = {"content": content, "code": code, "cpu_s": round(_cpu_s() - before, 1), "value": value}
    write_whole(file, json.dumps(row))
    return row


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


# ---------------------------------------------------------------- the code


def commit() -> str:
    """Return the commit of the code that runs, with `-dirty` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    described = subprocess.run(command, cwd=_package(), capture_output=True, text=True, check=False)
    return described.stdout.strip() or "not a checkout"


@cache
def code_id() -> str:
    """Return the commit; where the code is not what was committed, with a hash of its sources."""
    name = commit()
    if name != "not a checkout" and not name.endswith("-dirty"):
        return name
    digest = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES for path in _package().rglob(pattern)):
        parts = path.relative_to(_package()).parts
        if parts[0] not in NO_SOURCES and not any(part.startswith(".") for part in parts):
            digest.update(str(parts).encode() + b"\0" + path.read_bytes())
    return f"{name}+{digest.hexdigest()[:16]}"


def _package() -> Path:
    return Path(str(resources.files("cosignal")))
