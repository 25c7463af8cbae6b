"""The spec of level-based foraging: settings, rules in words, features with their true bounds, events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from ...task import EventSpec, FeatureSpec, GroupSpec, TaskSpec
from ..adapter import require_at_least, require_flags

PLAYER_LEVELS = (1, 2)
Thing = tuple[int, int, int]  # row, column, level
LAYERS = ("agents", "items", "free cells")  # of an image
ACTION_NAMES = ("none", "north", "south", "west", "east", "load")

_RULES = """\
{players} agents move on a {size}x{size} grid. x runs from 0 to {last} to the east, y from 0 to {last} to the south.
{foods} food items (fewer where they do not fit) lie on random cells off the border, never next to each other. Each
agent has a random level, {levels[0]} or {levels[1]}, and each item has one: {food_level}.
Actions: none, north, south, west, east (one cell), load. Food blocks. Agents that would enter the same cell, or the
cell of one that does not try to move, stay where they are. What is impossible does nothing.
Agents in the four cells beside an item who load in the same step load it if their levels sum to at least its level;
it is gone then. Otherwise it stays{penalty}.
The episode ends with success when all food is loaded, and without at the time limit of {n_max} steps.
A loaded item pays its level divided by the levels of all items together, shared among its loaders in proportion to
their levels. Team reward: the sum over agents, so that loading everything returns 1{less}.
{view}"""

EVENTS = (
    EventSpec(name="food_loaded", description="The agent had a share in loading an item."),
    EventSpec(
        name="load_failed",
        description="The agent tried to load an item beside it, and the levels did not suffice.",
        repeatable=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class ForagingSettings:
    """What upstream's names settle, `Foraging[-grid][-2s]-{size}x{size}-{players}p-{foods}f[-coop][-ind][-pen]-v3`.

    Attributes:
        size: rows and columns of the field, at least 5.
        players: agents.
        foods: items at the start of an episode.
        sight: rows and columns to each side in which an agent sees; None for the whole field.
        coop: each item has the highest level it may have, which needs the three agents of lowest level together (all,
            where there are fewer).
        penalty: what each agent pays that tries to load an item in vain; 0.1 in `-pen`.
        max_food_level: of an item; None for the sum of the three lowest levels of agents, 1 in `-ind`.
        grid_observation: agents observe an image of the cells within `sight`, as in `-grid`, in place of a list.
        agent_ids: agents also observe, one-hot, which of them they are; not beside an image.
        n_max: time limit of an episode in steps.

    Raises:
        ValueError: one of them is no such number or too small, or there are as many agents as cells.
    """

    size: int = 8
    players: int = 2
    foods: int = 2
    sight: int | None = None
    coop: bool = True
    penalty: float = 0.0
    max_food_level: int | None = None
    grid_observation: bool = False
    agent_ids: bool = False
    n_max: int = 50

    def __post_init__(self) -> None:
        require_at_least(5, size=self.size)
        require_at_least(2, players=self.players)
        require_at_least(1, foods=self.foods, n_max=self.n_max, sight=self.reach)
        require_at_least(1, max_food_level=self.top_food_level)
        require_flags(coop=self.coop, grid_observation=self.grid_observation, agent_ids=self.agent_ids)
        if self.agent_ids and self.grid_observation:
            raise ValueError("agent_ids must be false with grid_observation, got true; remove either")
        penalty: Any = self.penalty
        if not isinstance(penalty, int | float) or not 0 <= penalty < math.inf:
            raise ValueError(f"penalty must be a number of at least 0, got {self.penalty!r}; correct it")
        if self.players >= self.size**2:
            raise ValueError(f"players must be fewer than cells, got {self.players!r}; lower it, or enlarge size")

    @property
    def reach(self) -> int:
        """Rows and columns to each side in which an agent sees."""
        return self.size if self.sight is None else self.sight

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Shape of an agent's observation, a row and column for each cell and three layers; None of a list."""
        width = 2 * self.reach + 1
        return (width, width, len(LAYERS)) if self.grid_observation else None

    @property
    def obs_size(self) -> int:
        """Numbers of an agent's observation, without its own."""
        return 3 * (self.foods + self.players) if self.image is None else math.prod(self.image)

    @property
    def top_food_level(self) -> int:
        """The highest level that an item can have in any episode."""
        return PLAYER_LEVELS[1] * min(self.players, 3) if self.max_food_level is None else self.max_food_level

    @property
    def return_range(self) -> tuple[float, float]:
        """(Worst, best) return of an episode: every agent may pay in every step."""
        return (0.0 - self.penalty * self.players * self.n_max, 1.0)

    def description(self) -> str:
        """Return the rules in words, without advice."""
        of_whom = "all agents' levels" if self.players <= 3 else "the three lowest levels of agents"
        together = f"the sum of {of_whom}"
        top = together if self.max_food_level is None else str(self.max_food_level)
        view = "Each agent observes the cells and levels of all food and agents."
        if self.grid_observation:
            view = (
                f"Each agent observes, for every cell up to {self.reach} rows and {self.reach} columns away, the level"
                " of an agent there, that of an item, and whether the cell is free."
            )
        elif self.sight is not None:
            # upstream shows agents a little farther away where the border cuts the window
            view = (
                f"Each agent observes the cells and levels of food up to {self.sight} rows and {self.sight} columns"
                " away, and at least those of agents within that distance."
            )
        return _RULES.format(
            players=self.players,
            size=self.size,
            last=self.size - 1,
            foods=self.foods,
            levels=PLAYER_LEVELS,
            food_level=top if self.coop else f"random, from 1 to {top}",
            penalty=f", and each of them pays {self.penalty:g}" if self.penalty else "",
            less=", less what is paid for failures" if self.penalty else "",
            n_max=self.n_max,
            view=view,
        )

    def feature_specs(self) -> Sequence[FeatureSpec]:
        """Return the features of every agent; bounds are the lowest and highest values that can occur."""
        size, players, top, last = self.size, self.players, PLAYER_LEVELS[1], self.size - 1
        return (
            FeatureSpec(
                # without `done`: 0 is also who stands beside an item
                name="dist_nearest_food", kind="distance", low=0, high=2 * size - 5, unit="cells",
                description="Moves to a cell beside the nearest item, were nothing in the way; 0 when none is left.",
            ),
            FeatureSpec(
                name="nearest_food_level", kind="quantity", low=0, high=self.top_food_level,
                description="Level of the nearest item; 0 when none is left.",
            ),
            FeatureSpec(
                name="levels_at_nearest_food", kind="quantity", low=0, high=top * players,
                description="Sum of the levels of all agents beside the item that is nearest to this agent.",
            ),
            FeatureSpec(
                name="food_left", kind="quantity", low=0, high=self.foods, unit="items",
                description="Items not yet loaded.",
            ),
            FeatureSpec(
                # of three agents two may end up in one cell: the way back of one that is held up is not kept free
                name="dist_nearest_mate", kind="distance", low=1 if players == 2 else 0, high=2 * last, unit="cells",
                description="Manhattan distance to the nearest other agent.",
            ),
            FeatureSpec(
                name="level", kind="quantity", low=PLAYER_LEVELS[0], high=top, description="Level of the agent."
            ),
            FeatureSpec(name="x", kind="position", low=0, high=last, unit="cells", description="Column of the agent."),
            FeatureSpec(name="y", kind="position", low=0, high=last, unit="cells", description="Row of the agent."),
        )  # fmt: skip


def foraging_spec(settings: ForagingSettings) -> TaskSpec:
    """Return the spec of the compiled task. It is cheap: no compiled code is loaded."""
    group = GroupSpec(
        name="agents",
        agents=tuple(f"agent_{i}" for i in range(settings.players)),
        obs_size=settings.obs_size + settings.players * settings.agent_ids,
        n_actions=len(ACTION_NAMES),
        action_names=ACTION_NAMES,
        features=tuple(settings.feature_specs()),
        events=EVENTS,
        image=settings.image,
    )
    return TaskSpec(
        name="lbf",
        description=settings.description(),
        groups=(group,),
        return_range=settings.return_range,
        max_steps=settings.n_max,
    )


# ---------------------------------------------------------------- a state in words, of the batch and of the original


def describe_field(names: Sequence[str], players: Sequence[Thing], foods: Sequence[Thing]) -> str:
    """Return a state in a line of text; things are (row, column, level), and foods only those that are left."""
    agents = [
        f"{name} (level {level}) at ({column},{row})" for name, (row, column, level) in zip(names, players, strict=True)
    ]
    food = [f"level {level} at ({column},{row})" for row, column, level in foods]
    return f"{', '.join(agents)}; food: {', '.join(food) or 'none left'}"


def draw_field(size: int, names: Sequence[str], players: Sequence[Thing], foods: Sequence[Thing]) -> str:
    """Return a state as lines of text: an item is * and its level, an agent its letter and its level."""
    cells = {(row, column): f"*{level}" for row, column, level in foods}
    for letter, (row, column, level) in zip(ascii_lowercase, players, strict=False):
        before = cells.get((row, column))
        cells[row, column] = f"{letter}{level}" if before is None else f"{before[0]}{letter}"
    lines = [" ".join(cells.get((y, x), ".").ljust(2) for x in range(size)).rstrip() for y in range(size)]
    letters = ", ".join(f"{letter} {name}" for letter, name in zip(ascii_lowercase, names, strict=False))
    return "\n".join([*lines, f"*2 an item of level 2; {letters} with its level, two letters: two agents"])
