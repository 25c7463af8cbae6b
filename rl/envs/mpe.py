"""Sparse variants of two particle environments (mpe2). Needs `pip install 'cosignal[mpe]'`.

The worlds, observations and actions are upstream's. Its dense reward is replaced: the team is paid 1 once, in the first
step in which the goal is met, which ends the episode.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import dist
from typing import Any

from gymnasium.spaces import Space
from pettingzoo import ParallelEnv

from ..task import EventSpec, FeatureSpec
from .adapter import Infos, Task, require_at_least, require_mode

COVERED = 0.15  # spread: how near an agent is to a landmark that it covers
REACHED = 0.1  # speaker and listener: how near the listener is to a landmark that it has reached
FAR = 5.0  # features are cut off here; the world itself has no border
RENDER_MODES = ("rgb_array",)
MOVES = ("none", "left", "right", "down", "up")

_WORLD = """\
in a plane without borders, x to the right and y upwards.
Agents and {landmarks} landmarks start at random points with x and y from -1 to 1; landmarks stay where they are."""

_SPREAD = """\
{agents} agents move {world}
Actions: none, left, right, down, up: the direction of a push. In a step of 0.1 seconds an agent moves by its velocity,
which then loses a quarter and gains 0.5 in that direction. Agents are discs of radius 0.15 that push each other away.
The episode ends with success in the first step in which every landmark has an agent within {near}, and without at the
time limit of {n_max} steps.
Team reward: 1 for success, 0 in every other step.
Each agent observes its velocity and position and where landmarks and other agents are, relative to it."""

_SPEAKER = """\
A listener moves {world}
One of the three landmarks, drawn at random for each episode, is the target.
The speaker cannot move. Its actions 0, 1, 2 are symbols that mean nothing by themselves. The listener's actions: none,
left, right, down, up: the direction of a push. In a step of 0.1 seconds it moves by its velocity, which then loses a
quarter and gains 0.5 in that direction.
The episode ends with success in the first step in which the listener is within {near} of the target, and without at the
time limit of {n_max} steps.
Team reward: 1 for success, 0 in every other step.
The speaker observes which landmark is the target. The listener observes its velocity, where the landmarks are relative
to it, and the symbol of the step before."""


class SparseEnv(ParallelEnv, ABC):  # type: ignore[misc]
    """An environment of mpe2 that pays 1 when its goal is met, in equal shares to the agents, so that the *sum* is 1.

    `infos[agent]` holds "events" after a step: how many things an agent is near that it was not near before.

    Args:
        upstream: the parallel environment of mpe2, with the same time limit.
        name: of the task.
        n_max: time limit of an episode in steps, then truncation.
    """

    def __init__(self, upstream: Any, name: str, n_max: int) -> None:
        self.metadata = {"name": name, "render_modes": [*RENDER_MODES], "is_parallelizable": True}
        self.render_mode = upstream.unwrapped.render_mode
        self.upstream, self.world = upstream, upstream.unwrapped.world
        self.n_max, self.clock = n_max, 0
        self.possible_agents = list(upstream.possible_agents)
        self.agents: list[str] = []
        self.nearby: dict[str, dict[str, set[int]]] = {}  # [agent] `near` in the current state

    def observation_space(self, agent: str) -> Space[Any]:
        space: Space[Any] = self.upstream.observation_space(agent)
        return space

    def action_space(self, agent: str) -> Space[Any]:
        space: Space[Any] = self.upstream.action_space(agent)
        return space

    def body(self, agent: str) -> Any:
        """Return the agent's body in upstream's world."""
        return self.world.agents[self.possible_agents.index(agent)]

    @abstractmethod
    def near(self, agent: str) -> dict[str, set[int]]:
        """Return the numbers of the things that the agent is near, by event."""

    @abstractmethod
    def solved(self) -> bool:
        """Return whether the goal is met in the current state, by `nearby`."""

    def _look(self) -> None:
        self.nearby = {agent: self.near(agent) for agent in self.possible_agents}

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Start an episode. Without a seed the random stream goes on."""
        # Upstream draws the world; what is near is read anew.
        observations, _ = self.upstream.reset(seed=seed, options=options)
        self.agents, self.clock = list(self.possible_agents), 0
        self._look()
        return observations, {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Make one joint step.

        Raises:
            ValueError: the episode is over.
        """
        if not self.agents:
            raise ValueError(f"step needs a running episode, the last one ended at step {self.clock}; call reset")
        members, before = self.agents, self.nearby
        # Upstream's dense reward and its ends are left out.
        observations, *_ = self.upstream.step(actions)
        self._look()
        self.clock += 1
        solved = self.solved()
        truncated = not solved and self.clock >= self.n_max
        # PettingZoo's convention: nobody is left when the episode is over.
        if solved or truncated:
            self.agents = []
        # An event counts the things that an agent has come near to in this step.
        arrivals = {
            agent: {event: len(things - before[agent][event]) for event, things in self.nearby[agent].items()}
            for agent in members
        }
        return (
            observations,
            dict.fromkeys(members, float(solved) / len(members)),
            dict.fromkeys(members, solved),
            dict.fromkeys(members, truncated),
            {agent: {"events": counts} for agent, counts in arrivals.items()},
        )

    def render(self) -> Any:
        """Return the frame that upstream draws in render mode "rgb_array"; None else."""
        return None if self.render_mode is None else self.upstream.render()

    def close(self) -> None:
        """Do nothing: nothing is open, and upstream would end pygame for all other environments of the process."""


def _between(one: Any, other: Any) -> float:
    return dist(one.state.p_pos, other.state.p_pos)


def _point(body: Any) -> str:
    x, y = body.state.p_pos
    return f"({x:+.2f},{y:+.2f})"


def _place(body: Any) -> dict[str, float]:
    x, y = (min(max(float(value), -FAR), FAR) for value in body.state.p_pos)
    return {"x": x, "y": y}


def _upstream(module: str, **arguments: Any) -> Any:
    """Build a parallel environment of mpe2; pygame, which it imports, prints no greeting."""
    # Before the import, which prints it.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    from mpe2 import simple_speaker_listener_v4, simple_spread_v3

    modules = {"spread": simple_spread_v3, "speaker_listener": simple_speaker_listener_v4}
    return modules[module].parallel_env(continuous_actions=False, **arguments)


def _distance_feature(name: str, description: str, high: float = FAR, done: float | None = None) -> FeatureSpec:
    text = f"{description}, cut off at {FAR:g}."
    return FeatureSpec(name=name, kind="distance", low=0, high=high, done=done, description=text)


PLACE = (
    FeatureSpec(name="x", kind="position", low=-FAR, high=FAR, description=f"Of the agent, cut off at ±{FAR:g}."),
    FeatureSpec(name="y", kind="position", low=-FAR, high=FAR, description=f"Of the agent, cut off at ±{FAR:g}."),
)

# ---------------------------------------------------------------- spread


class _Spread(SparseEnv):
    """Spread: an agent is near landmarks that it covers, and agents that it overlaps."""

    def near(self, agent: str) -> dict[str, set[int]]:
        me = self.body(agent)
        covered = {k for k, mark in enumerate(self.world.landmarks) if _between(me, mark) <= COVERED}
        # Discs overlap where their middles are nearer than both radii.
        mates = [(k, mate) for k, mate in enumerate(self.world.agents) if mate is not me]
        touched = {k for k, mate in mates if _between(me, mate) < me.size + mate.size}
        return {"landmark_covered": covered, "collision": touched}

    def covered(self) -> set[int]:
        """Return the numbers of the landmarks that are covered."""
        return set().union(*(things["landmark_covered"] for things in self.nearby.values()))

    def solved(self) -> bool:
        return len(self.covered()) == len(self.world.landmarks)


SPREAD_EVENTS = (
    EventSpec(
        name="landmark_covered",
        description=f"The agent came within {COVERED} of a landmark.",
        repeatable=True,
    ),
    EventSpec(name="collision", description="The agent began to overlap another agent.", repeatable=True),
)


class SpreadTask(Task):
    """The environment simple_spread. The team is paid 1 in the first step in which every landmark is covered.

    Args:
        agents: as many as landmarks, at least 2.
        n_max: time limit of an episode in steps.
        render_mode: "rgb_array", so that the environment draws frames; None: it draws nothing.

    Raises:
        ValueError: an argument is too small, or there is no such mode.
    """

    return_range = (0.0, 1.0)
    has_success = True
    has_masks = False
    deterministic = True
    action_names = MOVES

    def __init__(self, *, agents: int = 3, n_max: int = 25, render_mode: str | None = None) -> None:
        require_at_least(2, agents=agents)
        require_at_least(1, n_max=n_max)
        require_mode(render_mode, RENDER_MODES)
        upstream = _upstream("spread", N=agents, max_cycles=n_max, render_mode=render_mode)
        super().__init__(_Spread(upstream, "mpe_spread", n_max))
        self.max_steps = n_max
        # The rules in words, with the numbers of this world.
        world = _WORLD.format(landmarks=agents)
        self.description = _SPREAD.format(agents=agents, world=world, near=COVERED, n_max=n_max)

    def feature_specs(self, agent: Any) -> Sequence[FeatureSpec]:  # noqa: ARG002
        landmarks = len(self.env.world.landmarks)
        return (
            _distance_feature("dist_nearest_landmark", "To the nearest landmark"),
            _distance_feature(
                "dist_nearest_open_landmark",
                f"To the nearest landmark that no other agent is within {COVERED} of; 0 when there is none",
                done=0,  # nobody is at a distance of exactly 0
            ),
            _distance_feature("dist_nearest_mate", "To the nearest other agent"),
            _distance_feature(
                "sum_landmark_distances",
                "Sum over landmarks of the distance of its nearest agent, each",
                FAR * landmarks,
            ),
            FeatureSpec(
                name="landmarks_covered",
                kind="quantity",
                low=0,
                high=landmarks,
                unit="landmarks",
                description=f"Landmarks that have an agent within {COVERED}.",
            ),
            *PLACE,
        )

    def event_specs(self, agent: Any) -> Sequence[EventSpec]:  # noqa: ARG002
        return SPREAD_EVENTS

    def features(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, float]:  # noqa: ARG002
        world, me = self.env.world, self.env.body(agent)
        mates = [mate for mate in world.agents if mate is not me]
        # [landmark] distance of this agent, and of the nearest of the others.
        mine = [_between(me, mark) for mark in world.landmarks]
        others = [min(_between(mate, mark) for mate in mates) for mark in world.landmarks]
        # Landmarks that nobody else covers.
        open_ones = [here for here, there in zip(mine, others, strict=True) if there > COVERED]
        nearest = [min(here, there) for here, there in zip(mine, others, strict=True)]
        return _place(me) | {
            "dist_nearest_landmark": min(*mine, FAR),
            "dist_nearest_open_landmark": min([*open_ones, FAR]) if open_ones else 0.0,
            "dist_nearest_mate": min([*(_between(me, mate) for mate in mates), FAR]),
            "sum_landmark_distances": sum(min(value, FAR) for value in nearest),
            "landmarks_covered": len(self.env.covered()),
        }

    def success(self, infos: Infos) -> bool:  # noqa: ARG002
        return bool(self.env.solved())

    def describe(self) -> str:
        world = self.env.world
        agents = [f"{body.name} at {_point(body)}" for body in world.agents]
        marks = ", ".join(_point(mark) for mark in world.landmarks)
        covered = f"{len(self.env.covered())} of {len(world.landmarks)} covered"
        return f"{', '.join(agents)}; landmarks at {marks}; {covered}"


# ---------------------------------------------------------------- speaker and listener

SPEAKER, LISTENER = "speaker_0", "listener_0"


class _SpeakerListener(SparseEnv):
    """Speaker and listener: the listener is near landmarks that it has reached."""

    def target(self) -> int:
        """Return the number of the target landmark."""
        return int(self.world.landmarks.index(self.body(SPEAKER).goal_b))

    def symbol(self) -> int:
        """Return the speaker's symbol of the last step; -1 at the start."""
        symbols = self.body(SPEAKER).state.c
        return int(symbols.argmax()) if symbols.any() else -1

    def near(self, agent: str) -> dict[str, set[int]]:
        if agent == SPEAKER:
            return {}
        me, target = self.body(LISTENER), self.target()
        reached = {k for k, mark in enumerate(self.world.landmarks) if _between(me, mark) <= REACHED}
        return {"target_reached": reached & {target}, "other_landmark_reached": reached - {target}}

    def solved(self) -> bool:
        return bool(self.nearby[LISTENER]["target_reached"])


LISTENER_EVENTS = (
    EventSpec(name="target_reached", description=f"The listener came within {REACHED} of the target."),
    EventSpec(
        name="other_landmark_reached",
        description=f"The listener came within {REACHED} of a landmark that is not the target.",
        repeatable=True,
    ),
)


class SpeakerListenerTask(Task):
    """The environment simple_speaker_listener.

    The team is paid 1 in the first step in which the listener is at the target landmark.

    Args:
        n_max: time limit of an episode in steps.
        render_mode: "rgb_array", so that the environment draws frames; None: it draws nothing.

    Raises:
        ValueError: an argument is too small, or there is no such mode.
    """

    return_range = (0.0, 1.0)
    has_success = True
    has_masks = False
    deterministic = True
    action_names = MOVES  # of the listener; the speaker's three have none

    def __init__(self, *, n_max: int = 25, render_mode: str | None = None) -> None:
        require_at_least(1, n_max=n_max)
        require_mode(render_mode, RENDER_MODES)
        upstream = _upstream("speaker_listener", max_cycles=n_max, render_mode=render_mode)
        super().__init__(_SpeakerListener(upstream, "mpe_speaker_listener", n_max))
        self.max_steps = n_max
        world = _WORLD.format(landmarks="three")
        self.description = _SPEAKER.format(world=world, near=REACHED, n_max=n_max)

    def groups(self) -> Mapping[str, Sequence[Any]]:
        return {"speaker": [SPEAKER], "listener": [LISTENER]}

    def feature_specs(self, agent: Any) -> Sequence[FeatureSpec]:
        symbol = FeatureSpec(
            name="said",
            kind="quantity",
            low=-1,
            high=2,
            description="The speaker's symbol in the last step, 0, 1 or 2; -1 at the start of an episode.",
        )
        to_target = _distance_feature("dist_target", "Of the listener to the target")
        if agent == SPEAKER:
            number = FeatureSpec(
                name="target", kind="quantity", low=0, high=2, description="Number of the target landmark."
            )
            return number, symbol, to_target
        return to_target, _distance_feature("dist_nearest_landmark", "To the nearest landmark"), symbol, *PLACE

    def event_specs(self, agent: Any) -> Sequence[EventSpec]:
        return () if agent == SPEAKER else LISTENER_EVENTS

    def features(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, float]:  # noqa: ARG002
        env, listener = self.env, self.env.body(LISTENER)
        distances = [_between(listener, mark) for mark in env.world.landmarks]
        shared = {"dist_target": min(distances[env.target()], FAR), "said": env.symbol()}
        if agent == SPEAKER:
            return shared | {"target": env.target()}
        return shared | _place(listener) | {"dist_nearest_landmark": min(*distances, FAR)}

    def success(self, infos: Infos) -> bool:  # noqa: ARG002
        return bool(self.env.solved())

    def describe(self) -> str:
        env = self.env
        marks = ", ".join(_point(mark) for mark in env.world.landmarks)
        symbol = "nothing" if env.symbol() < 0 else env.symbol()
        return f"listener at {_point(env.body(LISTENER))}; landmarks at {marks}; target {env.target()}; said {symbol}"
