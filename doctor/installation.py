"""Check that cosignal is installed as it should be, and can write, listen and compute where it wants to."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import zmq
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ..errors import ConfigError
from ..packages import installed_version
from ..rl.ipc.runtime_dir import make_runtime_dir, remove_runtime_dir
from ..rl.processes import check_device as check_device_of_torch
from .check import Check, ok, problem, problems_from, warning

SHOWN = ("torch", "langgraph", "langchain-core", "pettingzoo", "pyzmq")  # by version, the others are counted
MIB = 2**20
LOW_DISK, NO_DISK = 1024 * MIB, 64 * MIB  # a run of the shipped example takes some 100 MiB


def check_installation() -> Iterator[Check]:
    """Check Python, the packages that cosignal requires, and sockets."""
    try:
        cosignal = distribution("cosignal")
    except PackageNotFoundError:
        rule = "cosignal must be installed to know what it requires"
        yield warning("packages", f"{rule}, found no such distribution", "run `make setup`, or pip install the wheel")
    else:
        yield check_python(cosignal.metadata["Requires-Python"])
        yield from check_packages([Requirement(text) for text in cosignal.requires or ()])
    yield check_sockets()


def check_python(required: str) -> Check:
    """Check the version of Python against a specifier such as `>=3.11`."""
    version = platform.python_version()
    if SpecifierSet(required).contains(version, prereleases=True):
        return ok("python", f"{version} (needs {required})")
    return problem("python", f"must be {required}, got {version}", "make the environment with a newer Python")


def check_packages(requirements: list[Requirement]) -> Iterator[Check]:
    """Check that packages are there in a version that is required; those of extras are left out."""
    # Requirements of extras have a marker that names the extra, and are not required here.
    needed = [item for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})]
    versions = {item.name: installed_version(item.name) for item in needed}
    all_fit = True
    for item in needed:
        version = versions[item.name]
        if version is None or not item.specifier.contains(version, prereleases=True):
            all_fit = False
            rule = f"must be {item.specifier or 'installed'}, got {version or 'none'}"
            yield problem(f"package {item.name}", rule, f"pip install '{item}'")
    if all_fit:
        shown = ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions)
        yield ok("packages", f"all {len(needed)} as required ({shown})")


def check_sockets() -> Check:
    """Check that loop, trainer and workers can talk: over Unix sockets in a private folder."""
    # The same folder that a run would make, with a socket like the trainer's in it.
    try:
        folder = make_runtime_dir()
    except OSError as error:
        return problem("sockets", f"a folder for sockets must be made, got {error}", "set TMPDIR to a writable folder")
    try:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.bind(f"ipc://{folder}/doctor")
    except zmq.ZMQError as error:
        rule = f"a Unix socket must be opened below {str(folder.parent)!r}, got {error}"
        return problem("sockets", rule, "set TMPDIR to a folder on a local file system")
    finally:
        remove_runtime_dir(folder)
    return ok("sockets", f"processes can talk below {folder.parent}")


def check_run_dir(run_dir: Path) -> Iterator[Check]:
    """Check that runs can be written to `run_dir`, or where it is to be made; leaves nothing behind."""
    # `run_dir` is made by the first run: until then the first folder above it that exists decides.
    path = run_dir.absolute()
    folder = next(above for above in (path, *path.parents) if above.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".cosignal-doctor-", dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        rule = f"must be a folder that can be written, got {str(run_dir)!r} ({error.strerror})"
        yield problem("run_dir", rule, "set another run_dir")
        return
    message = f"{run_dir} can be written, {free / MIB:,.0f} MiB free"
    if free < NO_DISK:
        yield problem("run_dir", message, "free some space or set another run_dir")
    elif free < LOW_DISK:
        yield warning("run_dir", message, "free some space: each branch leaves a snapshot")
    else:
        yield ok("run_dir", message)


def check_cores(workers: int, overlap: bool) -> Check:
    """Check that every busy process has a core; each has one thread.

    Args:
        workers: branches that run at the same time.
        overlap: whether the trainer works meanwhile; under the lockstep clock it waits.
    """
    # Under the lockstep clock the trainer waits while workers work, so it needs no core of its own.
    busy, available = workers + overlap, cores()
    message = f"branches.workers {workers}" + (" beside the trainer" if overlap else "") + f" on {available} cores"
    if busy <= available:
        return ok("cores", f"{message}, one thread each")
    remedy = f"set branches.workers={max(1, available - overlap)}"
    return warning("cores", f"{message}: they slow each other down", remedy)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_device(device: str) -> Iterator[Check]:
    """Check that torch can use the device that the networks are to live on."""
    try:
        check_device_of_torch(device)
    except ConfigError as error:
        yield from problems_from("device", error)
    else:
        yield ok("device", f"networks live on {device}")
