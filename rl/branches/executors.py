"""Which executor runs the branches: the one place that decides by config. Imports Ray only where it is chosen."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement

from ...errors import ConfigError
from .config import BranchConfig
from .local_pool import Executor, WorkerPool

CONNECT_TIMEOUT_S = 3.0  # Ray itself tries for minutes, and cannot be interrupted meanwhile
EXTRA = "pip install 'cosignal[ray]'"


def executor_for(
    config: BranchConfig, run_dir: Path, secrets: Sequence[str] = ()
) -> AbstractAsyncContextManager[Executor]:
    """The executor that `config` names; entering it starts its workers, leaving it ends them.

    `secrets`: environment variables that workers must not see. Raises ConfigError where it cannot be had.
    """
    if config.executor == "local":
        return WorkerPool(run_dir, config.workers, secrets=secrets)
    check_executor(config)
    from .ray_pool import RayExecutor

    return RayExecutor(run_dir, config.workers, address=config.ray_address, secrets=secrets)


def check_executor(config: BranchConfig) -> str:
    """What will run the branches, in words. Raises ConfigError where its package or its cluster is missing."""
    if config.executor == "local":
        return f"local: {config.workers} processes on this machine"
    found = _ray_version()
    if config.ray_address is None:
        return f"ray {found}: a Ray of its own on this machine, {config.workers} workers"
    if config.ray_address != "auto":
        _check_listening(config.ray_address)
    return f"ray {found}: {config.workers} workers on the cluster at {config.ray_address}"


def _ray_version() -> str:
    try:
        found = version("ray")
    except PackageNotFoundError:
        raise ConfigError(f"branches.executor: 'ray' needs the package ray, found none; {EXTRA}") from None
    wanted = _ray_requirement()
    if wanted is not None and not wanted.specifier.contains(found, prereleases=True):
        raise ConfigError(f"branches.executor: 'ray' needs {wanted.name}{wanted.specifier}, got {found}; {EXTRA}")
    return found


def _ray_requirement() -> Requirement | None:
    """What the extra `ray` asks for; None in a checkout that was not installed."""
    try:
        texts = distribution("cosignal").requires or ()
    except PackageNotFoundError:
        return None
    return next((found for found in map(Requirement, texts) if found.name == "ray"), None)


def _check_listening(address: str) -> None:
    """A connection is opened and closed; nothing is sent."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:  # OverflowError: a port beyond 65535
        raise ConfigError(
            f"branches.ray_address: must be the address of a Ray cluster's head, got {address!r} ({error}); "
            "start it with `ray start --head`, or remove the key for a Ray on this machine"
        ) from error
