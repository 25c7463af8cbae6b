"""A Ray of our own on this machine, in a process of its own: `python -m cosignal.rl.branches.ray_node FOLDER CPUS`.

In a process of its own, since Ray's processes inherit the environment of the one that starts them, and the loop's has
keys in it; and since all of them die with it, so that nothing is left when the loop is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets as randomness
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from ...errors import BranchError
from ..ipc.launcher import end_child, make_runtime_dir, output_tail, start_child
from ..processes import leave_with_parent, module_command

ADDRESS = "address"  # file in the folder, written when Ray is up
START_TIMEOUT_S = 180.0  # seconds on an idle machine, on a busy one many
STOP_TIMEOUT_S = 0.0  # it does not end by itself
OBJECT_STORE_BYTES = 128 * 2**20  # snapshots are a few hundred kB; what does not fit is spilled to disk


@contextlib.asynccontextmanager
async def local_ray(run_dir: Path, cpus: int, secrets: Sequence[str]) -> AsyncIterator[str]:
    """Start a Ray with room for `cpus` workers and give its address; leaving ends it and removes its files.

    What it prints goes to `ray.out` in the run directory. Raises BranchError with the end of that when it does not
    start.
    """
    folder, output = await asyncio.to_thread(make_runtime_dir), run_dir / "ray.out"
    with _guarded():
        process = await start_child(
            module_command("cosignal.rl.branches.ray_node", str(folder), str(cpus)), output, secrets
        )
        try:
            yield await _address(process, folder, output)
        finally:
            await end_child(process, STOP_TIMEOUT_S)
            await asyncio.to_thread(shutil.rmtree, folder, True)


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """Ray listens on every interface, and who may talk to it may run code: from here on it asks for a secret token.

    By environment variables of this process, since Ray reads them there and nowhere else.
    """
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": randomness.token_hex(32)}
    before = {name: os.environ.get(name) for name in token}
    os.environ.update(token)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


async def _address(process: asyncio.subprocess.Process, folder: Path, output: Path) -> str:
    file = folder / ADDRESS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_TIMEOUT_S):
            while process.returncode is None:
                if file.exists():
                    return file.read_text()
                await asyncio.sleep(0.05)
    words = await asyncio.to_thread(output_tail, output)
    raise BranchError(f"Ray did not start (exit status {process.returncode}); its last words: {words}")


# ---------------------------------------------------------------- in the process itself


def main(folder: Path, cpus: int) -> None:
    leave_with_parent()
    os.environ.pop("RAY_ADDRESS", None)  # of somebody else's cluster
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing leaves this machine
    os.environ["TMPDIR"] = str(folder)  # what a killed worker leaves goes with the folder
    address = _start_ray(folder, cpus)
    unfinished = folder / f"{ADDRESS}.part"
    unfinished.write_text(address)
    unfinished.replace(folder / ADDRESS)
    threading.Event().wait()  # until SIGTERM, for which Ray has set a handler that ends its processes


def _start_ray(folder: Path, cpus: int) -> str:
    """Ray opens its folder to everybody, so it gets one inside our private one."""
    import ray

    context = ray.init(
        address="local", num_cpus=cpus, num_gpus=0, object_store_memory=OBJECT_STORE_BYTES, include_dashboard=False,
        log_to_driver=False, _temp_dir=str(folder / "ray"),
    )  # fmt: skip
    return str(context.address_info["gcs_address"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
