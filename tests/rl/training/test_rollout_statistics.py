"""Statistics of a rollout: figures worked out by hand."""

from __future__ import annotations

import numpy as np
from cosignal.rl.experience.rollout import Rollout
from cosignal.rl.task import FeatureSpec, GroupSpec
from cosignal.rl.training.rollout_statistics import add_values_before_done, share_seeing_alike


def group(name: str, agents: int) -> GroupSpec:
    return GroupSpec(
        name=name,
        agents=tuple(f"{name}{i}" for i in range(agents)),
        obs_size=1,
        n_actions=2,
        features=(
            FeatureSpec(name="way", kind="distance", low=0, high=9, done=0),
            FeatureSpec(name="mate", kind="distance", low=0, high=9),
        ),
        events=(),
    )


def rollout(ways: list[list[list[list[float]]]], alive: list[list[list[bool]]] | None = None) -> Rollout:
    """One environment; `ways` are [g] [T + 1, A_g] pairs of the two features, one state more than steps."""
    states = [np.array(way, np.float32)[:, None] for way in ways]  # [T + 1, 1, A_g, 2]
    before, after = [x[:-1] for x in states], [x[1:] for x in states]
    nothing = np.zeros(before[0].shape[:2], np.float32)
    return Rollout(
        obs=before, last_obs=after, features=before, last_features=after, events=[], actions=[], logp=[],
        reward=nothing, terminated=nothing, done=nothing, success=nothing,
        alive=None if alive is None else [np.array(x, np.bool_)[:, None] for x in alive],
    )  # fmt: skip


def test_the_value_before_something_is_done_is_that_of_the_groups_nearest_agent() -> None:
    """The scouts' nearest is at 2, then at 4; the diggers' only one is at 1, then at 3; `mate` never ends."""
    groups = (group("scout", 2), group("digger", 1))
    sums = [np.zeros((2, 2)), np.zeros((2, 2))]
    scouts = [[[5, 1], [2, 1]], [[0, 0], [0, 0]], [[6, 1], [4, 1]], [[0, 0], [0, 0]]]
    diggers = [[[1, 1]], [[0, 0]], [[3, 1]], [[0, 0]]]
    add_values_before_done(sums, rollout([scouts, diggers]), groups)
    assert [x.tolist() for x in sums] == [[[6, 0], [2, 0]], [[4, 0], [2, 0]]]
    # They are of the whole run.
    add_values_before_done(sums, rollout([scouts[:2], diggers[:2]]), groups)
    assert [x[:, 0].tolist() for x in sums] == [[8, 3], [5, 3]]


def test_an_agent_that_has_left_is_nowhere() -> None:
    groups = (group("scout", 2),)
    sums = [np.zeros((2, 2))]
    scouts = [[[5, 1], [2, 1]], [[0, 0], [0, 0]]]
    add_values_before_done(sums, rollout([scouts], alive=[[[True, False]]]), groups)
    assert sums[0][:, 0].tolist() == [5, 1]
    add_values_before_done(sums, rollout([scouts], alive=[[[False, False]]]), groups)
    assert sums[0][:, 0].tolist() == [5, 1]


def test_agents_that_observe_what_a_mate_does_are_counted_and_who_has_left_is_not() -> None:
    """In the step before the last state two of three scouts observe the same."""
    ways = [[[[0, 1], [0, 1], [0, 1]], [[3, 1], [3, 1], [4, 1]], [[0, 0], [0, 0], [0, 0]]]]
    assert share_seeing_alike(rollout(ways), 0) == 2 / 3
    here = [[[True, True, True], [True, False, True]]]
    assert share_seeing_alike(rollout(ways, here), 0) == 0.0
    assert share_seeing_alike(rollout(ways, [[[False] * 3] * 2]), 0) == 0.0
    alone = [[[[0, 1]], [[3, 1]], [[0, 0]]]]
    assert share_seeing_alike(rollout(alone), 0) == 0.0
