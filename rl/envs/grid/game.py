"""A grid game of two agents in plain Python, straight from its rules: oracle of the compiled batch, body of the
PettingZoo environments.

It shares with the batch the map and the random numbers (one SplitMix64 stream per episode), and nothing else: it moves
in coordinates and searches its own distances.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...task import FloatArray, splitmix64
from .map import ACTION_NAMES, AGENTS, FORWARD, HEADINGS, INTERACT, TURN_LEFT, TURN_RIGHT, Cell, Pose, Walkable, ahead

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


def moved(pose: Pose, action: int, walkable: Walkable) -> Pose:
    """The pose after an action, other agents ignored."""
    x, y, heading = pose
    if action == TURN_LEFT:
        return x, y, (heading + 3) % 4
    if action == TURN_RIGHT:
        return x, y, (heading + 1) % 4
    if action == FORWARD and walkable(*ahead(pose)):
        return *ahead(pose), heading
    return pose


def shortest(pose: Pose, is_there: Callable[[Pose], bool], walkable: Walkable) -> int | None:
    """Fewest turns and moves from `pose` to where `is_there`, breadth first; None where there is no way."""
    seen, frontier, steps = {pose}, [pose], 0
    while frontier:
        if any(map(is_there, frontier)):
            return steps
        reached = {moved(p, a, walkable) for p in frontier for a in (TURN_LEFT, TURN_RIGHT, FORWARD)}
        frontier = sorted(reached - seen)
        seen.update(frontier)
        steps += 1
    return None


@dataclass(frozen=True)
class Outcome:
    """What one joint step did. `events` [agent] maps event names to 0 or 1."""

    events: tuple[dict[str, int], dict[str, int]]
    reward: float
    terminated: bool
    truncated: bool


class GridGame(ABC):
    """One episode. All fields are public, so that tests can set up a scene.

    The team is paid 1 for each event, 1 for success, and -1/n_max in each step.
    """

    start_cells: ClassVar[tuple[Cell, ...]]
    event_names: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]]  # of each agent

    def __init__(self, seed: int, n_max: int, allow_agent_overlap: bool = True) -> None:
        self.n_max, self.allow_agent_overlap = n_max, allow_agent_overlap
        self.stream = Stream(seed)
        first = self.stream.draw() % len(self.start_cells)
        second = self.stream.draw() % (len(self.start_cells) - 1)
        cells = self.start_cells[first], self.start_cells[second + (second >= first)]
        self.poses: list[Pose] = [(*cell, self.stream.draw() >> 62) for cell in cells]
        self.own = [0, 0]  # things handled by each agent
        self.clock = 0

    @abstractmethod
    def walkable(self, x: int, y: int) -> bool:
        """As things stand now, agents ignored."""

    @abstractmethod
    def handle(self, i: int, cell: Cell) -> str | None:
        """Agent i interacts with the cell that it faces: the event that comes of it."""

    @abstractmethod
    def enter(self, i: int) -> str | None:
        """Agent i has acted and stands where it stands: the event that comes of that."""

    @abstractmethod
    def solved(self) -> bool: ...

    @abstractmethod
    def observation(self, i: int) -> FloatArray: ...

    @abstractmethod
    def features(self, i: int) -> dict[str, float]:
        """The named numbers of agent i, in the order of the task's feature specs."""

    @abstractmethod
    def describe(self) -> str:
        """The state in one line."""

    def step(self, actions: Sequence[int]) -> Outcome:
        """Both agents act, one after the other in random order.

        Raises:
            ValueError: an action outside 0..4.
        """
        for action in actions:
            if action not in range(len(ACTION_NAMES)):
                raise ValueError(f"an action must be in 0..4, got {action!r}; see the task's action names")
        events = tuple(dict.fromkeys(names, 0) for names in self.event_names)
        first = self.stream.draw() >> 63
        for i in (first, 1 - first):
            for event in self._act(i, actions[i]):
                events[i][event] = 1
        self.clock += 1
        done = self.solved()
        reward = sum(sum(own.values()) for own in events) + int(done) - 1.0 / self.n_max
        return Outcome((events[0], events[1]), reward, done, self.clock >= self.n_max and not done)

    def _act(self, i: int, action: int) -> list[str]:
        event = self.handle(i, ahead(self.poses[i])) if action == INTERACT else None
        self.own[i] += event is not None
        self._move(i, action)
        return [name for name in (event, self.enter(i)) if name is not None]

    def _move(self, i: int, action: int) -> None:
        pose = moved(self.poses[i], action, self.walkable)
        entered = pose[:2] != self.poses[i][:2]
        if entered and not self.allow_agent_overlap and pose[:2] == self.poses[1 - i][:2]:
            return
        self.poses[i] = pose

    def poses_text(self) -> str:
        named = zip(AGENTS, self.poses, strict=True)
        return "; ".join(f"{agent} at ({x},{y}) facing {HEADINGS[heading]}" for agent, (x, y, heading) in named)


def play(game: GridGame, actions: Sequence[Sequence[int]]) -> list[str]:
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
