"""Level-based foraging (lbforaging): agents with levels load food together. Needs `pip install 'cosignal[lbf]'`.

The settings are those of the registered environments `Foraging[-2s]-{size}x{size}-{players}p-{foods}f[-coop]-v3`. They
are built directly, since upstream registers no more than four foods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from lbforaging.foraging.environment import Action, ForagingEnv

from ..task import EventSpec, FeatureSpec
from .adapter import Infos, Task, require_at_least
from .pettingzoo.tuple_env import Counts, TupleEnv

PLAYER_LEVELS = (1, 2)
Cell = tuple[int, int]  # row, column

_RULES = """\
{players} agents move on a {size}x{size} grid. x runs from 0 to {last} to the east, y from 0 to {last} to the south.
{foods} food items (fewer where they do not fit) lie on random cells off the border, never next to each other. Each
agent has a random level, {levels[0]} or {levels[1]}, and each item has one: {food_level}.
Actions: none, north, south, west, east (one cell), load. Food blocks. Agents that would enter the same cell, or the
cell of one that does not try to move, stay where they are. What is impossible does nothing.
Agents in the four cells beside an item who load in the same step load it if their levels sum to at least its level;
it is gone then. Otherwise it stays.
The episode ends with success when all food is loaded, and without at the time limit of {n_max} steps.
A loaded item pays its level divided by the levels of all items together, shared among its loaders in proportion to
their levels. Team reward: the sum over agents, so that loading everything returns 1.
{view}"""

EVENTS = (
    EventSpec(name="food_loaded", description="The agent had a share in loading an item."),
    EventSpec(
        name="load_failed",
        description="The agent tried to load an item beside it, and the levels did not suffice.",
        repeatable=True,
    ),
)


class _Foraging(TupleEnv):
    """Upstream's environment with events."""

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode.

        Upstream keeps new agents off the cells where the last episode left the others. A seed names an episode only
        when those cells are forgotten.
        """
        for player in self.inner.players:
            player.position = None
        return super().reset(seed, options)

    def before_step(self, choices: list[int]) -> list[bool]:
        """Return which agents try to load an item beside them."""
        return [
            choice == Action.LOAD.value and self.inner.adjacent_food(*player.position) > 0
            for choice, player in zip(choices, self.inner.players, strict=True)
        ]

    def events_of_step(self, before: Any, rewards: Sequence[float]) -> Counts:
        return [
            {"food_loaded": int(reward > 0), "load_failed": int(tried and reward <= 0)}
            for tried, reward in zip(before, rewards, strict=True)
        ]

    def picture(self) -> str:
        """Return the field as text: an item is * and its level, an agent its letter and its level."""
        cells: dict[Cell, str] = {}
        for row, column in zip(*self.inner.field.nonzero(), strict=True):
            cells[row, column] = f"*{self.inner.field[row, column]}"
        for letter, player in zip(ascii_lowercase, self.inner.players, strict=False):
            place = player.position
            cells[place] = f"{cells[place][0]}{letter}" if place in cells else f"{letter}{player.level}"
        rows, columns = self.inner.field.shape
        lines = (" ".join(cells.get((y, x), ".").ljust(2) for x in range(columns)).rstrip() for y in range(rows))
        return "\n".join([*lines, f"*2 an item of level 2; {self.letters()} with its level, two letters: two agents"])


class ForagingTask(Task):
    """Level-based foraging. The team's reward is the sum of the agents', 0..1 over an episode.

    Args:
        size: rows and columns of the field, at least 5.
        players: agents.
        foods: items at the start of an episode.
        sight: rows and columns to each side in which an agent sees; None for the whole field.
        coop: each item needs the three agents of lowest level together (all, where there are fewer).
        n_max: time limit of an episode in steps.

    Raises:
        ValueError: an argument is too small.
    """

    return_range = (0.0, 1.0)
    has_success = True
    has_masks = False
    deterministic = True
    action_names = ("none", "north", "south", "west", "east", "load")

    def __init__(
        self,
        *,
        size: int = 8,
        players: int = 2,
        foods: int = 2,
        sight: int | None = None,
        coop: bool = True,
        n_max: int = 50,
    ) -> None:
        require_at_least(5, size=size)
        require_at_least(2, players=players)
        require_at_least(1, foods=foods, n_max=n_max, sight=size if sight is None else sight)
        self.size, self.players, self.foods, self.max_steps = size, players, foods, n_max
        self.description = _description(size, players, foods, sight, coop, n_max)
        # Upstream reports its own time limit as termination, so it gets one that is never reached.
        inner = ForagingEnv(
            players=players,
            min_player_level=PLAYER_LEVELS[0],
            max_player_level=PLAYER_LEVELS[1],
            min_food_level=1,
            max_food_level=None,  # the three lowest levels together
            field_size=(size, size),
            max_num_food=foods,
            sight=size if sight is None else sight,
            max_episode_steps=n_max + 1,  # never reached
            force_coop=coop,
        )
        # The limit is kept by the wrapper.
        super().__init__(_Foraging(inner, "lbf", n_max, render_mode="ansi"))

    def feature_specs(self, agent: Any) -> Sequence[FeatureSpec]:  # noqa: ARG002
        # The lowest and highest values that can occur.
        size, players, top, last = self.size, self.players, PLAYER_LEVELS[1], self.size - 1
        return (
            FeatureSpec(
                # without `done`: 0 is also who stands beside an item
                name="dist_nearest_food", kind="distance", low=0, high=2 * size - 5, unit="cells",
                description="Moves to a cell beside the nearest item, were nothing in the way; 0 when none is left.",
            ),
            FeatureSpec(
                name="nearest_food_level", kind="quantity", low=0, high=top * min(players, 3),
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

    def event_specs(self, agent: Any) -> Sequence[EventSpec]:  # noqa: ARG002
        return EVENTS

    def features(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, float]:  # noqa: ARG002
        inner = self.env.inner
        me, food = inner.players[self.env.number(agent)], self._food()
        row, column = me.position
        mates = [_distance(me.position, mate.position) for mate in inner.players if mate is not me]
        always = {"x": column, "y": row, "level": me.level, "food_left": len(food), "dist_nearest_mate": min(mates)}
        # Of equals the first in reading order, so that the features are a function of the state.
        nearest = min(food, key=lambda cell: (_distance(me.position, cell), cell), default=None)
        if nearest is None:
            return always | dict.fromkeys(("dist_nearest_food", "nearest_food_level", "levels_at_nearest_food"), 0)
        return always | {
            # To a cell beside it: food blocks.
            "dist_nearest_food": _distance(me.position, nearest) - 1,
            "nearest_food_level": inner.field[nearest],
            "levels_at_nearest_food": sum(player.level for player in inner.adjacent_players(*nearest)),
        }

    def success(self, infos: Infos) -> bool:  # noqa: ARG002
        return not self._food()

    def describe(self) -> str:
        inner = self.env.inner
        agents = [
            f"{agent} (level {player.level}) at ({player.position[1]},{player.position[0]})"
            for agent, player in zip(self.env.possible_agents, inner.players, strict=True)
        ]
        food = [f"level {inner.field[cell]} at ({cell[1]},{cell[0]})" for cell in self._food()]
        return f"{', '.join(agents)}; food: {', '.join(food) or 'none left'}"

    def _food(self) -> list[Cell]:
        """Return the cells of the items that are left, row by row."""
        # The field holds an item's level at its cell, 0 elsewhere.
        rows, columns = self.env.inner.field.nonzero()
        return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _distance(one: Cell, other: Cell) -> int:
    return int(abs(one[0] - other[0]) + abs(one[1] - other[1]))


def _description(size: int, players: int, foods: int, sight: int | None, coop: bool, n_max: int) -> str:
    """Return the rules in words, without advice."""
    together = "the sum of all agents' levels" if players <= 3 else "the sum of the three lowest levels of agents"
    view = "Each agent observes the cells and levels of all food and agents."
    if sight is not None:
        # upstream shows agents a little farther away where the border cuts the window
        view = (
            f"Each agent observes the cells and levels of food up to {sight} rows and {sight} columns away, and at"
            " least those of agents within that distance."
        )
    return _RULES.format(
        players=players,
        size=size,
        last=size - 1,
        foods=foods,
        levels=PLAYER_LEVELS,
        food_level=together if coop else f"random, from 1 to {together}",
        n_max=n_max,
        view=view,
    )
