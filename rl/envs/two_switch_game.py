"""Two-Switch in plain Python, straight from its rules: oracle of the compiled batch, body of the PettingZoo env.

It shares with the batch the map and the random numbers (one SplitMix64 stream per episode), and nothing else: it moves
in coordinates, searches its own distances and builds its own observations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from ..task import FloatArray, splitmix64
from .two_switch_map import (
    ACTION_NAMES,
    AGENTS,
    DELTAS,
    DOOR,
    FEATURE_NAMES,
    FORWARD,
    GOAL,
    HEADINGS,
    HEIGHT,
    INTERACT,
    OBJECTS,
    START_CELLS,
    SWITCH_A,
    SWITCH_B,
    TURN_LEFT,
    TURN_RIGHT,
    WIDTH,
    walkable,
)

Pose = tuple[int, int, int]  # x, y, heading
Target = Literal["face_a", "face_b", "door", "goal", "door_front"]

_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Stream:
    """SplitMix64 as a stream of 64-bit numbers (Steele, Lea, Flood 2014)."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def draw(self) -> int:
        value = splitmix64(self._state)
        self._state = (self._state + _GAMMA) & _MASK
        return value


def ahead(pose: Pose) -> tuple[int, int]:
    """The cell that is faced."""
    dx, dy = DELTAS[pose[2]]
    return pose[0] + dx, pose[1] + dy


def moved(pose: Pose, action: int, door_open: bool) -> Pose:
    """The pose after an action, other agents ignored."""
    x, y, heading = pose
    if action == TURN_LEFT:
        return x, y, (heading + 3) % 4
    if action == TURN_RIGHT:
        return x, y, (heading + 1) % 4
    if action == FORWARD and walkable(*ahead(pose), door_open):
        return *ahead(pose), heading
    return pose


def _is_at(pose: Pose, target: Target) -> bool:
    match target:
        case "face_a":
            return ahead(pose) == SWITCH_A
        case "face_b":
            return ahead(pose) == SWITCH_B
        case "door":
            return pose[:2] == DOOR
        case "goal":
            return pose[:2] == GOAL
        case "door_front":
            return pose == (DOOR[0], DOOR[1] - 1, HEADINGS.index("south"))


@cache
def distance(pose: Pose, target: Target, door_open: bool) -> int:
    """Fewest turns and moves from `pose` to a target, breadth first.

    Raises:
        ValueError: the target cannot be reached.
    """
    seen, frontier, steps = {pose}, [pose], 0
    while frontier:
        if any(_is_at(candidate, target) for candidate in frontier):
            return steps
        reached = {moved(p, a, door_open) for p in frontier for a in (TURN_LEFT, TURN_RIGHT, FORWARD)}
        frontier = sorted(reached - seen)
        seen.update(frontier)
        steps += 1
    raise ValueError(f"a target must be reachable, {target!r} is not from {pose!r} (door open: {door_open})")


def switch_distance(pose: Pose, switch: int) -> int:
    """Actions until switch 0 (A) or 1 (B) is triggered, the interact action included."""
    target: Target = "face_b" if switch else "face_a"
    return distance(pose, target, door_open=False) + 1


@dataclass(frozen=True)
class Outcome:
    """What one joint step did. `events` [agent] maps event names to 0 or 1."""

    events: tuple[dict[str, int], dict[str, int]]
    reward: float
    terminated: bool
    truncated: bool


class TwoSwitchGame:
    """One episode of Two-Switch. All fields are public, so that tests can set up a scene."""

    def __init__(self, seed: int, n_max: int = 100, allow_agent_overlap: bool = True) -> None:
        self.n_max, self.allow_agent_overlap = n_max, allow_agent_overlap
        self.stream = Stream(seed)
        green = self.stream.draw() % len(START_CELLS)
        orange = self.stream.draw() % (len(START_CELLS) - 1)
        cells = START_CELLS[green], START_CELLS[orange + (orange >= green)]
        self.poses: list[Pose] = [(*cell, self.stream.draw() >> 62) for cell in cells]
        self.triggered = [False, False]  # A, B
        self.own = [0, 0]  # switches triggered by green, by orange
        self.clock = 0

    @property
    def door_open(self) -> bool:
        return all(self.triggered)

    def step(self, actions: tuple[int, int]) -> Outcome:
        """Both agents act, one after the other in random order.

        Raises:
            ValueError: an action outside 0..4.
        """
        for action in actions:
            if action not in range(len(ACTION_NAMES)):
                raise ValueError(f"an action must be in 0..4, got {action!r}; see the task's action names")
        events = tuple({"switch_triggered": 0, "goal_reached": 0} for _ in AGENTS)
        first = self.stream.draw() >> 63
        home = False
        for i in (first, 1 - first):
            if actions[i] == INTERACT:
                events[i]["switch_triggered"] = self._interact(i)
            self._move(i, actions[i])
            if self.poses[i][:2] == GOAL and not home:
                home = True
                events[i]["goal_reached"] = 1
        self.clock += 1
        count = sum(sum(own.values()) for own in events)
        reward = count + int(home) - 1.0 / self.n_max
        return Outcome((events[0], events[1]), reward, home, self.clock >= self.n_max and not home)

    def _interact(self, i: int) -> int:
        for switch, cell in enumerate((SWITCH_A, SWITCH_B)):
            if ahead(self.poses[i]) == cell and not self.triggered[switch]:
                self.triggered[switch] = True
                self.own[i] += 1
                return 1
        return 0

    def _move(self, i: int, action: int) -> None:
        pose = moved(self.poses[i], action, self.door_open)
        entered = pose[:2] != self.poses[i][:2]
        if entered and not self.allow_agent_overlap and pose[:2] == self.poses[1 - i][:2]:
            return
        self.poses[i] = pose

    def observation(self, i: int) -> FloatArray:
        """[20]: own pose (x/W, y/H, one-hot heading), the mate's pose, two flags, A, B and goal relative to oneself."""
        numbers: list[float] = []
        for x, y, heading in (self.poses[i], self.poses[1 - i]):
            numbers += [x / WIDTH, y / HEIGHT, *(float(heading == h) for h in range(4))]
        numbers += [float(flag) for flag in self.triggered]
        x, y, _ = self.poses[i]
        for object_x, object_y in OBJECTS:
            numbers += [(object_x - x) / WIDTH, (object_y - y) / HEIGHT]
        return np.array(numbers, dtype=np.float32)

    def features(self, i: int) -> dict[str, float]:
        """The named numbers of agent i, in the order of the task's feature specs."""
        pose, mate = self.poses[i], self.poses[1 - i]
        to_switch = [0 if self.triggered[s] else switch_distance(pose, s) for s in (0, 1)]
        values = (
            min((d for d in to_switch if d > 0), default=0),
            *to_switch,
            distance(pose, "door", door_open=True),
            distance(pose, "goal", door_open=True),
            abs(pose[0] - mate[0]) + abs(pose[1] - mate[1]),
            *pose,
            sum(self.triggered),
            self.own[i],
            self.door_open,
        )
        return {name: float(value) for name, value in zip(FEATURE_NAMES, values, strict=True)}

    def describe(self) -> str:
        """The state in one line."""
        named = zip(AGENTS, self.poses, strict=True)
        poses = "; ".join(f"{agent} at ({x},{y}) facing {HEADINGS[heading]}" for agent, (x, y, heading) in named)
        switches = ", ".join(f"{n} {'on' if on else 'off'}" for n, on in zip("AB", self.triggered, strict=True))
        return f"{poses}; switches {switches}; door {'open' if self.door_open else 'closed'}"


def play(game: TwoSwitchGame, actions: list[tuple[int, int]]) -> list[str]:
    """A line per joint step (action, state after it, events, reward), until the episode or `actions` end."""
    lines = []
    for pair in actions:
        outcome = game.step(pair)
        acts = ", ".join(f"{a} {ACTION_NAMES[action]}" for a, action in zip(AGENTS, pair, strict=True))
        events = [f"{a} {name}" for a, own in zip(AGENTS, outcome.events, strict=True) for name, n in own.items() if n]
        end = " | success" if outcome.terminated else " | time limit" if outcome.truncated else ""
        lines.append(
            f"step {game.clock}: {acts} -> {game.describe()} | events: {', '.join(events) or 'none'}"
            f" | team reward {outcome.reward:+.3f}{end}"
        )
        if outcome.terminated or outcome.truncated:
            break
    return lines
