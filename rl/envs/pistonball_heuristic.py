"""A hand-written judge and controller for Pistonball, by the rules of LCA's human heuristic (Lin et al., arXiv
2502.03723): pistons behind the ball go up, those in front of it down, so that it rolls to the left."""

from __future__ import annotations

from typing import Any, NamedTuple

DOWN, STAY, UP = range(3)
TOP = 64  # pixels, highest piston
NEAR = 80  # pixels: who is farther from the ball is not responsible
DEAD_BAND = 20


class Scene(NamedTuple):
    """What the rules look at, in pixels: x of the ball, x of the pistons' middles, their heights."""

    ball: float
    centres: tuple[float, ...]
    heights: tuple[int, ...]


class PistonballHeuristic:
    """The `Heuristic` of Pistonball."""

    def state(self, env: Any) -> Scene:
        centres = tuple(env.centre(agent) for agent in env.possible_agents)
        return Scene(float(env.ball[0]), centres, tuple(int(height) for height in env.heights))

    def prefers(self, agent: str, before: Scene, action: int, after: Scene) -> int:  # noqa: ARG002 heights tell
        """1 where the piston came nearer to the height that it should have, -1 where it went away from it."""
        i = _number(agent)
        wanted = _wanted(i, before)
        gained = abs(before.heights[i] - wanted) - abs(after.heights[i] - wanted)
        return (gained > 0) - (gained < 0)

    def act(self, agent: str, state: Scene) -> int:
        i = _number(agent)
        missing = _wanted(i, state) - state.heights[i]
        return UP if missing > 0 else DOWN if missing < 0 else STAY


def _number(agent: str) -> int:
    return int(agent.rpartition("_")[2])


def _wanted(i: int, scene: Scene) -> int:
    """The height that a piston should have; its own where it is not responsible."""
    offset = scene.centres[i] - scene.ball
    if DEAD_BAND <= offset <= NEAR:
        return TOP
    return 0 if -NEAR <= offset <= -DEAD_BAND else scene.heights[i]
