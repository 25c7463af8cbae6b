"""Environments that crash, hang or take their process with them, when an agent chooses to."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from cosignal import Task
from cosignal.rl.envs.two_switch.env import TwoSwitchEnv
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

FINE, FINE_TOO, RAISES, HANGS, DIES, GIVES_NO_FEATURE, LOCKED = range(7)
LENGTH = 4


class Fragile(ParallelEnv):  # type: ignore[misc]
    """Two workers choose, and are paid 1 a step; a crane moves by two numbers, and is paid their sum. All see the step
    and a random number. The choice LOCKED is masked at odd steps. The first worker's choices do what they are called.

    `bad_resets`: of three seeds, but for 0, so many raise. `step_s`: CPU seconds of a step.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "fragile"}
    possible_agents: ClassVar[list[str]] = ["worker_0", "worker_1", "crane"]

    def __init__(self, bad_resets: int = 0, step_s: float = 0.0, length: int = LENGTH) -> None:
        self.bad_resets, self.step_s, self.length = bad_resets, step_s, length

    def observation_space(self, agent: str) -> Box:
        return Box(-100, 100, (2,))

    def action_space(self, agent: str) -> Any:
        return Box(-2, 2, (2,)) if agent == "crane" else Discrete(7)

    def _views(self) -> tuple[dict[str, Any], dict[str, Any]]:
        observations = {a: np.array([self.t, self.rng.normal()], np.float32) for a in self.agents}
        mask = {"action_mask": [1, 1, 1, 1, 1, 1, self.t % 2 == 0]}
        return observations, {a: {} if a == "crane" else dict(mask) for a in self.agents}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        assert seed is not None
        if seed and seed % 3 < self.bad_resets:
            raise RuntimeError(f"no episode with seed {seed}")
        self.rng, self.agents, self.t = np.random.default_rng(seed), list(self.possible_agents), 0
        return self._views()

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        _do(actions.get("worker_0", FINE))
        if self.step_s:
            _work(self.step_s)
        self.t += 1
        observations, infos = self._views()
        if actions.get("worker_0") == GIVES_NO_FEATURE:
            infos["crane"] = {"broken": True}
        rewards = {"worker_0": 1.0, "worker_1": 1.0, "crane": float(np.sum(actions["crane"]))}
        over = dict.fromkeys(self.agents, self.t == self.length)
        self.agents = [] if self.t == self.length else self.agents
        return observations, rewards, over, dict.fromkeys(over, False), infos


def _do(choice: int) -> None:
    if choice == RAISES:
        raise RuntimeError("the simulator has lost its licence")
    if choice == HANGS:
        ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock
    if choice == DIES:
        os.kill(os.getpid(), signal.SIGSEGV)


def _work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class FragileTask(Task):
    has_success = True
    deterministic = True
    max_steps = LENGTH

    def __init__(self, **more: Any) -> None:
        super().__init__(Fragile(**more))

    def feature_specs(self, agent: Any) -> Any:
        from cosignal import FeatureSpec

        return [FeatureSpec(name="step", kind="count", low=0, high=LENGTH)]

    def features(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, float]:
        return {} if "broken" in info else {"step": self.env.t}

    def event_specs(self, agent: Any) -> Any:
        from cosignal import EventSpec

        return [EventSpec(name="moved")]

    def events(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, int]:
        return {"moved": 1}

    def success(self, infos: Any) -> bool:
        return bool(self.env.rng.integers(2))


class Tired(TwoSwitchEnv):
    """Raises in the third step of an episode whose seed can be divided by 3, but for the probes' seed 0."""

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.asked, self.tired = 0, bool(seed) and (seed or 0) % 3 == 0
        return super().reset(seed, options)

    def step(self, actions: dict[str, Any]) -> Any:
        self.asked += 1
        if self.tired and self.asked == 3:
            raise RuntimeError("tired")
        return super().step(actions)
