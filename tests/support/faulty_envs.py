"""Environments that break PettingZoo's promises, in words, numbers and forms; and some that hold something open."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from cosignal import EventSpec, FeatureSpec, Task
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

LENGTH = 5

# Kind of fault: what is wrong then, in words that a message must have.
IN_STEPS = {
    "nan_obs": r"agent 'b' of 'faulty' observes \[nan, .*number 0 is not",
    "inf_obs": r"agent 'b' of 'faulty' observes \[inf, ",
    "huge_obs": r"at most 1e\+15, agent 'b' of 'faulty' observes \[3\.",  # what some sensors show for no value
    "shape": r"agent 'b' of 'faulty' observes \(3,\), its space says \(2,\)",
    "none_obs": "agent 'b' of 'faulty' observes None, its space says numbers",
    "text_obs": r"observes a list of 2 \(str, str\), its space says numbers",
    "no_obs": r"must return an observation of each agent in `agents`, 'faulty' returned none of \['b'\]",
    "nan_feature": r"agent 'b' of 'faulty' has the features \[0.0, nan\] \('speed' is not",
    "none_feature": r"agent 'b' of 'faulty' has the features \[0.0, nan\] \('speed' is not",
    "text_feature": "features must be a number by name, 'faulty' gave agent 'b' {.*'speed': '1'",
    "no_feature": "'faulty' gave agent 'b' no 'speed'; add it there",
    "features_none": "features must be a number by name, 'faulty' gave agent 'b' None",
    "short_mask": r"must have an entry for each of 3 actions, 'faulty' gave agent 'b' \[1, 1\]",
    "empty_mask": r"must allow at least one of 3 actions, 'faulty' gave agent 'b' \[0, 0, 0\]",
    "text_mask": "must hold 0 or 1 for each of 3 actions, 'faulty' gave agent 'b'",
    "infos_none": "must return infos as a dict by agent, 'faulty' returned None",
    "info_none": "infos must hold a dict for each agent, 'faulty' gave agent 'b' None",
    "agents_none": "must set `agents` to a list of those who act next, 'faulty' has None there",
    "stranger": r"`agents` must be in possible_agents, 'faulty' has \['z'\]",
    "nothing": r"must return \(observations, .*'faulty' returned None",
    "raises": "RuntimeError: broke",
    "exits": "SystemExit: 5",
    "interrupts": "KeyboardInterrupt: ",
    "recurses": "RecursionError: ",
    "panics": "Panic: index out of bounds",  # Rust raises what is no Exception
    "cancels": "CancelledError: ",
}  # fmt: skip
AFTER_STEPS = {
    "nan_reward": "rewards must be finite and at most 1e\\+15, 'faulty' paid agent 'b' nan",
    "huge_reward": r"'faulty' paid agent 'b' 1e\+38",
    "none_reward": "'faulty' paid agent 'b' None",
    "endless_reward": "'faulty' paid agent 'b' 1000",
    "text_reward": "'faulty' paid agent 'b' '7'",
    "many_rewards": r"'faulty' paid agent 'b' an array of float64 \(2,\)",
    "rewards_none": "step must return rewards as a dict by agent, 'faulty' returned None",
    "rewards_one": r"step must return rewards as a dict by agent, 'faulty' returned 1\.0",
    "rewards_of_others": r"rewards must be those of agents in possible_agents, 'faulty' pays \[0, 1\]",
    "four": r"step must return \(.*, 'faulty' returned a tuple of 4 .*; an older API has one dict of dones",
    "done_for_all": "step must return terminations as a dict by agent, 'faulty' returned False",
    "nan_event": r"agent 'b' of 'faulty' has the events \[nan\] \('rang' is not",
    "text_event": "events must be a number by name, 'faulty' gave agent 'b' {'rang': '1'}",
    "events_none": "events must be a number by name, 'faulty' gave agent 'b' None",
}
AT_RESETS = {
    "only_observations": r"reset must return \(observations, infos\), 'faulty' returned a dict of 'a', 'b'; return {a",
    "nobody": "reset must set `agents` to those who act first, 'faulty' has nobody there",
}
FAULTS = IN_STEPS | AFTER_STEPS


class Panic(BaseException):
    """As PyO3 raises it."""


class Faulty(ParallelEnv):  # type: ignore[misc]
    """Two agents are paid 1 a step for LENGTH steps, and see the step and a random number.

    Args:
        what: the fault, of the tables above; of `faults` the one that the seed chooses.
        at: the step of the episode in which it happens, 0 at the reset.
        every: of so many seeds one is at fault; but for 0, which the probe takes.
        from_start: whether all seeds are at fault.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "faulty"}
    possible_agents: ClassVar[list[str]] = ["a", "b"]

    def __init__(self, what: str = "", at: int = 2, every: int = 3, from_start: bool = False) -> None:
        self.what, self.at, self.every, self.from_start = what, at, every, from_start

    def observation_space(self, agent: str) -> Box:
        return Box(-100, 100, (2,))

    def action_space(self, agent: str) -> Discrete:
        return Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        seed = seed or 0
        self.rng, self.agents, self.t = np.random.default_rng(seed), ["a", "b"], 0
        bad = self.from_start or (seed > 0 and seed % self.every == 0)
        self.fault = "" if not bad else sorted(FAULTS)[seed // self.every % len(FAULTS)] if not self.what else self.what
        observations, infos = self._told()
        if self.now("only_observations"):
            return observations
        if self.now("nobody"):
            self.agents = []
        return None if self.now("nothing") else (observations, infos)

    def now(self, fault: str) -> bool:
        return self.fault == fault and self.t == self.at

    def _told(self) -> tuple[Any, Any]:
        if self.now("raises"):
            raise RuntimeError("broke")
        if self.now("exits"):
            raise SystemExit(5)
        if self.now("interrupts"):
            raise KeyboardInterrupt
        if self.now("recurses"):
            return self._told()
        if self.now("panics"):
            raise Panic("index out of bounds")
        if self.now("cancels"):
            raise asyncio.CancelledError
        seen: Any = {agent: np.array([self.t, self.rng.normal()], np.float32) for agent in ("a", "b")}
        for fault, value in (
            ("nan_obs", np.array([np.nan, 0])), ("inf_obs", np.array([np.inf, 0])),
            ("huge_obs", np.full(2, np.finfo(np.float32).max)), ("shape", np.zeros(3)),
            ("none_obs", None), ("text_obs", ["1", "2"]),
        ):  # fmt: skip
            if self.now(fault):
                seen["b"] = value
        if self.now("no_obs"):
            del seen["b"]
        if self.now("agents_none"):
            self.agents = None
        if self.now("stranger"):
            self.agents = ["a", "b", "z"]
        infos: Any = {agent: {"features": {"t": 0.0, "speed": 1.0}, "events": {"rang": 1}} for agent in ("a", "b")}
        for fault, key, value in (
            ("nan_feature", "features", {"t": 0.0, "speed": np.nan}), ("no_feature", "features", {"t": 0.0}),
            ("none_feature", "features", {"t": 0.0, "speed": None}), ("features_none", "features", None),
            ("text_feature", "features", {"t": 0.0, "speed": "1"}), ("events_none", "events", None),
            ("nan_event", "events", {"rang": np.nan}), ("text_event", "events", {"rang": "1"}),
            ("short_mask", "action_mask", [1, 1]), ("empty_mask", "action_mask", [0, 0, 0]),
            ("text_mask", "action_mask", ["yes", "no", "no"]),
        ):  # fmt: skip
            if self.now(fault):
                infos["b"][key] = value
        if self.now("info_none"):
            infos["b"] = None
        return seen, None if self.now("infos_none") else infos

    def step(self, actions: dict[str, Any]) -> Any:
        self.t += 1
        seen, infos = self._told()
        rewards: Any = {"a": 1.0, "b": 1.0}
        for fault, value in (
            ("nan_reward", np.nan), ("huge_reward", 1e38), ("none_reward", None), ("text_reward", "7"),
            ("many_rewards", np.zeros(2)), ("endless_reward", 10**400),
        ):  # fmt: skip
            if self.now(fault):
                rewards["b"] = value
        for fault, value in (("rewards_none", None), ("rewards_one", 1.0), ("rewards_of_others", {0: 1.0, 1: 1.0})):
            if self.now(fault):
                rewards = value
        never, over = dict.fromkeys("ab", False), dict.fromkeys("ab", self.t == LENGTH)
        if self.t == LENGTH:
            self.agents = []
        if self.now("nothing"):
            return None
        if self.now("four"):
            return seen, rewards, over, infos
        return seen, rewards, False if self.now("done_for_all") else never, over, infos


class FaultyTask(Task):
    has_success = False
    deterministic = True
    max_steps = LENGTH

    def __init__(self, **more: Any) -> None:
        super().__init__(Faulty(**more))

    def feature_specs(self, agent: Any) -> Any:
        return [FeatureSpec(name=name, kind="quantity", low=0, high=9) for name in ("t", "speed")]

    def event_specs(self, agent: Any) -> Any:
        return [EventSpec(name="rang")]


class Simulated(ParallelEnv):  # type: ignore[misc]
    """Holds a file in `folder`, which `close` deletes. A step with action 2 raises."""

    metadata: ClassVar[dict[str, Any]] = {"name": "simulated"}
    possible_agents: ClassVar[list[str]] = ["a"]
    has_success = False
    built: ClassVar[int] = 0

    def __init__(self, folder: str, bad_space: bool = False, close_raises: bool = False) -> None:
        Simulated.built += 1
        self.file = Path(folder) / f"{os.getpid()}-{Simulated.built}"
        self.file.touch()
        self.bad_space, self.close_raises = bad_space, close_raises

    def observation_space(self, agent: str) -> Any:
        return None if self.bad_space else Box(0, 100, (1,))

    def action_space(self, agent: str) -> Discrete:
        return Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.t = ["a"], 0
        return {"a": np.zeros(1, np.float32)}, {"a": {}}

    def step(self, actions: Mapping[str, int]) -> Any:
        self.t += 1
        if actions["a"] == 2:
            raise RuntimeError("broken")
        never = {"a": False}
        return {"a": np.full(1, self.t % 100, np.float32)}, {"a": 0.0}, never, never, {"a": {}}

    def close(self) -> None:
        self.file.unlink()
        if self.close_raises:
            raise RuntimeError("stuck")
