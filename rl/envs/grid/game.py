"""A grid game of two agents in plain Python, straight from its rules.

It is the oracle of the compiled batch and the body of the PettingZoo environments. It shares with the batch the map and
the random numbers (one SplitMix64 stream per episode), and nothing else: it moves in coordinates and searches its own
distances.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...task import EpisodeText, FloatArray, splitmix64
from .map import (
    ACTION_NAMES,
    AGENTS,
    FORWARD,
    HEADINGS,
    INTERACT,
    TURN_LEFT,
    TURN_RIGHT,
    Cell,
    GridMap,
    Pose,
    Walkable,
    ahead,
)

FACING = ">v<^"  # by heading
AGENT_SIGNS = "g green and o orange with the way they face, go both"
_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Stream:
    """SplitMix64 as a stream of 64-bit numbers (Steele, Lea, Flood 2014)."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def draw(self) -> int:
        """Return the next number, in 0..2**64-1."""
        value = splitmix64(self._state)
        self._state = (self._state + _GAMMA) & _MASK
        return value


def moved(pose: Pose, action: int, walkable: Walkable) -> Pose:
    """Return the pose after an action, other agents ignored."""
    x, y, heading = pose
    if action == TURN_LEFT:
        return x, y, (heading + 3) % 4
    if action == TURN_RIGHT:
        return x, y, (heading + 1) % 4
    if action == FORWARD and walkable(*ahead(pose)):
        return *ahead(pose), heading
    return pose


def shortest(pose: Pose, is_there: Callable[[Pose], bool], walkable: Walkable) -> int | None:
    """Return the fewest turns and moves from `pose` to one that `is_there`, breadth first; None where none leads there.

    Other agents are ignored.
    """
    seen, frontier, steps = {pose}, [pose], 0
    while frontier:
        if any(map(is_there, frontier)):
            return steps
        # One more action from everywhere; what was seen before is no news.
        reached = {moved(p, a, walkable) for p in frontier for a in (TURN_LEFT, TURN_RIGHT, FORWARD)}
        frontier = sorted(reached - seen)
        seen.update(frontier)
        steps += 1
    return None


@dataclass(frozen=True)
class Outcome:
    """The outcome of one joint step.

    Attributes:
        events: [agent] event names, each 0 or 1.
        reward: of the team.
        terminated: the game is solved.
        truncated: the time limit is reached, and the game is not solved.
    """

    events: tuple[dict[str, int], dict[str, int]]
    reward: float
    terminated: bool
    truncated: bool


class GridGame(ABC):
    """One episode. All fields are public, so that tests can set up a scene.

    The team is paid 1 for each event, 1 for success, and -1/n_max in each step; without `pays_events` for success only.

    Args:
        seed: reset seed of the episode.
        n_max: time limit in steps.
        allow_agent_overlap: whether agents may share a cell.
    """

    grid: ClassVar[GridMap]
    signs: ClassVar[str]  # of a picture, in words, those of agents apart
    start_cells: ClassVar[tuple[Cell, ...]]
    event_names: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]]  # of each agent
    pays_events: ClassVar[bool] = True

    def __init__(self, seed: int, n_max: int, allow_agent_overlap: bool = True) -> None:
        self.n_max, self.allow_agent_overlap = n_max, allow_agent_overlap
        self.stream = Stream(seed)
        # Two different cells, then the headings; the kernel draws in the same order.
        first = self.stream.draw() % len(self.start_cells)
        second = self.stream.draw() % (len(self.start_cells) - 1)
        cells = self.start_cells[first], self.start_cells[second + (second >= first)]
        self.poses: list[Pose] = [(*cell, self.stream.draw() >> 62) for cell in cells]
        self.handled_by = [0, 0]  # number of things that each agent has handled
        self.clock = 0

    @abstractmethod
    def walkable(self, x: int, y: int) -> bool:
        """Return whether a cell can be walked on in the current state, agents ignored."""

    @abstractmethod
    def handle(self, i: int, cell: Cell) -> str | None:
        """Let agent i interact with the cell that it faces; return the event that comes of it."""

    @abstractmethod
    def enter(self, i: int) -> str | None:
        """Return the event that comes of the place of agent i, which has just acted."""

    @abstractmethod
    def solved(self) -> bool:
        """Return whether the episode has ended with success."""

    @abstractmethod
    def observation(self, i: int) -> FloatArray:
        """Return what agent i observes, float32 [O]."""

    @abstractmethod
    def features(self, i: int) -> dict[str, float]:
        """Return the named numbers of agent i, in the order of the task's feature specs."""

    @abstractmethod
    def describe(self) -> str:
        """Return the state in one line."""

    @abstractmethod
    def sign(self, x: int, y: int) -> str:
        """Return the sign of a cell in the current state, agents ignored; that of the map at the start."""

    def picture(self) -> str:
        """Return the current state as text: two characters a cell, and a last line that says what they are.

        An agent is the first letter of its name and the way that it faces; two in one cell are both letters.
        """
        cells: dict[Cell, str] = {}
        for agent, (x, y, heading) in zip(AGENTS, self.poses, strict=True):
            cells[x, y] = cells[x, y][0] + agent[0] if (x, y) in cells else agent[0] + FACING[heading]
        rows = (
            "".join(cells.get((x, y), self.sign(x, y)).ljust(2) for x in range(self.grid.width))
            for y in range(self.grid.height)
        )
        key = f"Two characters a cell: {self.signs}; {AGENT_SIGNS}"
        return "\n".join([*(row.rstrip() for row in rows), key])

    def step(self, actions: Sequence[int]) -> Outcome:
        """Let both agents act, one after the other in random order.

        Raises:
            ValueError: an action is outside 0..4.
        """
        for action in actions:
            if action not in range(len(ACTION_NAMES)):
                raise ValueError(f"an action must be in 0..4, got {action!r}; see the task's action names")
        events = tuple(dict.fromkeys(names, 0) for names in self.event_names)
        # The highest bit says who acts first.
        first = self.stream.draw() >> 63
        for i in (first, 1 - first):
            handled = self.handle(i, ahead(self.poses[i])) if actions[i] == INTERACT else None
            self.handled_by[i] += handled is not None
            pose = moved(self.poses[i], actions[i], self.walkable)
            entered = pose[:2] != self.poses[i][:2]
            # A mate in the way blocks, where agents may not share a cell.
            if not entered or self.allow_agent_overlap or pose[:2] != self.poses[1 - i][:2]:
                self.poses[i] = pose
            for event in (handled, self.enter(i)):
                if event is not None:
                    events[i][event] = 1
        self.clock += 1
        done = self.solved()
        # In integers as far as possible, as in the kernel, so that both round alike.
        reward = float(done)
        if self.pays_events:
            reward = sum(sum(counts.values()) for counts in events) + int(done) - 1.0 / self.n_max
        return Outcome((events[0], events[1]), reward, done, self.clock >= self.n_max and not done)

    def poses_text(self) -> str:
        """Return where both agents are, in words."""
        agents = zip(AGENTS, self.poses, strict=True)
        return "; ".join(f"{agent} at ({x},{y}) facing {HEADINGS[heading]}" for agent, (x, y, heading) in agents)


def play(game: GridGame, actions: Sequence[Sequence[int]], pictures_of: Collection[int] = ()) -> EpisodeText:
    """Play until the episode or `actions` end.

    The line of a joint step has the actions, the state after it, events and reward. The states of `pictures_of` are
    drawn; their numbers count the steps made.
    """
    lines, pictures = list[str](), dict[int, str]()
    if 0 in pictures_of:
        pictures[0] = game.picture()
    for pair in actions:
        outcome = game.step(pair)
        acts = ", ".join(f"{a} {ACTION_NAMES[action]}" for a, action in zip(AGENTS, pair, strict=True))
        happened = zip(AGENTS, outcome.events, strict=True)
        events = [f"{agent} {name}" for agent, counts in happened for name, count in counts.items() if count]
        # An episode may end in its last step with success; that comes first.
        end = " | success" if outcome.terminated else " | time limit" if outcome.truncated else ""
        lines.append(
            f"step {game.clock}: {acts} -> {game.describe()} | events: {', '.join(events) or 'none'}"
            f" | team reward {outcome.reward:+.3f}{end}"
        )
        if game.clock in pictures_of:
            pictures[game.clock] = game.picture()
        if outcome.terminated or outcome.truncated:
            break
    return EpisodeText(lines, pictures)
