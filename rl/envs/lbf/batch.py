"""Level-based foraging as a compiled batch, and one environment of it as a `Task`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...task import Arrays, FloatArray, IntArray
from ..adapter import Task
from ..compiled.batch import DescribedBatch
from ..compiled.environment import CompiledEnv
from . import kernel
from .spec import PLAYER_LEVELS, ForagingSettings, Thing, describe_field, draw_field, foraging_spec


class BatchedForaging(DescribedBatch):
    """The compiled batch, in one group "agents"; observations, rewards and ends are lbforaging's.

    Attributes:
        players: [E, A, 3] row, column and level of each agent.
        foods: [E, F, 3] row, column and level of each item, in reading order; level 0 once it is loaded.
        numbers: [E, 4], whose columns `kernel` names.

    Raises:
        ConfigError: `num_envs` is below 1.
    """

    def __init__(self, num_envs: int, settings: ForagingSettings, auto_reset: bool = True) -> None:
        """Start episode 0 in every environment.

        Args:
            num_envs: E.
            settings: of the task.
            auto_reset: whether an environment whose episode has ended begins the next one in the same step.
        """
        self.settings = settings
        self._rules = np.array(
            [
                settings.size,
                settings.reach,
                settings.coop,
                settings.max_food_level or 0,
                settings.n_max,
                auto_reset,
                settings.grid_observation,
            ],
            np.int64,
        )
        spec = foraging_spec(settings)
        self.players = np.zeros((max(num_envs, 0), settings.players, 3), np.int64)
        self.foods = np.zeros((max(num_envs, 0), settings.foods, 3), np.int64)
        self.numbers = np.zeros((max(num_envs, 0), 4), np.int64)
        state: Arrays = {"players": self.players, "foods": self.foods, "numbers": self.numbers}
        super().__init__(spec, num_envs, state, settings.agent_ids)
        self.shares = np.zeros((num_envs, settings.players))
        self._room = np.zeros(settings.players, np.int64), np.zeros(settings.players, np.int64)
        last, top_food, top = settings.size - 1, settings.top_food_level, PLAYER_LEVELS[1]
        if settings.image is None:
            lowest = np.tile([-1, -1, 0], settings.foods + settings.players)
            highest = np.array([[last, last, top_food]] * settings.foods + [[last, last, top]] * settings.players)
        else:
            lowest, highest = np.zeros(settings.image), np.broadcast_to([top, top_food, 1], settings.image)
        self.obs_bounds = self.bounds_with_ids(*(x.ravel().astype(np.float32) for x in (lowest, highest)))
        self.reset(0)

    @property
    def episodes(self) -> IntArray:
        return self.numbers[:, kernel.EPISODE]

    def start_all(self) -> None:
        kernel.start_all(self.players, self.foods, self.numbers, self.streams, self._rules)

    def start_from_stream(self) -> None:
        kernel.place(0, self.players, self.foods, self.numbers, self.streams, self._rules)

    def view_all(self) -> None:
        kernel.view_all(self.players, self.foods, self.numbers, self._rules, self.seen, self.features)

    def step_all(self, actions: IntArray, reward: FloatArray) -> int:
        bad: int = kernel.step_all(
            actions, self.players, self.foods, self.numbers, self.streams, self._rules, self.settings.penalty,
            *self._room, self.seen, self.features, self.last_seen, self.last_features, self.events, self.shares, reward,
            self.ended,
        )  # fmt: skip
        return bad

    def alone(self) -> BatchedForaging:
        return BatchedForaging(1, self.settings, auto_reset=False)

    def describe(self) -> str:
        return describe_field(self.spec.agents, self._players_now(), self._foods_now())

    def picture(self) -> str:
        return draw_field(self.settings.size, self.spec.agents, self._players_now(), self._foods_now())

    def _players_now(self) -> list[Thing]:
        return [(row, column, level) for row, column, level in self.players[0].tolist()]

    def _foods_now(self) -> list[Thing]:
        return [(row, column, level) for row, column, level in self.foods[0].tolist() if level]


class ForagingTask(Task):
    """One environment of the compiled batch.

    Args:
        render_mode: "ansi", so that the state can be drawn as text; None: it draws nothing.
        settings: those of `ForagingSettings` by name; it says which errors they raise.
    """

    def __init__(self, render_mode: str | None = "ansi", **settings: Any) -> None:
        super().__init__(CompiledEnv(BatchedForaging(1, ForagingSettings(**settings)), render_mode))
