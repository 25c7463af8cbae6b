"""The spec of Relay: its rules in words, its features with their true bounds, its events."""

from __future__ import annotations

from functools import cache

from ...task import EventSpec, FeatureSpec, TaskSpec
from ..grid.map import AGENTS, Meaning, feature_specs
from ..grid.roles import spec_of_roles
from .map import BY_ROLE, DOORS, FEATURE_NAMES, LEVERS, MAP, OBS_SIZE, ROLES, standing_poses, to_levers

N_MAX = 120
RETURN_RANGE = (0.0, 1.0)

_RULES = """\
Two agents, green the guide and orange the porter, move on a grid of 25 by 7 cells. x runs from 0 to 24 to the right,
y from 0 to 6 downwards.
{grid}
'#' is wall, '.' floor, A to D are levers 1 to 4 at {levers}, and 1 to 3 are doors 1 to 3 at {doors}.
Both agents start on random floor cells of the room at the left with random headings: east (x grows), south (y grows),
west, north.
Actions: stay, turn_left, turn_right, forward (one cell ahead), interact (with the faced cell). Both agents act in every
step, one after the other in random order.
When green faces lever 1 or 3 and interacts, it is pulled, once and for good; so with orange and lever 2 or 4. A door
opens when the lever of its number is pulled, and stays open. Walls, levers and closed doors block.
The episode ends with success when lever 4 is pulled, and without at the time limit of {n_max} steps.
{overlap}
Team reward: 1 for success, and nothing before.
Each agent observes both poses, which levers have been pulled, and where all of them are."""

EVENTS = {
    AGENTS[0]: (EventSpec(name="guide_pulled", description="The guide pulled lever 1 or 3."),),
    AGENTS[1]: (EventSpec(name="porter_pulled", description="The porter pulled lever 2 or 4."),),
}


def description(n_max: int, allow_agent_overlap: bool) -> str:
    """Return the rules in words, without advice."""
    overlap = "Agents may share a cell." if allow_agent_overlap else "A cell holds one agent, who blocks the other."
    levers, doors = (", ".join(f"({x},{y})" for x, y in cells) for cells in (LEVERS, DOORS))
    grid = "\n".join(MAP.rows)
    return _RULES.format(n_max=n_max, overlap=overlap, grid=grid, levers=levers, doors=doors)


_OTHERS: dict[str, Meaning] = {
    "dist_mate": ("distance", "cells", "Manhattan distance between the two agents."),
    "x": ("position", "cells", "Column of the agent."),
    "y": ("position", "cells", "Row of the agent."),
    "heading": ("quantity", "", "Direction the agent faces: 0 east, 1 south, 2 west, 3 north."),
    "levers_pulled": ("count", "levers", "Levers pulled so far in this episode, by either agent."),
    "own_pulled": ("count", "levers", "Levers pulled so far in this episode by this agent."),
    "door_1_open": ("flag", "", "1 once lever 1 is pulled."),
    "door_2_open": ("flag", "", "1 once lever 2 is pulled."),
    "door_3_open": ("flag", "", "1 once lever 3 is pulled."),
}


@cache
def features(agent: int, allow_agent_overlap: bool = True) -> tuple[FeatureSpec, ...]:
    """Return the feature specs of an agent, in the order of the feature arrays.

    The bounds are the lowest and highest values over all states that can occur.
    """
    meaning, bounds = dict(_OTHERS), {}
    for k, row in enumerate(to_levers()):
        text = f"Fewest actions in which an agent here would pull lever {k + 1}, were all doors open"
        meaning[FEATURE_NAMES[k]] = "distance", "actions", f"{text}; 0 once pulled."
        # Until it is pulled, nobody gets past its room.
        before = [MAP.number(*pose) for pose in standing_poses((1 << k) - 1)]
        bounds[FEATURE_NAMES[k]] = (0.0, float(row[before].max()))
    # Agents can stand at both ends of the map at once.
    xs, ys, _ = zip(*standing_poses(), strict=True)
    bounds |= {
        "dist_mate": (0 if allow_agent_overlap else 1, max(xs) - min(xs) + max(ys) - min(ys)),
        "x": (min(xs), max(xs)),
        "y": (min(ys), max(ys)),
        "heading": (0, 3),
        "levers_pulled": (0, len(LEVERS)),
        "own_pulled": (0, len(BY_ROLE[agent])),
        **{f"door_{number}_open": (0, 1) for number in range(1, len(DOORS) + 1)},
    }
    return feature_specs(FEATURE_NAMES, meaning, bounds, handled=FEATURE_NAMES[: len(LEVERS)])


@cache
def relay_spec(n_max: int = N_MAX, allow_agent_overlap: bool = True) -> TaskSpec:
    """Return the spec of the native task. It is cheap: no compiled code is loaded."""
    return spec_of_roles(
        "relay",
        description(n_max, allow_agent_overlap),
        roles=ROLES,
        obs_size=OBS_SIZE,
        features=[features(i, allow_agent_overlap) for i in range(len(AGENTS))],
        events=EVENTS,
        return_range=RETURN_RANGE,
        n_max=n_max,
    )
