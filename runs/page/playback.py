"""Episodes that the pages show, played in a process of their own: the server needs no torch so, and reads only."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ...errors import EpisodeError
from ...rl.ipc.launcher import our_words
from ...rl.playback.schema import PlayedEpisode
from ...rl.processes import child_environment, module_command

TIMEOUT_S = 120.0
KEPT = 32


def snapshots(run_dir: Path) -> list[str]:
    """Of the main run, newest first, as directories below the run's."""
    found = [path for path in (run_dir / "checkpoints").glob("update_*") if (path / "state.json").exists()]
    return [f"checkpoints/{path.name}" for path in sorted(found, reverse=True)]


class Episodes:
    """`await episodes.played(run_dir, snapshot, seed)`; the last KEPT are kept, and one is played at a time."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, int], PlayedEpisode] = {}
        self._one = asyncio.Lock()

    async def played(self, run_dir: Path, snapshot: str, seed: int) -> PlayedEpisode:
        """Raises EpisodeError where there is no such snapshot any more, or the episode fails."""
        if snapshot not in snapshots(run_dir):
            raise EpisodeError(f"the run has no snapshot {snapshot!r} any more; choose one of the list")
        key = (str(run_dir), snapshot, seed)
        async with self._one:
            if key not in self._kept:
                self._kept[key] = await _play(run_dir, snapshot, seed)
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
            return self._kept[key]


async def _play(run_dir: Path, snapshot: str, seed: int) -> PlayedEpisode:
    command = module_command("cosignal.rl.playback", str(run_dir), snapshot, str(seed))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=child_environment(),
    )  # fmt: skip
    try:
        told, complaints = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except TimeoutError as error:
        raise EpisodeError(f"the episode was not over after {TIMEOUT_S:g} s; is the machine busy?") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise EpisodeError(our_words(complaints.decode(errors="replace"))[-1500:].strip())
    return PlayedEpisode.model_validate_json(told)
