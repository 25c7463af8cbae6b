"""A made-up task of two groups: two scouts and one lifter, who share the feature `dist`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, TaskSpec


def _feature(name: str, low: float = 0, high: float = 10) -> FeatureSpec:
    return FeatureSpec(name=name, kind="quantity", low=low, high=high)


@pytest.fixture(scope="session")
def spec() -> TaskSpec:
    scouts = GroupSpec(
        name="scouts",
        agents=("scout_0", "scout_1"),
        obs_size=3,
        n_actions=2,
        features=(_feature("dist"), _feature("seen", 0, 1)),
        events=(EventSpec(name="found"), EventSpec(name="turned", repeatable=True)),
    )
    lifter = GroupSpec(
        name="lifters",
        agents=("lifter_0",),
        obs_size=3,
        n_actions=2,
        features=(_feature("load"), _feature("dist")),
        events=(EventSpec(name="lifted"),),
    )
    return TaskSpec(name="made_up", description="", groups=(scouts, lifter), return_range=(-1.0, 3.0), max_steps=20)


@pytest.fixture(scope="session")
def record(spec: TaskSpec) -> Callable[..., TransitionSample]:
    """record(n, seed): random transitions with distances in 0..10, half of the ends successful."""

    def make(n: int = 200, seed: int = 0, ends: int = 20) -> TransitionSample:
        rng = np.random.default_rng(seed)

        def features(count: int) -> list[np.ndarray]:
            scouts = np.stack([rng.uniform(0, 10, (count, 2)), rng.integers(0, 2, (count, 2))], -1)
            return [scouts.astype(np.float32), rng.uniform(0, 10, (count, 1, 2)).astype(np.float32)]

        events = [rng.integers(0, 2, (n, 2, 2)).astype(np.float32), rng.integers(0, 2, (n, 1, 1)).astype(np.float32)]
        return TransitionSample(
            features=features(n),
            last_features=features(n),
            events=events,
            terminated=rng.random(n) < 0.1,
            end_features=features(ends),
            end_success=np.arange(ends) % 2 == 0,
        )

    return make
