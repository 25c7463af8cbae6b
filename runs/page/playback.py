"""Episodes for the pages, played in a process of their own, so that the server needs no torch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from ...errors import EpisodeError
from ...files import file_inside
from ...rl.envs.config import TaskConfig
from ...rl.ipc.launcher import error_message
from ...rl.playback.schema import PlayedEpisode
from ...rl.processes import child_environment, module_command

TIMEOUT_S = 120.0
KEPT = 32  # episodes in memory


def snapshots(run_dir: Path) -> list[str]:
    """List the snapshots of the main run, newest first, as directories below the run's."""
    found: list[str] = []
    for path in sorted((run_dir / "checkpoints").glob("update_*"), reverse=True):
        name = f"checkpoints/{path.name}"
        # What is being removed, or is a link to elsewhere, is none.
        with suppress(OSError):
            for file in ("state.json", "state.safetensors"):
                file_inside(run_dir, f"{name}/{file}")
            found.append(name)
    return found


class Episodes:
    """Plays episodes, one at a time, and keeps the last `KEPT` in memory."""

    def __init__(self) -> None:
        self._played: dict[tuple[str, str, int], PlayedEpisode] = {}
        self._one_at_a_time = asyncio.Lock()

    async def play(
        self, run_dir: Path, snapshot: str, seed: int, task: TaskConfig, secrets: Sequence[str]
    ) -> PlayedEpisode:
        """Return the episode that the policy of `snapshot` plays under `seed`.

        Args:
            run_dir: the run.
            snapshot: one of `snapshots`.
            seed: of the episode.
            task: the one that may be loaded; where `training.json` names another one by then, nothing is.
            secrets: environment variables that the process must not see.

        Raises:
            EpisodeError: the episode fails or takes too long.
        """
        key = (str(run_dir), snapshot, seed)
        async with self._one_at_a_time:
            if key not in self._played:
                self._played[key] = await _play(run_dir, snapshot, seed, task, secrets)
            # The oldest are forgotten.
            while len(self._played) > KEPT:
                del self._played[next(iter(self._played))]
            return self._played[key]


async def _play(run_dir: Path, snapshot: str, seed: int, task: TaskConfig, secrets: Sequence[str]) -> PlayedEpisode:
    """Run `rl.playback` in a process that ends with this call."""
    process = await asyncio.create_subprocess_exec(
        *module_command("cosignal.rl.playback", str(run_dir), snapshot, str(seed), task.digest()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(secrets, here_last=True),
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
    try:
        return PlayedEpisode.model_validate_json(episode)
    except ValidationError as error:
        raise EpisodeError(
            f"the episode must come as one JSON object, got {episode[:80]!r}; does its environment print?"
        ) from error
