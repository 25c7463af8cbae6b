"""How well a team can play at best: exact joint optima of the grids by dynamic programming, and what the hand-written
controllers reach."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from cosignal.rl.envs.adapter import Task
from cosignal.rl.envs.grid.map import Cell, GridMap, Rules, Tables
from cosignal.rl.envs.pistonball import PistonballTask
from cosignal.rl.envs.two_switch import map as two_switch_map
from cosignal.rl.envs.two_switch.env import TwoSwitchTask
from cosignal.rl.envs.victim_rubble import map as victim_rubble_map
from cosignal.rl.envs.victim_rubble.env import VictimRubbleTask
from numpy.typing import NDArray

SOLVED_WITHIN = 60  # sweeps


class JointGame:
    """Both agents' poses and what is handled, as one state; they act in a random order, as in the game.

    `value` [F, P, P]: fewest expected steps to the end, by value iteration from 0 upwards, which is exact once a sweep
    changes nothing.
    """

    def __init__(self, grid: GridMap, tables: Tables, rules: Rules, poses: list[tuple[int, int, int]]) -> None:
        numbers = np.array([grid.number(*pose) for pose in poses])
        index = np.full(grid.n_poses, -1)
        index[numbers] = np.arange(len(poses))
        self.index = {pose: i for i, pose in enumerate(poses)}
        self.next_pose = index[tables.next_pose[:, numbers]]  # [F, P, 5]
        n_flags = len(self.next_pose)
        flags = np.arange(n_flags)[:, None, None]
        self.next_flags = [flags | tables.trigger[i][numbers][None] for i in (0, 1)]  # [F, P, 5]
        ended = np.zeros((n_flags, len(poses), len(poses)), bool)
        if rules.all_flags >= 0:
            ended[rules.all_flags] = True
        home = numbers // 4 == rules.goal_cell
        self.running = ~(ended | home[:, None] | home[None, :])
        self.value = self._solved()

    def _after(self, first: int, a: int, b: int) -> tuple[NDArray[np.int64], ...]:
        """Flags and both poses, all [F, P, P], after actions a and b where agent `first` acts first."""
        shape = self.running.shape
        flags, p0, p1 = np.ogrid[: shape[0], : shape[1], : shape[2]]
        mine, mates, act, mate_act = (p0, p1, a, b) if first == 0 else (p1, p0, b, a)
        pose = self.next_pose[flags, mine, act]
        flags = self.next_flags[first][flags, mine, act]
        mate_pose = self.next_pose[flags, mates, mate_act]
        flags = self.next_flags[1 - first][flags, mates, mate_act]
        found = (flags, pose, mate_pose) if first == 0 else (flags, mate_pose, pose)
        return tuple(np.broadcast_to(x, shape) for x in found)

    def _solved(self) -> NDArray[np.float64]:
        shape = self.running.shape
        moves = {
            (a, b): [
                np.ravel_multi_index(self._after(first, a, b), shape)[self.running].astype(np.int32) for first in (0, 1)
            ]
            for a in range(5)
            for b in range(5)
        }
        value = np.zeros(shape)
        for _ in range(SOLVED_WITHIN):
            flat = value.ravel()
            best = np.min([(flat[one] + flat[other]) / 2 for one, other in moves.values()], axis=0)
            if np.array_equal(value[self.running], 1 + best):
                return value
            value[self.running] = 1 + best
        raise AssertionError(f"no fixed point in {SOLVED_WITHIN} sweeps")

    def from_starts(self, cells: tuple[Cell, ...]) -> NDArray[np.float64]:
        """Of every pair of different cells with every pair of headings."""
        at = {cell: [self.index[(*cell, heading)] for heading in range(4)] for cell in cells}
        return np.stack([self.value[0][np.ix_(at[one], at[other])] for one, other in permutations(cells, 2)])


def test_the_joint_optimum_of_two_switch() -> None:
    game = JointGame(
        two_switch_map.MAP, two_switch_map.kernel_tables(), two_switch_map.RULES, two_switch_map.standing_poses()
    )
    steps = game.from_starts(two_switch_map.START_CELLS)
    assert (round(steps.mean(), 1), steps.min(), steps.max()) == (16.6, 14, 20)


def test_the_joint_optimum_of_victim_rubble() -> None:
    game = JointGame(
        victim_rubble_map.MAP, victim_rubble_map.kernel_tables(), victim_rubble_map.RULES,
        victim_rubble_map.standing_poses(),
    )  # fmt: skip
    steps = game.from_starts(victim_rubble_map.START_CELLS)
    assert (round(steps.mean(), 1), steps.min(), steps.max()) == (28.0, 24, 31)


def greedy(task: Task, seed: int) -> tuple[int, float, bool]:
    """Steps, sum of one agent's rewards, success of an episode that the task's heuristic plays."""
    env, judge = task.env, task.heuristic
    assert judge is not None
    env.reset(seed)
    steps, total, won = 0, 0.0, False
    while env.agents:
        state = judge.state(env)
        _, rewards, terminated, _, _ = env.step({agent: judge.act(agent, state) for agent in env.agents})
        steps, total = steps + 1, total + next(iter(rewards.values()))
        won = any(terminated.values())
    return steps, total, won


@pytest.mark.parametrize(("kind", "optimum"), [(TwoSwitchTask, 16.6), (VictimRubbleTask, 28.0)])
def test_a_greedy_team_is_close_to_the_joint_optimum(kind: type[Task], optimum: float) -> None:
    played = [greedy(kind(), seed) for seed in range(200)]
    assert all(won for _, _, won in played)
    assert np.mean([steps for steps, _, _ in played]) == pytest.approx(optimum, abs=0.35)


def test_greedy_pistons_reach_the_top_of_the_published_axis() -> None:
    played = [greedy(PistonballTask(), seed) for seed in range(100)]
    assert np.mean([won for _, _, won in played]) >= 0.97
    assert -0.6 < np.mean([total for _, total, _ in played]) < 0.2
    assert np.mean([steps for steps, _, _ in played]) < 16
