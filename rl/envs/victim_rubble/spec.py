"""The spec of Victim-Rubble: its rules in words, its features with their true bounds, its events."""

from __future__ import annotations

from functools import cache

from ...task import EventSpec, FeatureSpec, TaskSpec
from ..grid.map import AGENTS, UNREACHED, Meaning, feature_specs
from ..grid.roles import spec_of_roles
from .map import (
    BY_ROLE,
    CHAMBERS,
    FEATURE_NAMES,
    MAP,
    OBS_SIZE,
    ROLES,
    RUBBLE,
    THINGS,
    VICTIMS,
    standing_poses,
    to_things,
)

N_MAX = 200
RETURN_RANGE = (-1.0, 6.0)

_RULES = """\
Two agents, green the medic and orange the engineer, move on a grid of 13 by 7 cells. x runs from 0 to 12 to the
right, y from 0 to 6 downwards.
{grid}
'#' is wall, '.' floor, v and V victims at (1,1) and (11,1), P, Q and r pieces of rubble at (8,1), (9,2) and (6,5).
Rooms: {chambers}. Passages between them: (3,2), (3,4), (7,1), (10,2).
Both agents start on random floor cells of Chamber3 with random headings: east (x grows), south (y grows), west, north.
Actions: stay, turn_left, turn_right, forward (one cell ahead), interact (with the faced cell). Both agents act in every
step, one after the other in random order.
When green faces a victim and interacts, it is healed; when orange faces rubble and interacts, it is cleared. Either is
gone then, and its cell can be walked on. Walls, victims and rubble block.
The episode ends with success when both victims are healed and all rubble is cleared, and without at the
time limit of {n_max} steps.
{overlap}
Team reward: 1 for each healed victim, 1 for each cleared piece of rubble, 1 for success, -1/{n_max} in each step.
Each agent observes both poses, what has been handled, and where everything is."""

HEALED = EventSpec(name="victim_healed", description="The agent healed a victim.", reward=1)
CLEARED = EventSpec(name="rubble_cleared", description="The agent cleared a piece of rubble.", reward=1)
EVENTS = {AGENTS[0]: (HEALED,), AGENTS[1]: (CLEARED,)}


def description(n_max: int, allow_agent_overlap: bool) -> str:
    """Return the rules in words, without advice."""
    overlap = "Agents may share a cell." if allow_agent_overlap else "A cell holds one agent, who blocks the other."
    rooms = (f"Chamber{n} x {a}-{b}, y {c}-{d}" for n, (a, b, c, d) in enumerate(CHAMBERS, start=1))
    return _RULES.format(n_max=n_max, overlap=overlap, grid="\n".join(MAP.rows), chambers="; ".join(rooms))


_NAMES = ("the free victim", "the blocked victim", "the rubble at (8,1)", "the rubble at (9,2)", "the rubble at (6,5)")


_OTHERS: dict[str, Meaning] = {
    "dist_mate": ("distance", "cells", "Manhattan distance between the two agents."),
    "x": ("position", "cells", "Column of the agent."),
    "y": ("position", "cells", "Row of the agent."),
    "heading": ("quantity", "", "Direction the agent faces: 0 east, 1 south, 2 west, 3 north."),
    "victims_healed": ("count", "victims", "Victims healed so far in this episode."),
    "rubble_cleared": ("count", "rubble", "Pieces of rubble cleared so far in this episode."),
    "own_handled": ("count", "things", "Victims or rubble handled so far in this episode by this agent."),
    "way_open": ("flag", "", "1 once the rubble at (8,1) and at (9,2) is cleared."),
}


@cache
def features(agent: int, allow_agent_overlap: bool = True) -> tuple[FeatureSpec, ...]:
    """Return the feature specs of an agent, in the order of the feature arrays.

    The bounds are the lowest and highest values over all states that can occur.
    """
    meaning, bounds = dict(_OTHERS), {}
    poses = [MAP.number(*pose) for pose in standing_poses()]
    for k, row in enumerate(to_things()):
        done = "healed" if k in VICTIMS else "cleared"
        text = f"Fewest actions in which an agent here would handle {_NAMES[k]}, were nothing in the way"
        meaning[FEATURE_NAMES[k]] = "distance", "actions", f"{text}; 0 once {done}."
        # Nobody stands on the thing itself before it is handled, so poses that cannot reach it do not count.
        reachable = [distance for distance in row[poses].tolist() if distance < UNREACHED]
        bounds[FEATURE_NAMES[k]] = (0.0, float(max(reachable)))
    # Agents can stand at both ends of the map at once.
    xs, ys, _ = zip(*standing_poses(), strict=True)
    bounds |= {
        "dist_mate": (0 if allow_agent_overlap else 1, max(xs) - min(xs) + max(ys) - min(ys)),
        "x": (min(xs), max(xs)),
        "y": (min(ys), max(ys)),
        "heading": (0, 3),
        "victims_healed": (0, len(VICTIMS)),
        "rubble_cleared": (0, len(RUBBLE)),
        "own_handled": (0, len(BY_ROLE[agent])),
        "way_open": (0, 1),
    }
    return feature_specs(FEATURE_NAMES, meaning, bounds, handled=FEATURE_NAMES[: len(THINGS)])


@cache
def victim_rubble_spec(n_max: int = N_MAX, allow_agent_overlap: bool = True) -> TaskSpec:
    """Return the spec of the native task. It is cheap: no compiled code is loaded."""
    return spec_of_roles(
        "victim_rubble",
        description(n_max, allow_agent_overlap),
        roles=ROLES,
        obs_size=OBS_SIZE,
        features=[features(i, allow_agent_overlap) for i in range(len(AGENTS))],
        events=EVENTS,
        return_range=RETURN_RANGE,
        n_max=n_max,
    )
