"""A grid game as a batch: the compiled kernel behind the `BatchedTask` contract."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from ....errors import ConfigError
from ...task import EpisodeText, FloatArray, IntArray, TaskSpec
from ..compiled.batch import CompiledBatch
from . import kernel
from .game import GridGame, play
from .map import Rules, Tables


class GridBatch(CompiledBatch):
    """A `BatchedTask` of grid games of two agents.

    The team reward is (events of the step) + 1 on success - 1/n_max, or by `rules.pays_events` 1 on success alone.

    Args:
        num_envs: E.
        n_max: time limit of an episode in steps.
        allow_agent_overlap: whether agents may share a cell.
        spec: of the game, with two agents in one or two groups.
        tables: what actions do and agents see.
        rules: what the tables leave open.
        new_game: builds the plain game from a reset seed, n_max and allow_agent_overlap, for `episode_text`.

    Raises:
        ConfigError: `num_envs` or `n_max` is below 1.
    """

    def __init__(
        self,
        num_envs: int,
        n_max: int,
        allow_agent_overlap: bool,
        spec: TaskSpec,
        tables: Tables,
        rules: Rules,
        new_game: Callable[[int, int, bool], GridGame],
    ) -> None:
        if num_envs < 1 or n_max < 1:
            raise ConfigError(f"num_envs and n_max must be at least 1, got {num_envs!r} and {n_max!r}; raise them")
        self.n_max, self.allow_agent_overlap = n_max, allow_agent_overlap
        self._tables, self._new_game = tables, new_game
        self._rules = rules.row(allow_agent_overlap)
        self._state = np.zeros((num_envs, kernel.STATE_COLUMNS), dtype=np.int64)  # its columns are `kernel`'s
        super().__init__(spec, num_envs, {"state": self._state})
        self.reset(0)

    @property
    def episodes(self) -> IntArray:
        return self._state[:, kernel.EPISODE]

    def start_all(self) -> None:
        kernel.start_all(self._state, self.streams, self._tables.start_poses)

    def view_all(self) -> None:
        table = self._tables
        kernel.view_all(self._state, table.obs, table.features, self._rules, self.obs, self.features)

    def step_all(self, actions: IntArray, reward: FloatArray) -> int:
        table = self._tables
        bad: int = kernel.step_all(
            actions, self._state, self.streams,
            table.next_pose, table.trigger, table.start_poses, table.obs, table.features, self._rules, self.n_max,
            self.obs, self.features, self.last_obs, self.last_features, self.events, reward, self.ended,
        )  # fmt: skip
        return bad

    def episode_text(self, seed: int, actions: list[IntArray], pictures_of: Collection[int] = ()) -> EpisodeText:
        """Play the episode of reset seed `seed` with `actions` ([g] [T, A_g]) in the plain game; return it as text."""
        game = self._new_game(seed, self.n_max, self.allow_agent_overlap)
        return play(game, np.concatenate(actions, axis=1).tolist(), pictures_of)
