"""Episodes for the pages, played in a process of their own, so that the server needs no torch."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ...errors import EpisodeError
from ...rl.ipc.launcher import error_message
from ...rl.playback.schema import PlayedEpisode
from ...rl.processes import child_environment, module_command

TIMEOUT_S = 120.0
KEPT = 32  # episodes in memory


def snapshots(run_dir: Path) -> list[str]:
    """List the snapshots of the main run, newest first, as directories below the run's."""
    paths = [path for path in (run_dir / "checkpoints").glob("update_*") if (path / "state.json").exists()]
    return [f"checkpoints/{path.name}" for path in sorted(paths, reverse=True)]


class Episodes:
    """Plays episodes, one at a time, and keeps the last `KEPT` in memory."""

    def __init__(self) -> None:
        self._played: dict[tuple[str, str, int], PlayedEpisode] = {}
        self._one_at_a_time = asyncio.Lock()

    async def play(self, run_dir: Path, snapshot: str, seed: int) -> PlayedEpisode:
        """Return the episode that the policy of `snapshot` plays under `seed`.

        Raises:
            EpisodeError: the snapshot is gone, or the episode fails or takes too long.
        """
        if snapshot not in snapshots(run_dir):
            raise EpisodeError(f"the run has no snapshot {snapshot!r} any more; choose one of the list")
        key = (str(run_dir), snapshot, seed)
        async with self._one_at_a_time:
            if key not in self._played:
                self._played[key] = await _play(run_dir, snapshot, seed)
            # The oldest are forgotten.
            while len(self._played) > KEPT:
                del self._played[next(iter(self._played))]
            return self._played[key]


async def _play(run_dir: Path, snapshot: str, seed: int) -> PlayedEpisode:
    """Run `rl.playback` in a process that ends with this call."""
    process = await asyncio.create_subprocess_exec(
        *module_command("cosignal.rl.playback", str(run_dir), snapshot, str(seed)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(),
    )
    try:
        episode, errors = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except TimeoutError as error:
        raise EpisodeError(f"the episode was not over after {TIMEOUT_S:g} s; is the machine busy?") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise EpisodeError(error_message(errors.decode(errors="replace"))[-1500:].strip())
    return PlayedEpisode.model_validate_json(episode)
