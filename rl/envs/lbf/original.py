"""Level-based foraging as the package lbforaging has it. Needs `pip install 'cosignal[lbf]'`.

It is the oracle of the compiled batch, and built directly, since upstream registers no more than four foods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Tuple
from lbforaging.foraging.environment import Action, ForagingEnv, Player

from ...task import EventSpec, FeatureSpec
from ..adapter import Infos, Task
from ..pettingzoo.tuple_env import Counts, TupleEnv
from .spec import ACTION_NAMES, EVENTS, PLAYER_LEVELS, ForagingSettings, Thing, describe_field, draw_field

Cell = tuple[int, int]  # row, column


class _NumberedPlayer(Player):  # type: ignore[misc]
    """A player whose hash is its number.

    Upstream takes who loads next from a set of players. By their addresses in memory, which are their hash otherwise,
    the same actions would not always load the same items.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def __hash__(self) -> int:
        return self.number


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
        return draw_field(len(self.inner.field), self.possible_agents, self.players(), self.foods())

    def players(self) -> list[Thing]:
        """Return (row, column, level) of every agent."""
        return [(*player.position, player.level) for player in self.inner.players]

    def foods(self) -> list[Thing]:
        """Return (row, column, level) of the items that are left, row by row."""
        # the field holds an item's level at its cell, 0 elsewhere
        rows, columns = self.inner.field.nonzero()
        return [
            (row, column, int(self.inner.field[row, column]))
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ]


class OriginalForagingTask(Task):
    """Level-based foraging. The team's reward is the sum of the agents'.

    Args:
        render_mode: "ansi", so that the field can be drawn as text; None: it draws nothing.
        settings: those of `ForagingSettings` by name; it says which errors they raise.
    """

    has_success = True
    has_masks = False
    deterministic = True
    action_names = ACTION_NAMES

    def __init__(self, render_mode: str | None = "ansi", **settings: Any) -> None:
        chosen = ForagingSettings(**settings)
        self.chosen, self.max_steps = chosen, chosen.n_max
        self.description, self.return_range = chosen.description(), chosen.return_range
        # Upstream reports its own time limit as termination, so it gets one that is never reached.
        inner = ForagingEnv(
            players=chosen.players,
            min_player_level=PLAYER_LEVELS[0],
            max_player_level=PLAYER_LEVELS[1],
            min_food_level=1,
            max_food_level=chosen.max_food_level,
            field_size=(chosen.size, chosen.size),
            max_num_food=chosen.foods,
            sight=chosen.reach,
            max_episode_steps=chosen.n_max + 1,  # never reached
            force_coop=chosen.coop,
            penalty=chosen.penalty,
        )
        if chosen.image is not None:
            # upstream makes images, but fails to declare their space under today's Gymnasium
            rows, columns, layers = chosen.image
            highest = np.array([PLAYER_LEVELS[1], chosen.top_food_level, 1], np.float32)[:, None, None]
            image = Box(np.float32(0), np.broadcast_to(highest, (layers, rows, columns)), dtype=np.float32)
            inner._grid_observation, inner.observation_space = True, Tuple([image] * chosen.players)
        inner.players = [_NumberedPlayer(number) for number in range(chosen.players)]
        # The limit is kept by the wrapper.
        super().__init__(_Foraging(inner, "lbf_original", chosen.n_max, render_mode, chosen.agent_ids))

    def feature_specs(self, agent: Any) -> Sequence[FeatureSpec]:  # noqa: ARG002
        return self.chosen.feature_specs()

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
        return describe_field(self.env.possible_agents, self.env.players(), self.env.foods())

    def _food(self) -> list[Cell]:
        """Return the cells of the items that are left, row by row."""
        return [(row, column) for row, column, _ in self.env.foods()]


def _distance(one: Cell, other: Cell) -> int:
    return int(abs(one[0] - other[0]) + abs(one[1] - other[1]))
