"""Two-Switch as a PettingZoo environment."""

from __future__ import annotations

import numpy as np
import pytest
from cosignal.rl.envs.two_switch.env import TwoSwitchEnv
from pettingzoo_tests import parallel_api_test, parallel_seed_test


@pytest.mark.parametrize("overlap", [True, False])
def test_pettingzoos_own_tests_pass(overlap: bool) -> None:
    parallel_api_test(TwoSwitchEnv(allow_agent_overlap=overlap), num_cycles=1000)
    parallel_seed_test(lambda: TwoSwitchEnv(allow_agent_overlap=overlap), num_cycles=500)


def test_observations_lie_in_their_space() -> None:
    env = TwoSwitchEnv()
    rng = np.random.default_rng(0)
    observations, _ = env.reset(seed=1)
    while env.agents:
        assert all(env.observation_space(agent).contains(obs) for agent, obs in observations.items())
        observations, *_ = env.step({agent: int(rng.integers(5)) for agent in env.agents})


def test_every_agent_is_paid_the_team_reward() -> None:
    env = TwoSwitchEnv(n_max=2)
    env.reset(seed=0)
    env.game.poses = [(2, 2, 2), (5, 1, 0)]
    _, rewards, _, _, infos = env.step({"green": 4, "orange": 0})
    assert rewards == {"green": 0.5, "orange": 0.5}
    assert infos["green"]["events"]["switch_triggered"] == 1
    assert infos["orange"]["features"]["switches_triggered"] == 1
    assert infos["green"]["success"] is False
    _, _, terminations, truncations, _ = env.step({"green": 0, "orange": 0})
    assert (terminations["green"], truncations["green"], env.agents) == (False, True, [])


def test_resets_without_a_seed_continue_the_sequence_of_the_last_seed() -> None:
    def starts() -> list[object]:
        env = TwoSwitchEnv()
        env.reset(seed=4)
        return [env.reset()[0]["green"].tolist() for _ in range(3)]

    assert starts() == starts()
    assert len({str(start) for start in starts()}) == 3


def test_misuse_is_told() -> None:
    env = TwoSwitchEnv()
    with pytest.raises(ValueError, match="call reset"):
        env.step({"green": 0, "orange": 0})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="orange"):
        env.step({"green": 0})
    with pytest.raises(ValueError, match="n_max"):
        TwoSwitchEnv(n_max=0)


def test_state_is_both_views() -> None:
    env = TwoSwitchEnv()
    observations, _ = env.reset(seed=0)
    np.testing.assert_array_equal(env.state(), np.concatenate(list(observations.values())))
