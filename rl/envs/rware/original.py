"""The robotic warehouse as the package rware has it. Needs `pip install 'cosignal[rware]'`.

It is the oracle of the compiled batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rware.warehouse import ObservationType, RewardType, Warehouse

from ...task import EventSpec, FeatureSpec
from ..adapter import Infos, Task
from ..pettingzoo.tuple_env import Counts, TupleEnv
from .spec import (
    ACTION_NAMES,
    COLUMN_HEIGHT,
    EVENTS,
    SHELVES,
    Robot,
    WarehouseSettings,
    describe_warehouse,
    draw_warehouse,
)  # fmt: skip


class _Warehouse(TupleEnv):
    """Upstream's environment with events."""

    def __init__(self, inner: Warehouse, chosen: WarehouseSettings, render_mode: str | None) -> None:
        super().__init__(inner, "rware_original", chosen.n_max, render_mode, chosen.agent_ids)
        self.chosen = chosen

    def before_step(self, choices: list[int]) -> Any:  # noqa: ARG002
        """Return what each agent carries, and what is requested."""
        return [agent.carrying_shelf for agent in self.inner.agents], list(self.inner.request_queue)

    def events_of_step(self, before: Any, rewards: Sequence[float]) -> Counts:
        carried, requested = before
        counts = []
        for had, agent, reward in zip(carried, self.inner.agents, rewards, strict=True):
            has = agent.carrying_shelf
            # By comparison with the state before: upstream reports no events.
            lifted = had is None and has is not None
            counts.append(
                {
                    "shelf_delivered": int(reward),
                    "requested_shelf_lifted": int(lifted and has in requested),
                    "shelf_lifted": int(lifted),
                    "shelf_put_down": int(had is not None and has is None),
                }
            )
        return counts

    def picture(self) -> str:
        return draw_warehouse(self.chosen, self.possible_agents, *self.now())

    def now(self) -> tuple[list[Robot], list[tuple[int, int]], list[int]]:
        """Return robots, places of shelves and requested shelves, whose numbers are upstream's less one."""
        robots: list[Robot] = []
        for robot in self.inner.agents:
            carried = None if robot.carrying_shelf is None else robot.carrying_shelf.id - 1
            robots.append((robot.x, robot.y, robot.dir.value, carried))
        shelves = [(shelf.x, shelf.y) for shelf in self.inner.shelfs]
        return robots, shelves, [shelf.id - 1 for shelf in self.inner.request_queue]


class OriginalWarehouseTask(Task):
    """The robotic warehouse. The team's reward is the sum of the agents': the number of deliveries.

    Args:
        render_mode: "ansi", so that the grid can be drawn as text; None: it draws nothing.
        settings: those of `WarehouseSettings` by name; it says which errors they raise.
    """

    has_success = False
    has_masks = False
    deterministic = True
    action_names = ACTION_NAMES

    def __init__(self, render_mode: str | None = "ansi", **settings: Any) -> None:
        chosen = WarehouseSettings(**settings)
        self.chosen, self.max_steps, self.description = chosen, chosen.n_max, chosen.description()
        inner = Warehouse(
            shelf_rows=SHELVES[chosen.size][0],
            shelf_columns=SHELVES[chosen.size][1],
            column_height=COLUMN_HEIGHT,
            n_agents=chosen.agents,
            msg_bits=0,
            sensor_range=1,
            request_queue_size=chosen.requests,
            max_inactivity_steps=None,
            max_steps=None,  # the wrapper keeps the limit
            reward_type=RewardType.INDIVIDUAL,
            observation_type=ObservationType[chosen.observation_type.upper()],
            image_observation_directional=chosen.directional,
        )
        super().__init__(_Warehouse(inner, chosen, render_mode))

    def feature_specs(self, agent: Any) -> Sequence[FeatureSpec]:  # noqa: ARG002
        return self.chosen.feature_specs()

    def event_specs(self, agent: Any) -> Sequence[EventSpec]:  # noqa: ARG002
        return EVENTS

    def features(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, float]:  # noqa: ARG002
        inner = self.env.inner
        me = inner.agents[self.env.number(agent)]
        carried = [robot.carrying_shelf for robot in inner.agents]
        # One that somebody carries cannot be lifted.
        standing = [shelf for shelf in inner.request_queue if shelf not in carried]
        # Manhattan distances.
        to_shelves = [abs(shelf.x - me.x) + abs(shelf.y - me.y) for shelf in standing]
        return {
            "carrying": me.carrying_shelf is not None,
            "carrying_requested": me.carrying_shelf in inner.request_queue,
            "on_requested_shelf": 0 in to_shelves,
            "dist_requested_shelf": min(to_shelves, default=0),
            "dist_goal": min(abs(x - me.x) + abs(y - me.y) for x, y in inner.goals),
            "on_place": not inner.highways[me.y, me.x],
            "x": me.x,
            "y": me.y,
            "heading": me.dir.value,
        }

    def success(self, infos: Infos) -> bool:  # noqa: ARG002
        return False

    def describe(self) -> str:
        return describe_warehouse(self.env.possible_agents, *self.env.now())
