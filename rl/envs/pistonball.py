"""Pistonball with a sparse reward, and a few numbers or a small image to observe.

It needs `pip install 'cosignal[pistonball]'`.

The physics is that of `pettingzoo.butterfly.pistonball_v6`; reward and observation are those of LCA (Lin et al., arXiv
2502.03723): 1 when the ball is at the left wall, -0.1 a step. So are the rules of the heuristic: pistons behind the
ball go up, those in front of it down, so that it rolls to the left.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from ..task import EventSpec, FeatureSpec, FloatArray
from .adapter import Infos, Task, require_at_least, require_mode

DOWN, STAY, UP = range(3)
PENALTY = 0.1  # a step
RENDER_MODES = ("rgb_array",)

# Lengths are pixels.
TOP = 64  # highest piston
RADIUS, WIDTH = 40, 40  # of the ball, of a piston
LEFT = 80  # x of the ball's centre where it touches the left wall
FLOOR = 491  # y of the upper end of a piston at height 0
BALL_Y = (80, 446)  # of the ball's centre, between the ceiling and a piston at height 0
FASTEST, SPIN = 300.0, 20.0  # features are cut off here
NEAR = 80  # heuristic: who is farther from the ball is not responsible
DEAD_BAND = 20  # heuristic: neither is who is nearer

# An image of the lower part of the table: 8 × 8 pixels a cell, down to the floor. Channels: now, the step before, and
# where the piston that looks is.
CELL, ROWS = 8, 16
DARK, BALL, PISTON = 0, 255, 128

_RULES = """\
A ball of radius {radius} drops onto {pistons} pistons between two walls. Lengths are pixels: x runs to the
right, y downwards; piston i covers {width} pixels around x = {first} + {width} i, from piston_0 at the left.
Pistons start at random heights from 0 to 28, the ball near the right wall, turning at a random speed.
Actions: down, stay, up, by 4; heights stay within 0 to {top}. In each step the pistons move one after the other from
left to right, and the ball moves for 1/20 of a second after each of them.
The episode ends with success when the ball is at the left wall or would be there 1/20 of a second later at its present
velocity, and without at the time limit of {n_max} steps.
Team reward: -{penalty} in every step, and 1 for success.
Each piston observes {observed}."""
_NUMBERS = "the ball's place, velocity and turning speed, and the heights of all pistons"
_IMAGE = "an image of the lower part of the table, now and one step ago, in which it is marked"

EVENTS = (
    EventSpec(name="moved_up", description="The piston moved up.", repeatable=True),
    EventSpec(name="moved_down", description="The piston moved down.", repeatable=True),
)


class PistonballEnv(ParallelEnv):  # type: ignore[misc]
    """The ParallelEnv: agents `piston_0`, …, observations float32 [7 + 2 pistons] or uint8 images [16, 5 pistons, 3],
    actions 0 down, 1 stay, 2 up.

    The team's reward is paid in equal shares, so it is the *sum* over agents; upstream and LCA pay it to each agent.
    The observation of piston i: where the ball is ((x - its x)/100, (x - 80)/100, (y - 400)/50), the ball's velocity/
    300 (x, y) and turning speed/20, its own height/64, all heights/64, and a one-hot of i.

    Args:
        pistons: at least 2.
        n_max: time limit of an episode in steps, then truncation.
        render_mode: "rgb_array", so that `render` draws a frame; None: it draws nothing.
        pixels: observe images, not numbers: the ball 255, pistons 128, in cells of 8 × 8 pixels from the floor up, now
            and in the step before, and the columns of the piston that looks.
    """

    def __init__(
        self, pistons: int = 5, n_max: int = 125, render_mode: str | None = None, pixels: bool = False
    ) -> None:
        require_at_least(2, pistons=pistons)
        require_at_least(1, n_max=n_max)
        require_mode(render_mode, RENDER_MODES)
        self.metadata = {"name": "pistonball", "render_modes": [*RENDER_MODES], "is_parallelizable": True}
        self.render_mode = render_mode
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame prints no greeting
        from pettingzoo.butterfly.pistonball.pistonball import raw_env

        self.table = raw_env(n_pistons=pistons, continuous=False, max_cycles=n_max, render_mode=render_mode)
        self.table.observe = lambda *_: None
        # Where nothing is to be seen nothing is drawn: that is thirty times as fast.
        if render_mode is None:
            self.table.draw_background = lambda *_: None
        self.n_max, self.clock, self.solved = n_max, 0, False
        self.possible_agents = list(self.table.possible_agents)
        self.agents: list[str] = []
        # Piston 0 is at the left wall.
        self._centres = LEFT - WIDTH / 2 + WIDTH * np.arange(pistons)
        self.pixels = pixels
        self._picture, self._seen = np.zeros((ROWS, pistons * WIDTH // CELL), np.uint8), False  # of the step before
        self._space: Box = (
            Box(0, 255, (*self._picture.shape, 3), np.uint8)
            if pixels
            else Box(-np.inf, np.inf, (7 + 2 * pistons,), np.float32)
        )
        self._choices = Discrete(3)
        self.ball: tuple[float, ...] = ()  # x, y, velocity in x and y, turning speed; pixels, radians, seconds
        self.heights: list[int] = []  # pixels, 0..64, by piston

    def observation_space(self, agent: str) -> Box:  # noqa: ARG002
        return self._space

    def action_space(self, agent: str) -> Discrete:  # noqa: ARG002
        return self._choices

    def centre(self, agent: str) -> float:
        """Return x of the middle of the piston."""
        return float(self._centres[self.possible_agents.index(agent)])

    def _look(self) -> dict[str, NDArray[Any]]:
        """Read the table; return what each piston observes of it."""
        ball, n = self.table.ball, len(self.possible_agents)
        self.ball = (*ball.position, *ball.velocity, ball.angular_velocity)
        # y runs downwards.
        self.heights = [FLOOR - int(piston.position[1]) for piston in self.table.pistonList]
        if self.pixels:
            return dict(zip(self.possible_agents, self._images(), strict=True))
        # One row per piston; the columns are described at the class.
        rows = np.empty((n, 7 + 2 * n), np.float32)
        rows[:, 0] = (self.ball[0] - self._centres) / 100
        rows[:, 1:6] = self._ball_row()
        rows[:, 6] = np.array(self.heights) / TOP
        rows[:, 7 : 7 + n] = rows[:, 6]
        rows[:, 7 + n :] = np.eye(n)
        return dict(zip(self.possible_agents, rows, strict=True))

    def _images(self) -> NDArray[np.uint8]:
        """Return what each piston sees, [pistons, rows, columns, 3]; in the first step both frames are alike."""
        n, (rows, columns) = len(self.possible_agents), self._picture.shape
        # the middle of each cell, in pixels of the table
        x = LEFT - RADIUS + CELL * (np.arange(columns) + 0.5)
        y = (FLOOR - CELL * (rows - np.arange(rows) - 0.5))[:, None]
        tops = FLOOR - np.repeat(self.heights, columns // n)
        picture = np.where(y > tops, PISTON, DARK).astype(np.uint8)
        picture[(x - self.ball[0]) ** 2 + (y - self.ball[1]) ** 2 < RADIUS**2] = BALL
        images = np.zeros((n, rows, columns, 3), np.uint8)
        images[..., 0], images[..., 1] = picture, self._picture if self._seen else picture
        for i in range(n):
            images[i, :, i * columns // n : (i + 1) * columns // n, 2] = 255
        self._picture, self._seen = picture, True
        return images

    def _ball_row(self) -> list[float]:
        x, y, vx, vy, spin = self.ball
        return [(x - LEFT) / 100, (y - 400) / 50, vx / 300, vy / 300, spin / 20]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, dict[str, Any]]]:
        """Start an episode. Without a seed the random stream goes on."""
        self.table.reset(seed=seed, options=options)
        self._seen = False
        self.agents, self.clock, self.solved = list(self.possible_agents), 0, False
        return self._look(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Make one joint step.

        Raises:
            ValueError: the episode is over.
        """
        if not self.agents:
            raise ValueError(f"step needs a running episode, the last one ended at step {self.clock}; call reset")
        before, members = self.heights, self.agents
        # Upstream moves the pistons one after the other, and the ball after each.
        for agent in members:
            self.table.step(int(actions[agent]))
        observations = self._look()
        self.clock += 1
        # Upstream's own test: at the wall now, or 1/20 of a second later.
        self.solved = bool(self.table.terminate)
        truncated = not self.solved and self.clock >= self.n_max
        if self.solved or truncated:
            self.agents = []
        moves = [now - then for now, then in zip(self.heights, before, strict=True)]  # pixels upwards
        events = [{"moved_up": int(move > 0), "moved_down": int(move < 0)} for move in moves]
        return (
            observations,
            dict.fromkeys(members, (float(self.solved) - PENALTY) / len(members)),
            dict.fromkeys(members, self.solved),
            dict.fromkeys(members, truncated),
            {agent: {"events": counts} for agent, counts in zip(members, events, strict=True)},
        )

    def state(self) -> FloatArray:
        """Return [5 + pistons]: the ball and the heights, scaled as in the observations."""
        return np.array([*self._ball_row(), *(height / TOP for height in self.heights)], np.float32)

    def render(self) -> Any:
        """Return the frame that upstream draws in render mode "rgb_array"; None else."""
        return None if self.render_mode is None else self.table.render()

    def close(self) -> None:
        """Do nothing: nothing is open, and upstream would end pygame for all other environments of the process."""


# ---------------------------------------------------------------- the heuristic


class Scene(NamedTuple):
    """The part of a state that the rules read, in pixels."""

    ball: float  # x of its centre
    centres: tuple[float, ...]  # x of the pistons' middles
    heights: tuple[int, ...]


class PistonballHeuristic:
    """The `Heuristic` of Pistonball."""

    def state(self, env: Any) -> Scene:
        """Copy the part of the environment's episode that the rules read."""
        centres = tuple(env.centre(agent) for agent in env.possible_agents)
        return Scene(float(env.ball[0]), centres, tuple(int(height) for height in env.heights))

    def prefers(self, agent: str, before: Scene, action: int, after: Scene) -> int:  # noqa: ARG002 heights tell
        """Return 1 where the piston came nearer to the height that it should have, -1 where it went away from it."""
        i = _number(agent)
        target = _target_height(i, before)
        gained = abs(before.heights[i] - target) - abs(after.heights[i] - target)
        return (gained > 0) - (gained < 0)

    def act(self, agent: str, state: Scene) -> int:
        """Return the move towards the height that the piston should have."""
        i = _number(agent)
        missing = _target_height(i, state) - state.heights[i]
        return UP if missing > 0 else DOWN if missing < 0 else STAY


def _number(agent: str) -> int:
    return int(agent.rpartition("_")[2])


def _target_height(i: int, scene: Scene) -> int:
    """Return the height that a piston should have; its own where it is not responsible."""
    # Positive behind the ball, since it is to roll to the left.
    offset = scene.centres[i] - scene.ball
    if DEAD_BAND <= offset <= NEAR:
        return TOP
    return 0 if -NEAR <= offset <= -DEAD_BAND else scene.heights[i]


# ---------------------------------------------------------------- the task


class PistonballTask(Task):
    """Five pistons bring a ball to the left wall; the team's reward is the sum of the agents'.

    Args:
        pistons: at least 2.
        n_max: time limit of an episode in steps.
        render_mode: "rgb_array", so that the environment draws frames; None: it draws nothing.
        pixels: pistons observe small images, not numbers.

    Raises:
        ValueError: an argument is too small, or there is no such mode.
    """

    has_success = True
    has_masks = False
    deterministic = True
    action_names = ("down", "stay", "up")
    stay = STAY
    heuristic = PistonballHeuristic()

    def __init__(
        self, *, pistons: int = 5, n_max: int = 125, render_mode: str | None = None, pixels: bool = False
    ) -> None:
        # Arguments are checked by the environment.
        super().__init__(PistonballEnv(pistons, n_max, render_mode, pixels))
        self.max_steps = n_max
        self.return_range = (-PENALTY * n_max, 1 - PENALTY)
        self.description = _RULES.format(
            radius=RADIUS, pistons=pistons, width=WIDTH, first=LEFT - WIDTH // 2, top=TOP, n_max=n_max, penalty=PENALTY,
            observed=_IMAGE if pixels else _NUMBERS,
        )  # fmt: skip

    def feature_specs(self, agent: Any) -> Sequence[FeatureSpec]:  # noqa: ARG002
        # The same bounds for every piston. The ball is pressed into walls and pistons by a few pixels: that is cut off.
        pistons = len(self.env.possible_agents)
        far = WIDTH * (pistons - 1) - WIDTH / 2  # from the ball at one wall to the middle of the piston at the other
        speed = f"cut off at ±{FASTEST:g}."
        return (
            FeatureSpec(
                name="dist_wall", kind="distance", low=0, high=WIDTH * pistons - LEFT, unit="pixels",
                description="From the ball to the left wall.",
            ),
            FeatureSpec(
                name="dist_ball", kind="distance", low=0, high=far, unit="pixels",
                description="Horizontal distance from the middle of the piston to the ball's centre.",
            ),
            FeatureSpec(
                name="ball_offset", kind="quantity", low=-far, high=far, unit="pixels",
                description="x of the ball's centre minus x of the middle of the piston.",
            ),
            FeatureSpec(
                name="ball_y", kind="position", low=BALL_Y[0], high=BALL_Y[1], unit="pixels",
                description="y of the ball's centre, downwards.",
            ),
            FeatureSpec(
                name="ball_vx", kind="quantity", low=-FASTEST, high=FASTEST, unit="pixels/s",
                description=f"Velocity of the ball to the right, {speed}",
            ),
            FeatureSpec(
                name="ball_vy", kind="quantity", low=-FASTEST, high=FASTEST, unit="pixels/s",
                description=f"Velocity of the ball downwards, {speed}",
            ),
            FeatureSpec(
                name="ball_spin", kind="quantity", low=-SPIN, high=SPIN, unit="rad/s",
                description=f"Turning speed of the ball, cut off at ±{SPIN:g}.",
            ),
            FeatureSpec(
                name="height", kind="quantity", low=0, high=TOP, unit="pixels", description="Height of the piston."
            ),
            FeatureSpec(
                name="mean_height", kind="quantity", low=0, high=TOP, unit="pixels",
                description="Mean height of all pistons.",
            ),
        )  # fmt: skip

    def event_specs(self, agent: Any) -> Sequence[EventSpec]:  # noqa: ARG002
        return EVENTS

    def features(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, float]:  # noqa: ARG002
        env = self.env
        heights = env.heights
        x, y, vx, vy, spin = env.ball
        # The ball may be pressed into a wall by a few pixels.
        x = _cut(x, LEFT, WIDTH * len(heights))
        offset = x - env.centre(agent)
        return {
            "dist_wall": x - LEFT,
            "dist_ball": abs(offset),
            "ball_offset": offset,
            "ball_y": _cut(y, *BALL_Y),
            "ball_vx": _cut(vx, -FASTEST, FASTEST),
            "ball_vy": _cut(vy, -FASTEST, FASTEST),
            "ball_spin": _cut(spin, -SPIN, SPIN),
            "height": heights[env.possible_agents.index(agent)],
            "mean_height": sum(heights) / len(heights),
        }

    def success(self, infos: Infos) -> bool:  # noqa: ARG002
        return bool(self.env.solved)

    def viewpoint(self, agent: Any) -> str:
        env, (x, y, vx, vy, _) = self.env, self.env.ball
        i = env.possible_agents.index(agent)
        mates = ", ".join(
            f"{name} at x {env.centre(name):.0f} height {env.heights[j]}"
            for j, name in enumerate(env.possible_agents)
            if j != i
        )
        return (
            f"You are {agent} at x {env.centre(agent):.0f}, height {env.heights[i]}. Ball at ({x:.0f},{y:.0f}) moving"
            f" ({vx:+.0f},{vy:+.0f}) a second. Your teammates: {mates}."
        )

    def describe(self) -> str:
        x, y, vx, vy, _ = self.env.ball
        return f"ball at ({x:.0f},{y:.0f}) moving ({vx:+.0f},{vy:+.0f}) a second; heights {self.env.heights}"


def _cut(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
