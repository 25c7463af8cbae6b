"""The choice of the executor that runs the branches, in the one place that decides by config.

Ray is imported only where it is chosen.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement

from ...errors import ConfigError
from .config import BranchConfig
from .jobs import Executor
from .local_pool import WorkerPool

CONNECT_TIMEOUT_S = 3.0  # Ray itself tries for minutes, and cannot be interrupted meanwhile
EXTRA = "pip install 'cosignal[ray]'"


def executor_for(
    config: BranchConfig, run_dir: Path, secrets: Sequence[str] = ()
) -> AbstractAsyncContextManager[Executor]:
    """Return the executor that `config` names; entering it starts its workers, leaving it ends them.

    Args:
        config: `executor`, `ray_address` and `workers` count.
        run_dir: run directory; snapshots and end states lie in it.
        secrets: environment variables that workers must not see.

    Raises:
        ConfigError: the package or the cluster that it needs is missing.
    """
    if config.executor == "local":
        return WorkerPool(run_dir, config.workers, secrets=secrets)
    check_executor(config)
    # Only now, since it imports Ray.
    from .ray_pool import RayExecutor

    return RayExecutor(run_dir, config.workers, address=config.ray_address, secrets=secrets)


def check_executor(config: BranchConfig) -> str:
    """Return a line that says what will run the branches.

    Raises:
        ConfigError: the package or the cluster that it needs is missing.
    """
    if config.executor == "local":
        return f"local: {config.workers} processes on this machine"
    ray = _ray_version()
    address = config.ray_address
    if address is None:
        return f"ray {ray}: a Ray of its own on this machine, {config.workers} workers"
    if address != "auto":
        # A connection is opened and closed; nothing is sent.
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
        except (OSError, OverflowError) as error:  # OverflowError: a port beyond 65535
            raise ConfigError(
                f"branches.ray_address: must be the address of a Ray cluster's head, got {address!r} ({error}); "
                "start it with `ray start --head`, or remove the key for a Ray on this machine"
            ) from error
    return f"ray {ray}: {config.workers} workers on the cluster at {address}"


def _ray_version() -> str:
    """Return the version of the installed Ray; raise ConfigError where there is none, or one that does not fit."""
    try:
        # The version is read from the metadata, so that Ray itself is not imported.
        installed = version("ray")
    except PackageNotFoundError:
        raise ConfigError(f"branches.executor: 'ray' needs the package ray, found none; {EXTRA}") from None
    try:
        requirements = map(Requirement, distribution("cosignal").requires or ())
    except PackageNotFoundError:  # a checkout that was not installed asks for no version
        return installed
    # What the extra `ray` of this package asks for.
    required = next((requirement for requirement in requirements if requirement.name == "ray"), None)
    if required is not None and not required.specifier.contains(installed, prereleases=True):
        raise ConfigError(
            f"branches.executor: 'ray' needs {required.name}{required.specifier}, got {installed}; {EXTRA}"
        )
    return installed
