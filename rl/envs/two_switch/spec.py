"""The spec of Two-Switch: its rules in words, its features with their true bounds, its events."""

from __future__ import annotations

from functools import cache

from ...task import EventSpec, FeatureSpec, GroupSpec, TaskSpec
from ..grid.map import ACTION_NAMES, AGENTS, STAY, Meaning, feature_specs
from .map import FEATURE_NAMES, MAP, OBS_SIZE, START_CELLS, distances, standing_poses

N_MAX = 100
RETURN_RANGE = (-1.0, 4.0)

_RULES = """\
Two agents, green and orange, move on a 9x9 grid. x runs from 0 to 8 to the right, y from 0 to 8 downwards.
{grid}
'#' is wall, '.' floor, A a switch at (1,2), B a switch at (7,2), D a door at (4,4), G the goal cell at (7,7).
Both agents start on random floor cells of the upper room with random headings.
Actions: stay, turn_left, turn_right, forward (one cell ahead), interact (with the faced cell). Both agents act in every
step, one after the other in random order.
An agent that faces a switch and interacts triggers it, once and for good. Walls, switches and the closed door block.
The door is open from the moment both switches have been triggered, by whichever agents.
The episode ends with success when an agent steps on the goal cell, and without at the time limit of {n_max} steps.
{overlap}
Team reward: 1 for each triggered switch, 1 for reaching the goal cell (once), 1 for success, -1/{n_max} in each step.
Each agent observes both poses, both switches and the goal position."""

EVENTS = (
    EventSpec(
        name="switch_triggered", description="The agent triggered a switch that had not been triggered.", reward=1
    ),
    EventSpec(name="goal_reached", description="The agent was the first to step on the goal cell.", reward=1),
)


def description(n_max: int, allow_agent_overlap: bool) -> str:
    """Return the rules in words, without advice."""
    overlap = "Agents may share a cell." if allow_agent_overlap else "A cell holds one agent, who blocks the other."
    return _RULES.format(n_max=n_max, overlap=overlap, grid="\n".join(MAP.rows))


_MEANING: dict[str, Meaning] = {
    "dist_nearest_open_switch": (
        "distance",
        "actions",
        "Fewest actions the agent needs to trigger the nearest switch that is not triggered; 0 when none is left.",
    ),
    "dist_switch_a": ("distance", "actions", "Fewest actions the agent needs to trigger switch A; 0 once triggered."),
    "dist_switch_b": ("distance", "actions", "Fewest actions the agent needs to trigger switch B; 0 once triggered."),
    "dist_door": ("distance", "actions", "Fewest actions to the door cell, were the door open."),
    "dist_goal": ("distance", "actions", "Fewest actions to the goal cell, were the door open."),
    "dist_mate": ("distance", "cells", "Manhattan distance between the two agents."),
    "x": ("position", "cells", "Column of the agent."),
    "y": ("position", "cells", "Row of the agent."),
    "heading": ("quantity", "", "Direction the agent faces: 0 east, 1 south, 2 west, 3 north."),
    "switches_triggered": ("count", "switches", "Switches triggered so far in this episode, by either agent."),
    "own_triggered": ("count", "switches", "Switches triggered so far in this episode by this agent."),
    "door_open": ("flag", "", "1 while the door is open."),
}


@cache
def features(allow_agent_overlap: bool = True) -> tuple[FeatureSpec, ...]:
    """Return the feature specs of each agent, in the order of the feature arrays.

    The bounds are the lowest and highest values over all states that can occur.
    """
    to_a, to_b, to_door, to_goal = distances()
    poses = [MAP.number(*pose) for pose in standing_poses()]
    # Only from the upper room is a switch still to be triggered.
    upper = [MAP.number(*cell, heading) for cell in START_CELLS for heading in range(4)]  # before the door opens
    farthest_a, farthest_b = int(to_a[upper].max()), int(to_b[upper].max())
    # Agents can stand at both ends of the map at once.
    xs, ys, _ = zip(*standing_poses(), strict=True)
    bounds = {
        "dist_nearest_open_switch": (0, max(farthest_a, farthest_b)),  # the far one may be the only one left
        "dist_switch_a": (0, farthest_a),
        "dist_switch_b": (0, farthest_b),
        "dist_door": (0, int(to_door[poses].max())),
        "dist_goal": (0, int(to_goal[poses].max())),
        "dist_mate": (0 if allow_agent_overlap else 1, max(xs) - min(xs) + max(ys) - min(ys)),
        "x": (min(xs), max(xs)),
        "y": (min(ys), max(ys)),
        "heading": (0, 3),
        "switches_triggered": (0, 2),
        "own_triggered": (0, 2),
        "door_open": (0, 1),
    }
    to_switches = ("dist_nearest_open_switch", "dist_switch_a", "dist_switch_b")
    return feature_specs(FEATURE_NAMES, _MEANING, bounds, handled=to_switches)


@cache
def two_switch_spec(n_max: int = N_MAX, allow_agent_overlap: bool = True) -> TaskSpec:
    """Return the spec of the native task. It is cheap: no compiled code is loaded."""
    group = GroupSpec(
        name="agents",
        agents=AGENTS,
        obs_size=OBS_SIZE,
        n_actions=len(ACTION_NAMES),
        action_names=ACTION_NAMES,
        stay=STAY,
        features=features(allow_agent_overlap),
        events=EVENTS,
    )
    return TaskSpec(
        name="two_switch",
        description=description(n_max, allow_agent_overlap),
        groups=(group,),
        return_range=RETURN_RANGE,
        max_steps=n_max,
    )
