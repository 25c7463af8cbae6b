"""A Ray of our own on this machine, in a process of its own: `python -m cosignal.rl.branches.ray_node FOLDER CPUS`.

It is in a process of its own, since Ray's processes inherit the environment of the one that starts them, and the loop's
has keys in it; and since all of them die with it, so that nothing is left when the loop is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets as randomness
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from ...errors import BranchError
from ...files import write_whole
from ..ipc.launcher import end_child, last_words, printed_so_far, start_child
from ..ipc.runtime_dir import make_runtime_dir, remove_runtime_dir
from ..processes import describe_exit, leave_with_parent, module_command

ADDRESS = "address"  # file in the folder, written when Ray is up
START_TIMEOUT_S = 180.0  # seconds on an idle machine, on a busy one many
STOP_TIMEOUT_S = 0.0  # it does not end by itself
OBJECT_STORE_BYTES = 128 * 2**20  # snapshots are a few hundred kB; what does not fit is spilled to disk


@contextlib.asynccontextmanager
async def local_ray(run_dir: Path, cpus: int, secrets: Sequence[str]) -> AsyncIterator[str]:
    """Start a Ray and give its address; leaving the block ends it and removes its files.

    Args:
        run_dir: run directory; what Ray prints goes to `ray.out` in it.
        cpus: workers that it has room for.
        secrets: environment variables that its processes must not see.

    Raises:
        BranchError: it does not start; the message has the end of what it printed.
    """
    folder, output = await asyncio.to_thread(make_runtime_dir), run_dir / "ray.out"
    printed_before = await asyncio.to_thread(printed_so_far, output)
    # The token is inherited by the process, and stays as long as the loop talks to it.
    with _secret_token():
        process = await start_child(
            module_command("cosignal.rl.branches.ray_node", str(folder), str(cpus)), output, secrets
        )
        try:
            yield await _address_when_up(process, folder, output, printed_before)
        finally:
            await end_child(process, STOP_TIMEOUT_S)
            await asyncio.to_thread(remove_runtime_dir, folder)


@contextlib.contextmanager
def _secret_token() -> Iterator[None]:
    """Make Ray ask for a token: it listens on every interface, and who may talk to it may run code.

    The token is in environment variables of this process, since Ray reads it there and nowhere else.
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


async def _address_when_up(process: asyncio.subprocess.Process, folder: Path, output: Path, printed_before: int) -> str:
    """Wait until the process has written its address; raise BranchError where it ends, or takes too long."""
    file = folder / ADDRESS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_TIMEOUT_S):
            # Polled: another process writes the file, and there is no event.
            while process.returncode is None:
                if file.exists():
                    return file.read_text()
                await asyncio.sleep(0.05)
    words = await asyncio.to_thread(last_words, output, printed_before)
    raise BranchError(f"Ray did not start ({describe_exit(process.returncode)}); {words}")


# ---------------------------------------------------------------- in the process itself


def main(folder: Path, cpus: int) -> None:
    """Start Ray with `cpus` CPUs, write its address into `folder`, stay until SIGTERM or until the parent is gone."""
    leave_with_parent()
    # Before Ray is imported, which reads the environment then.
    os.environ.pop("RAY_ADDRESS", None)  # of somebody else's cluster
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing leaves this machine
    os.environ["TMPDIR"] = str(folder)  # what a killed worker leaves goes with the folder
    import ray

    context = ray.init(
        address="local",
        num_cpus=cpus,
        num_gpus=0,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(folder / "ray"),  # Ray opens its folder to everybody, so it gets one inside our private one
    )
    write_whole(folder / ADDRESS, str(context.address_info["gcs_address"]), sync=False)
    threading.Event().wait()  # until SIGTERM, for which Ray has set a handler that ends its processes


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
