"""The inputs of critics, on numbers that tell agents apart."""

import numpy as np
from cosignal.rl.algorithms.critic_inputs import ego_first, global_state, state_size
from cosignal.rl.task import GroupSpec, TaskSpec


def test_the_state_of_an_agent_has_its_own_view_first() -> None:
    walkers = np.arange(6, dtype=np.float32).reshape(1, 3, 2)  # three agents with two numbers each
    pilot = np.array([[[10.0]]], np.float32)
    spec = TaskSpec(
        name="two_groups", description="",
        groups=(GroupSpec(name="walkers", agents=("a", "b", "c"), obs_size=2, n_actions=2),
                GroupSpec(name="pilot", agents=("d",), obs_size=1, n_actions=2)),
    )  # fmt: skip
    assert state_size(spec) == 7
    assert global_state([walkers, pilot]).tolist() == [[0, 1, 2, 3, 4, 5, 10]]
    first, second = ego_first([walkers, pilot])
    assert first.tolist() == [[[0, 1, 2, 3, 4, 5, 10], [2, 3, 0, 1, 4, 5, 10], [4, 5, 0, 1, 2, 3, 10]]]
    assert second.tolist() == [[[10, 0, 1, 2, 3, 4, 5]]]
