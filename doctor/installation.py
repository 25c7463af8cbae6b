"""Is cosignal installed as it should be, and can it write and listen where it wants to?"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import zmq
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ..errors import ConfigError
from ..rl.ipc.launcher import runtime_dir
from ..rl.processes import check_device as device_of_torch
from .check import Check, from_error, ok, problem, warning

SHOWN = ("torch", "langgraph", "langchain-core", "pettingzoo", "pyzmq")  # by version, the others are counted
MIB = 2**20
LOW_DISK, NO_DISK = 1024 * MIB, 64 * MIB  # a run of the shipped example takes some 100 MiB


def check_installation() -> Iterator[Check]:
    """Python, the packages that cosignal requires, the machine, and sockets."""
    try:
        own = distribution("cosignal")
    except PackageNotFoundError:
        rule = "cosignal must be installed to know what it requires"
        yield warning("packages", f"{rule}, found no such distribution", "run `make setup`, or pip install the wheel")
    else:
        yield _check_python(own.metadata["Requires-Python"])
        yield from _check_packages([Requirement(text) for text in own.requires or ()])
    yield _check_sockets()


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_cores(workers: int, overlap: bool) -> Check:
    """Every process has one thread. Under lockstep the trainer waits while the workers work."""
    busy, found = workers + overlap, cores()
    words = f"branches.workers {workers}" + (" beside the trainer" if overlap else "") + f" on {found} cores"
    if busy <= found:
        return ok("cores", f"{words}, one thread each")
    return warning("cores", f"{words}: they slow each other down", f"set branches.workers={max(1, found - overlap)}")


def check_device(device: str) -> Iterator[Check]:
    """Whether torch can use what the networks are to live on."""
    try:
        device_of_torch(device)
    except ConfigError as error:
        yield from from_error("device", error)
    else:
        yield ok("device", f"networks live on {device}")


def check_run_dir(run_dir: Path) -> Iterator[Check]:
    """Whether runs can be written there; leaves nothing behind."""
    folder = _nearest(run_dir.absolute())
    try:
        with tempfile.TemporaryDirectory(prefix=".cosignal-doctor-", dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        rule = f"must be a folder that can be written, got {str(run_dir)!r} ({error.strerror})"
        yield problem("run_dir", rule, "set another run_dir")
        return
    words = f"{run_dir} can be written, {free / MIB:,.0f} MiB free"
    if free < NO_DISK:
        yield problem("run_dir", words, "free some space or set another run_dir")
    elif free < LOW_DISK:
        yield warning("run_dir", words, "free some space: each branch leaves a snapshot")
    else:
        yield ok("run_dir", words)


def _nearest(path: Path) -> Path:
    """The path or the first folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _check_python(required: str) -> Check:
    found = platform.python_version()
    if SpecifierSet(required).contains(found, prereleases=True):
        return ok("python", f"{found} (needs {required})")
    return problem("python", f"must be {required}, got {found}", "make the environment with a newer Python")


def _check_packages(requirements: list[Requirement]) -> Iterator[Check]:
    needed = [item for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})]
    found = {item.name: _version(item.name) for item in needed}
    wrong = [item for item in needed if not _fits(item, found[item.name])]
    for item in wrong:
        rule = f"must be {item.specifier or 'installed'}, got {found[item.name] or 'none'}"
        yield problem(f"package {item.name}", rule, f"pip install '{item}'")
    if not wrong:
        shown = ", ".join(f"{name} {found[name]}" for name in SHOWN if name in found)
        yield ok("packages", f"all {len(needed)} as required ({shown})")


def _fits(item: Requirement, found: str | None) -> bool:
    return found is not None and item.specifier.contains(found, prereleases=True)


def _version(name: str) -> str | None:
    """None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _check_sockets() -> Check:
    """Loop, trainer and workers talk over Unix sockets in a private folder."""
    try:
        folder = runtime_dir()
    except OSError as error:
        return problem("sockets", f"a folder for sockets must be made, got {error}", "set TMPDIR to a writable folder")
    try:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.bind(f"ipc://{folder}/doctor")
    except zmq.ZMQError as error:
        rule = f"a Unix socket must be opened below {str(folder.parent)!r}, got {error}"
        return problem("sockets", rule, "set TMPDIR to a folder on a local file system")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ok("sockets", f"processes can talk below {folder.parent}")
