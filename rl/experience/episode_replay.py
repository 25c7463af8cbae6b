"""A replay of whole episodes, for value-based learners with recurrent networks, as EPyMARL keeps one.

The transitions of an episode are appended when it ends, one after the other, so that they lie side by side. A
recurrent network is unrolled over them from the state of zeros that the episode began with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..task import Arrays, TaskSpec
from .replay_buffer import ReplayBuffer, Sample
from .rollout import Rollout

LONGEST = 1_000  # steps; what goes on for longer is kept in pieces, each as if it began an episode


class EpisodeReplay(ReplayBuffer):
    """The last episodes that have together at most `capacity` transitions.

    Attributes:
        episodes: [n, 2] number of the first transition, and length, of each episode that may be drawn; oldest first.
    """

    def __init__(self, spec: TaskSpec, capacity: int, parent: Path | None = None) -> None:
        super().__init__(spec, capacity, parent)
        self.episodes = np.zeros((0, 2), np.int64)
        self._running: list[NDArray[np.void]] = []  # [E] records of the running episodes

    def __len__(self) -> int:
        """Return the number of transitions that may be drawn."""
        return int(self.episodes[:, 1].sum())

    def add(self, rollout: Rollout) -> None:
        """Append the episodes that end in this rollout; one that is lost counts for nothing."""
        steps, envs = rollout.reward.shape
        records, ended = self._records(rollout).reshape(steps, envs), rollout.done > 0
        running = self._running or [records[:0, 0]] * envs
        lost = np.zeros_like(ended) if rollout.lost is None else rollout.lost > 0
        self._running, begun = [], list[tuple[int, int]]()
        for e, before in enumerate(running):
            start = 0
            for end in (np.flatnonzero(ended[:, e]) + 1).tolist():
                if not lost[end - 1, e]:
                    begun += self._append_episode(np.concatenate([before, records[start:end, e]]))
                before, start = records[:0, e], end
            rest = np.concatenate([before, records[start:, e]])
            while len(rest) >= LONGEST:
                begun += self._append_episode(rest[:LONGEST])
                rest = rest[LONGEST:]
            self._running.append(rest)
        episodes = np.concatenate([self.episodes, np.array(begun, np.int64).reshape(-1, 2)])
        self.episodes = episodes[episodes[:, 0] >= self.count - self.capacity]

    def _append_episode(self, records: NDArray[np.void]) -> list[tuple[int, int]]:
        """Append the transitions of an episode; first number and length of it, or of its pieces."""
        pieces = []
        for start in range(0, len(records), LONGEST):
            piece = records[start : start + LONGEST]
            pieces.append((self.count, len(piece)))
            self._append(piece)
        return pieces

    def forget_running(self) -> None:
        """Drop what the running episodes have so far, since all environments begin new ones."""
        self._running = [records[:0] for records in self._running]

    def sample(self, n: int, generator: torch.Generator) -> Sample:
        """Draw episodes, uniformly and with replacement, until they have `n` transitions together."""
        chosen = np.zeros((0, 2), np.int64)
        while chosen[:, 1].sum() < n:
            # more than are needed on average, of which the first ones count
            number = int(n / self.episodes[:, 1].mean()) + 8
            drawn = torch.randint(0, len(self.episodes), (number,), generator=generator).numpy()
            chosen = np.concatenate([chosen, self.episodes[drawn]])
        chosen = chosen[: int(np.searchsorted(chosen[:, 1].cumsum(), n)) + 1]
        firsts, lengths = chosen.T
        steps = np.arange(lengths.max())[:, None]  # [L, 1]
        index = firsts + np.minimum(steps, lengths - 1)  # [L, n]
        filled = (steps < lengths).astype(np.float32)
        return self._sample(index.ravel(), (len(steps), len(chosen)), filled.ravel())

    # ------------------------------------------------------------ state

    def state_dict(self) -> Arrays:
        """Return cursor, names of segments, the list of episodes, and the transitions of the running ones."""
        running = np.concatenate(self._running) if self._running else np.zeros(0, self.record)
        return super().state_dict() | {
            "episodes": self.episodes.copy(),
            "running": running.view(np.uint8).reshape(len(running), -1),
            "running_lengths": np.array([len(records) for records in self._running], np.int64),
        }

    def load_state_dict(self, state: Arrays, directory: Path | None = None) -> None:
        super().load_state_dict(state, directory)
        self.episodes = np.asarray(state["episodes"], np.int64).copy()
        lengths = np.asarray(state["running_lengths"], np.int64)
        running = np.frombuffer(np.ascontiguousarray(state["running"]).tobytes(), self.record)
        self._running = np.split(running, np.cumsum(lengths)[:-1]) if len(lengths) else []
