"""Pistonball in a few numbers: its formula, its return, and a controller that solves it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from cosignal.rl.envs.pistonball import PistonballEnv, PistonballTask

DOWN, STAY, UP = range(3)
Controller = Callable[[PistonballEnv, str], int]


def ramp(env: PistonballEnv, agent: str) -> int:
    """Right of the ball up, left of it down."""
    offset = env.centre(agent) - env.ball[0]
    return UP if offset > 20 else DOWN if offset < -20 else STAY


def play(env: PistonballEnv, seed: int, controller: Controller) -> tuple[float, int]:
    """(return, steps) of the team."""
    env.reset(seed=seed)
    total, steps = 0.0, 0
    while env.agents:
        rewards = env.step({agent: controller(env, agent) for agent in env.agents})[1]
        total, steps = total + sum(rewards.values()), steps + 1
    return total, steps


def test_the_observation_is_the_formula() -> None:
    env, rng = PistonballEnv(), np.random.default_rng(0)
    observations, _ = env.reset(seed=3)
    for _ in range(12):
        ball = env.table.ball
        (bx, by), (vx, vy) = ball.position, ball.velocity
        heights = [(491 - piston.position[1]) / 64 for piston in env.table.pistonList]
        for i in range(5):
            expected = [
                (bx - (60 + 40 * i)) / 100, (bx - 80) / 100, (by - 400) / 50, vx / 300, vy / 300,
                ball.angular_velocity / 20, heights[i], *heights, *(float(j == i) for j in range(5)),
            ]  # fmt: skip
            observed = observations[f"piston_{i}"]
            assert (observed.shape, observed.dtype) == ((17,), np.float32)
            np.testing.assert_array_equal(observed, np.array(expected, np.float32))
        observations, *_ = env.step({agent: int(rng.integers(3)) for agent in env.agents})
    np.testing.assert_array_equal(env.state(), [*observations["piston_0"][1:6], *observations["piston_0"][7:12]])


def test_a_picture_shows_ball_pistons_and_the_step_before() -> None:
    """Cells of 8 × 8 pixels: rows from y 363 to the floor at 491, columns from x 40, five a piston."""
    env = PistonballEnv(pixels=True)
    before, _ = env.reset(seed=3)
    for _ in range(60):
        seen, *_ = env.step({agent: UP if agent == "piston_1" else DOWN for agent in env.agents})
        if not env.agents:
            break
        for i, agent in enumerate(env.possible_agents):
            image = seen[agent]
            assert (image.shape, image.dtype) == ((16, 25, 3), np.uint8)
            assert env.observation_space(agent).contains(image)
            assert np.array_equal(image[..., 1], before[agent][..., 0])
            assert np.flatnonzero(image[0, :, 2]).tolist() == list(range(5 * i, 5 * i + 5))
            now = image[..., 0]
            for row, column in ((0, 0), (9, 7), (15, 7), (15, 24)):
                x, y = 40 + 8 * (column + 0.5), 363 + 8 * (row + 0.5)
                expected = 128 if y > 491 - env.heights[column // 5] else 0
                if (x - env.ball[0]) ** 2 + (y - env.ball[1]) ** 2 < 40**2:
                    expected = 255
                assert now[row, column] == expected
        before = seen
    assert (now == 255).any() and (now == 128).any()
    first, _ = env.reset(seed=4)
    assert np.array_equal(first["piston_0"][..., 0], first["piston_0"][..., 1])


def test_the_return_of_a_rollout_is_counted_once_for_the_team() -> None:
    total, steps = play(PistonballEnv(), 0, ramp)
    assert 3 < steps < 125
    assert total == pytest.approx(1 - 0.1 * steps)
    total, steps = play(PistonballEnv(n_max=2), 0, lambda env, agent: STAY)
    assert (steps, total) == (2, pytest.approx(-0.2))


def test_a_ramp_solves_it_and_chance_does_not() -> None:
    env, rng = PistonballEnv(), np.random.default_rng(0)
    skilled = [play(env, seed, ramp) for seed in range(60)]
    by_chance = [play(env, seed, lambda env, agent: int(rng.integers(3)))[0] for seed in range(60)]
    assert np.mean([total for total, _ in skilled]) > -1
    assert np.mean([steps < 125 for _, steps in skilled]) > 0.9
    assert -11 < np.mean(by_chance) < -7


def test_what_happens_at_the_wall_and_at_the_limit() -> None:
    env = PistonballEnv()
    env.reset(seed=0)
    while env.agents:
        *_, terminated, truncated, _ = env.step({agent: ramp(env, agent) for agent in env.agents})
    assert env.solved and all(terminated.values()) and not any(truncated.values())
    assert env.ball[0] < 95

    task = PettingZooTask(PistonballTask, 1)
    task.reset(1)
    for t in range(1, 126):
        step = task.step([np.full((1, 5), DOWN)])
        assert (bool(step.terminated[0]), bool(step.truncated[0])) == (False, t == 125)


def test_heights_events_and_features() -> None:
    task = PistonballTask()
    env = task.env
    env.reset(seed=4)
    before = list(env.heights)
    assert all(height in range(0, 32, 4) for height in before)
    *_, infos = env.step({agent: UP if agent == "piston_0" else DOWN for agent in env.agents})
    assert env.heights == [before[0] + 4] + [max(0, height - 4) for height in before[1:]]
    assert infos["piston_0"]["events"] == {"moved_up": 1, "moved_down": 0}
    for i in range(1, 5):
        assert infos[f"piston_{i}"]["events"] == {"moved_up": 0, "moved_down": int(before[i] > 0)}
    found, x = task.features("piston_3", {}), env.ball[0]
    assert 80 <= x <= 200
    assert found["ball_offset"] == pytest.approx(x - 180)
    assert (found["dist_ball"], found["dist_wall"]) == (pytest.approx(abs(x - 180)), pytest.approx(x - 80))
    assert (found["height"], found["mean_height"]) == (env.heights[3], np.mean(env.heights))
    assert task.describe().startswith(f"ball at ({x:.0f},")


def test_it_is_upstreams_physics() -> None:
    """Drawing nothing changes nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from pettingzoo.butterfly import pistonball_v6
    upstream, env = pistonball_v6.parallel_env(n_pistons=5, continuous=False), PistonballEnv()
    rng = np.random.default_rng(0)
    upstream.reset(seed=9), env.reset(seed=9)
    while env.agents:
        actions = {agent: int(rng.integers(3)) for agent in env.agents}
        env.step(actions), upstream.step(actions)
        assert tuple(upstream.unwrapped.ball.position) == env.ball[:2]
    assert not upstream.agents


@pytest.mark.parametrize("module", ["pistonball:PistonballTask", "mpe:SpreadTask", "mpe:SpeakerListenerTask"])
def test_nothing_is_printed_and_no_window_opens(module: str) -> None:
    name, _, task = module.partition(":")
    code = (
        f"from cosignal.rl.envs.{name} import {task}; task = {task}(); task.env.reset(seed=0);"
        "import pygame; assert not pygame.display.get_init()"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYGAME_HIDE_SUPPORT_PROMPT"}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
