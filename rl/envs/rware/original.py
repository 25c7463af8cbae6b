"""The robotic warehouse (rware): agents bring requested shelves to a goal. Needs `pip install 'cosignal[rware]'`.

The settings are those of the registered environments `rware-{size}-{agents}ag[-easy|-hard]-v2`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any, Literal

import numpy as np
from rware.warehouse import RewardType, Warehouse

from ..task import EventSpec, FeatureSpec
from .adapter import Infos, Task, require_at_least
from .pettingzoo.tuple_env import Counts, TupleEnv

Size = Literal["tiny", "small", "medium", "large"]
Difficulty = Literal["easy", "normal", "hard"]

SHELVES: dict[str, tuple[int, int]] = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5)}
REQUESTS_PER_AGENT: dict[str, float] = {"easy": 2, "normal": 1, "hard": 0.5}
COLUMN_HEIGHT = 8
HEADINGS = ("up", "down", "left", "right")
FACING = "^v<>"  # the same in a picture

_RULES = """\
{agents} agents move on a grid of {width}x{height} cells. x runs from 0 to {last_x} to the right, y from 0 to {last_y}
downwards.
{grid}
'S' is a place of a shelf, '.' a way, 'G' a goal. At the start every place has its shelf, and the agents are on random
cells with random headings. {requests} shelves are requested at any time.
Actions: none, forward (one cell ahead), left, right (a quarter turn), load. Load lifts the shelf of the agent's cell;
an agent that carries one puts it down, on a place only.
An agent without a shelf passes below shelves; one that carries a shelf cannot enter a cell where a shelf stands. No two
agents share a cell: where several want one, one of them moves at most, and two cannot swap cells.
A requested shelf is delivered when the agent that carries it is on a goal. Another shelf is requested in its place at
random, and the delivered one stays with the agent.
Team reward: 1 for each delivery. The episode ends at the time limit of {n_max} steps.
Each agent observes its cell, heading and load, and agents, shelves and requests in the 3x3 cells around it."""

EVENTS = (
    EventSpec(name="shelf_delivered", description="The agent delivered a requested shelf."),
    EventSpec(name="requested_shelf_lifted", description="The agent lifted a requested shelf.", repeatable=True),
    EventSpec(name="shelf_lifted", description="The agent lifted a shelf, requested or not.", repeatable=True),
    EventSpec(name="shelf_put_down", description="The agent put its shelf down.", repeatable=True),
)


class _Warehouse(TupleEnv):
    """Upstream's environment with events."""

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
        """Return the grid as text, two characters a cell: what stands there, or an agent and the way it faces."""
        inner = self.inner
        cells = np.where(inner.highways, ". ", "_ ")
        for x, y in inner.goals:
            cells[y, x] = "G "
        for shelf in inner.shelfs:
            cells[shelf.y, shelf.x] = "R " if shelf in inner.request_queue else "S "
        for letter, robot in zip(ascii_lowercase, inner.agents, strict=False):
            name = letter if robot.carrying_shelf is None else letter.upper()
            cells[robot.y, robot.x] = name + FACING[robot.dir.value]
        key = (
            "Two characters a cell: S shelf, R requested shelf, _ empty place, . way, G goal;"
            f" {self.letters()} with the way it faces, a capital carries a shelf"
        )
        return "\n".join([*("".join(row).rstrip() for row in cells), key])


class WarehouseTask(Task):
    """The robotic warehouse. The team's reward is the sum of the agents': the number of deliveries.

    Args:
        size: of the warehouse: tiny is 10x11 cells, small 10x20, medium 16x20, large 16x29.
        agents: robots.
        difficulty: requested shelves for each agent: easy 2, normal 1, hard 1/2 (rounded down).
        n_max: time limit of an episode in steps.

    Raises:
        ValueError: an argument is too small or not one of these words.
    """

    has_success = False
    has_masks = False
    deterministic = True
    action_names = ("none", "forward", "left", "right", "load")

    def __init__(
        self, *, size: Size = "tiny", agents: int = 2, difficulty: Difficulty = "normal", n_max: int = 500
    ) -> None:
        # `task.env_args` may hold any words.
        for name, value, known in (("size", size, SHELVES), ("difficulty", difficulty, REQUESTS_PER_AGENT)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}; correct it")
        # Rounded down, as upstream does.
        requests = int(agents * REQUESTS_PER_AGENT[difficulty])
        require_at_least(1, agents=agents, n_max=n_max, requests=requests)
        inner = Warehouse(
            shelf_rows=SHELVES[size][0],
            shelf_columns=SHELVES[size][1],
            column_height=COLUMN_HEIGHT,
            n_agents=agents,
            msg_bits=0,
            sensor_range=1,
            request_queue_size=requests,
            max_inactivity_steps=None,
            max_steps=None,
            reward_type=RewardType.INDIVIDUAL,
        )
        super().__init__(_Warehouse(inner, "rware", n_max, render_mode="ansi"))
        self.max_steps = n_max
        self.description = _description(inner, requests, n_max)

    def feature_specs(self, agent: Any) -> Sequence[FeatureSpec]:  # noqa: ARG002
        # The lowest and highest values that can occur; distances are bounded by the size of the grid.
        rows, columns = self.env.inner.grid_size
        last_x, last_y = columns - 1, rows - 1
        far = last_x + last_y
        flags = {
            "carrying": "1 while the agent carries a shelf.",
            "carrying_requested": "1 while the agent carries a requested shelf.",
            "on_requested_shelf": "1 while a requested shelf that nobody carries stands in the agent's cell.",
            "on_place": "1 while the agent is on a place of a shelf.",
        }
        return (
            *(FeatureSpec(name=name, kind="flag", low=0, high=1, description=text) for name, text in flags.items()),
            FeatureSpec(
                # without `done`: 0 is also who stands below the shelf
                name="dist_requested_shelf", kind="distance", low=0, high=far, unit="cells",
                description="Manhattan distance to the nearest requested shelf that nobody carries; 0 when there is "
                "none.",
            ),
            FeatureSpec(
                name="dist_goal", kind="distance", low=0, high=far, unit="cells",
                description="Manhattan distance to the nearest goal.",
            ),
            FeatureSpec(
                name="x", kind="position", low=0, high=last_x, unit="cells", description="Column of the agent."
            ),
            FeatureSpec(name="y", kind="position", low=0, high=last_y, unit="cells", description="Row of the agent."),
            FeatureSpec(
                name="heading", kind="quantity", low=0, high=3,
                description="Direction the agent faces: 0 up, 1 down, 2 left, 3 right.",
            ),
        )  # fmt: skip

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
        inner = self.env.inner
        agents = []
        for name, robot in zip(self.env.possible_agents, inner.agents, strict=True):
            shelf = robot.carrying_shelf
            load = (
                "" if shelf is None else " with a requested shelf" if shelf in inner.request_queue else " with a shelf"
            )
            agents.append(f"{name}{load} at ({robot.x},{robot.y}) facing {HEADINGS[robot.dir.value]}")
        requested = ", ".join(f"({shelf.x},{shelf.y})" for shelf in inner.request_queue)
        return f"{', '.join(agents)}; requested: {requested}"


def _description(inner: Warehouse, requests: int, n_max: int) -> str:
    """Return the rules in words, without advice."""
    # The map, as the rules show it.
    grid = np.where(inner.highways, ".", "S")
    for x, y in inner.goals:
        grid[y, x] = "G"
    height, width = inner.grid_size
    return _RULES.format(
        agents=inner.n_agents,
        width=width,
        height=height,
        last_x=width - 1,
        last_y=height - 1,
        grid="\n".join("".join(row) for row in grid),
        requests=requests,
        n_max=n_max,
    )
