"""The robotic warehouse as a compiled batch, and one environment of it as a `Task`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...task import FloatArray, IntArray
from ..adapter import Task
from ..compiled.batch import DescribedBatch
from ..compiled.environment import CompiledEnv
from . import kernel
from .spec import OBS_SIZES, Robot, WarehouseSettings, describe_warehouse, draw_warehouse, warehouse_spec


class BatchedWarehouse(DescribedBatch):
    """The compiled batch, in one group "agents"; observations, rewards and ends are rware's.

    Attributes:
        robots, shelves, queue, shelf_at, robot_at, numbers: [E, …], as `kernel` has them.

    Raises:
        ConfigError: `num_envs` is below 1.
    """

    def __init__(self, num_envs: int, settings: WarehouseSettings, auto_reset: bool = True) -> None:
        """Start episode 0 in every environment.

        Args:
            num_envs: E.
            settings: of the task.
            auto_reset: whether an environment whose episode has ended begins the next one in the same step.
        """
        self.settings, self.auto_reset = settings, auto_reset
        envs, cells = max(num_envs, 0), (settings.height, settings.width)
        self._places, self._goals = np.array(settings.places, np.int64), np.array(settings.goals, np.int64)
        self._ways = np.ones(cells, np.int64)
        self._ways[self._places[:, 1], self._places[:, 0]] = 0
        self.robots = np.zeros((envs, settings.agents, 4), np.int64)
        self.shelves = np.zeros((envs, len(self._places), 2), np.int64)
        self.queue = np.zeros((envs, settings.requests), np.int64)
        self.shelf_at, self.robot_at = np.zeros((envs, *cells), np.int64), np.zeros((envs, *cells), np.int64)
        self.numbers = np.zeros((envs, 2), np.int64)
        kinds = {"flattened": kernel.FLATTENED, "image": kernel.IMAGE, "image_dict": kernel.IMAGE_DICT}
        self._sees = np.array([kinds[settings.observation_type], settings.directional], np.int64)
        names = ("robots", "shelves", "queue", "shelf_at", "robot_at", "numbers")
        super().__init__(
            warehouse_spec(settings), num_envs, {name: getattr(self, name) for name in names}, settings.agent_ids
        )
        self.shares = np.zeros((num_envs, settings.agents))
        self._targets, self._room = np.zeros((settings.agents, 2), np.int64), np.zeros((3, settings.agents), np.int64)
        self.obs_bounds = self._bounds()
        self.reset(0)

    def _bounds(self) -> tuple[FloatArray, FloatArray]:
        """Return the bounds that upstream declares: of layers 0 and 1, of other numbers none."""
        size = OBS_SIZES[self.settings.observation_type]
        numbers = {"flattened": size, "image": 0, "image_dict": kernel.NUMBERS}[self.settings.observation_type]
        lowest, highest = np.zeros(size, np.float32), np.ones(size, np.float32)
        lowest[:numbers], highest[:numbers] = -np.inf, np.inf
        return self.bounds_with_ids(lowest, highest)

    @property
    def episodes(self) -> IntArray:
        return self.numbers[:, kernel.EPISODE]

    def start_all(self) -> None:
        kernel.start_all(
            self.robots, self.shelves, self.queue, self.shelf_at, self.robot_at, self.numbers, self.streams,
            self._places,
        )  # fmt: skip

    def start_from_stream(self) -> None:
        kernel.place(
            0, self.robots, self.shelves, self.queue, self.shelf_at, self.robot_at, self.numbers, self.streams,
            self._places,
        )  # fmt: skip

    def view_all(self) -> None:
        kernel.view_all(
            self.robots, self.shelves, self.queue, self.shelf_at, self.robot_at, self._ways, self._goals, self._sees,
            self.seen, self.features,
        )  # fmt: skip

    def step_all(self, actions: IntArray, reward: FloatArray) -> int:
        bad: int = kernel.step_all(
            actions, self.robots, self.shelves, self.queue, self.shelf_at, self.robot_at, self.numbers, self.streams,
            self._places, self._ways, self._goals, self._sees, self.settings.n_max, self.auto_reset, self._targets,
            self._room, self.seen, self.features, self.last_seen, self.last_features, self.events, self.shares, reward,
            self.ended,
        )  # fmt: skip
        return bad

    def alone(self) -> BatchedWarehouse:
        return BatchedWarehouse(1, self.settings, auto_reset=False)

    def describe(self) -> str:
        return describe_warehouse(self.spec.agents, *self._now())

    def picture(self) -> str:
        return draw_warehouse(self.settings, self.spec.agents, *self._now())

    def _now(self) -> tuple[list[Robot], list[tuple[int, int]], list[int]]:
        """Return robots, places of shelves and requested shelves of the first environment."""
        robots: list[Robot] = [
            (x, y, heading, None if shelf == kernel.NOTHING else shelf)
            for x, y, heading, shelf in self.robots[0].tolist()
        ]
        return robots, [(x, y) for x, y in self.shelves[0].tolist()], self.queue[0].tolist()


class WarehouseTask(Task):
    """One environment of the compiled batch.

    Args:
        render_mode: "ansi", so that the state can be drawn as text; None: it draws nothing.
        settings: those of `WarehouseSettings` by name; it says which errors they raise.
    """

    def __init__(self, render_mode: str | None = "ansi", **settings: Any) -> None:
        super().__init__(CompiledEnv(BatchedWarehouse(1, WarehouseSettings(**settings)), render_mode))
