"""Level-based foraging: hand-made fields, the time limit, and upstream's own environment beside it."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task
from cosignal.rl.envs.lbf.original import OriginalForagingTask as ForagingTask
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask

NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)
Cell = tuple[int, int]  # row, column


def arranged(task: ForagingTask, players: list[tuple[Cell, int]], food: dict[Cell, int]) -> ForagingTask:
    """`players` as (cell, level), and food by cell, in place of what a reset drew."""
    task.env.reset(seed=0)
    inner = task.env.inner
    for player, (cell, level) in zip(inner.players, players, strict=True):
        player.position, player.level = cell, level
    inner.field[:] = 0
    for cell, level in food.items():
        inner.field[cell] = level
    inner._food_spawned = inner.field.sum()
    inner._gen_valid_moves()
    return task


def act(
    task: ForagingTask, *choices: int
) -> tuple[dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict]]:
    _, *rest = task.env.step(dict(zip(task.env.possible_agents, choices, strict=True)))
    return tuple(rest)


def test_loading_together_pays_by_level_and_the_last_item_ends_the_episode() -> None:
    task = arranged(ForagingTask(), [((2, 1), 1), ((2, 3), 2)], {(2, 2): 3, (5, 5): 1})
    rewards, terminated, truncated, infos = act(task, LOAD, NONE)
    assert (rewards["agent_0"], infos["agent_0"]["events"]) == (0.0, {"food_loaded": 0, "load_failed": 1})
    rewards, terminated, truncated, infos = act(task, LOAD, LOAD)
    assert rewards == pytest.approx({"agent_0": 3 / 4 / 3, "agent_1": 3 / 4 * 2 / 3})
    assert [info["events"] for info in infos.values()] == [{"food_loaded": 1, "load_failed": 0}] * 2
    assert not any(terminated.values()) and not task.success({})
    task.env.inner.players[1].position = (5, 6)
    task.env.inner._gen_valid_moves()
    rewards, terminated, truncated, _ = act(task, NONE, LOAD)
    assert sum(rewards.values()) == pytest.approx(1 / 4)
    assert all(terminated.values()) and not any(truncated.values()) and task.success({})
    assert task.describe().endswith("food: none left")


def test_features_of_a_hand_made_field() -> None:
    task = arranged(ForagingTask(), [((0, 0), 1), ((2, 3), 2)], {(2, 2): 3, (6, 6): 1})
    assert task.features("agent_0", {}) == {
        "x": 0, "y": 0, "level": 1, "food_left": 2, "dist_nearest_mate": 5, "dist_nearest_food": 3,
        "nearest_food_level": 3, "levels_at_nearest_food": 2,
    }  # fmt: skip
    assert task.features("agent_1", {})["dist_nearest_food"] == 0
    assert task.describe() == (
        "agent_0 (level 1) at (0,0), agent_1 (level 2) at (3,2); food: level 3 at (2,2), level 1 at (6,6)"
    )


def test_the_words_of_the_rules_are_upstreams() -> None:
    """North is a smaller y, food blocks, two cannot enter one cell, and what is impossible does nothing."""
    task = arranged(ForagingTask(), [((2, 1), 1), ((4, 3), 1)], {(2, 2): 2})
    act(task, EAST, LOAD)
    act(task, NORTH, NORTH)
    assert [player.position for player in task.env.inner.players] == [(1, 1), (3, 3)]
    act(task, EAST, WEST)
    act(task, EAST, NORTH)
    assert [player.position for player in task.env.inner.players] == [(1, 3), (3, 2)]


def test_of_three_agents_two_can_share_a_cell() -> None:
    """The reason for the lower bound 0 of dist_nearest_mate."""
    task = ForagingTask(players=3)
    arranged(task, [((0, 0), 1), ((0, 2), 1), ((1, 0), 1)], {(6, 6): 1})
    act(task, EAST, WEST, NORTH)  # the first two want (0, 1) and are held up; the third enters a cell that is not empty
    assert task.features("agent_0", {})["dist_nearest_mate"] == 0
    assert [feature.low for feature in task.feature_specs("agent_0") if feature.name == "dist_nearest_mate"] == [0]


def test_the_time_limit_is_truncation() -> None:
    task = PettingZooTask(ForagingTask, 1)
    nothing = [np.zeros((1, 2), np.int64)]
    for t in range(1, 51):
        step = task.step(nothing)
        assert (bool(step.terminated[0]), bool(step.truncated[0])) == (False, t == 50)
    assert not step.success[0]


def test_success_in_the_last_step_is_termination() -> None:
    task = arranged(ForagingTask(n_max=1), [((2, 1), 1), ((2, 3), 2)], {(2, 2): 3})
    _, terminated, truncated, _ = act(task, LOAD, LOAD)
    assert all(terminated.values()) and not any(truncated.values())


def test_five_foods() -> None:
    """More than upstream registers."""
    config = TaskConfig.model_validate({"name": "lbf", "env_args": {"size": 15, "players": 4, "foods": 5}})
    spec = make_task(config, 1).spec
    assert (len(spec.agents), spec.groups[0].obs_size) == (4, 3 * 5 + 3 * 4)
    assert "5 food items" in spec.description
    task = ForagingTask(size=15, players=4, foods=5)
    task.env.reset(seed=1)
    assert task.features("agent_0", {})["food_left"] == 5


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Foraging-8x8-2p-2f-coop-v3", {}),
        ("Foraging-2s-8x8-2p-2f-coop-v3", {"sight": 2}),
        ("Foraging-10x10-3p-3f-v3", {"size": 10, "players": 3, "foods": 3, "coop": False}),
    ],
)
def test_it_is_the_registered_environment(name: str, arguments: dict[str, int]) -> None:
    import lbforaging  # noqa: F401 registers

    upstream, task = gymnasium.make(name, disable_env_checker=True).unwrapped, ForagingTask(**arguments)
    for seed in range(5):
        for player in upstream.players:
            player.position = None
        theirs, (ours, _) = upstream.reset(seed=seed)[0], task.env.reset(seed=seed)
        rng = np.random.default_rng(seed)
        for _ in range(50):
            np.testing.assert_array_equal(theirs, list(ours.values()))
            choices = rng.integers(0, 6, len(theirs)).tolist()
            theirs, rewards, ended, cut, _ = upstream.step(choices)
            ours, mine, terminated, truncated, _ = task.env.step(dict(zip(ours, choices, strict=True)))
            assert list(mine.values()) == rewards
            assert (ended, cut) == (terminated["agent_0"] or truncated["agent_0"], False)
            if ended:
                break
        assert ended


def test_an_episode_does_not_depend_on_the_one_before_it() -> None:
    """Upstream keeps new agents off the cells where it left the old ones."""
    used = ForagingTask(size=5, players=4, foods=1)
    for seed in range(20):
        fresh, _ = ForagingTask(size=5, players=4, foods=1).env.reset(seed=seed)
        used.env.reset(seed=1000 + seed)
        again, _ = used.env.reset(seed=seed)
        np.testing.assert_array_equal(list(fresh.values()), list(again.values()))


def test_what_is_too_small_is_told() -> None:
    with pytest.raises(ValueError, match="foods must be at least 1, got 0; raise it"):
        ForagingTask(foods=0)
    with pytest.raises(ValueError, match="sight must be at least 1"):
        ForagingTask(sight=0)
    with pytest.raises(ValueError, match="step needs a running episode"):
        ForagingTask().env.step({})
