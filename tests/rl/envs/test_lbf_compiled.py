"""The compiled batch of level-based foraging beside the original, driven from the same states by the same actions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cosignal.errors import SnapshotError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task, plain_task_factory, task_spec
from cosignal.rl.envs.lbf.batch import BatchedForaging, ForagingTask
from cosignal.rl.envs.lbf.original import OriginalForagingTask
from cosignal.rl.envs.lbf.spec import EVENTS, ForagingSettings
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from cosignal.rl.envs.registry import ShippedName
from cosignal.rl.task import IntArray, Step
from pettingzoo_tests import parallel_api_test, parallel_seed_test

NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)
SETTINGS = [
    {},
    {"sight": 2},
    {"size": 10, "players": 3, "foods": 3, "coop": False},
    {"size": 10, "players": 3, "foods": 3, "sight": 2, "penalty": 0.1},
    {"size": 15, "players": 3, "foods": 5, "coop": False},
    {"size": 15, "players": 4, "foods": 3},
    {"size": 5, "players": 6, "foods": 2, "sight": 1, "coop": False, "max_food_level": 1},
    {"size": 6, "players": 5, "foods": 4, "coop": False, "penalty": 0.25, "n_max": 30},
    {"players": 3, "foods": 3, "sight": 3, "agent_ids": True},
    {"players": 3, "foods": 3, "grid_observation": True},
    {"size": 7, "players": 5, "foods": 3, "coop": False, "sight": 2, "grid_observation": True},
]
by_settings = pytest.mark.parametrize("settings", SETTINGS, ids=lambda x: "-".join(map(str, x.values())) or "default")


def put(original: OriginalForagingTask, batch: BatchedForaging) -> None:
    """Put the state of the batch's first environment into the original."""
    original.env.reset(seed=0)
    inner = original.env.inner
    for player, (row, column, level) in zip(inner.players, batch.players[0].tolist(), strict=True):
        player.position, player.level = (row, column), level
    inner.field[:] = 0
    for row, column, level in batch.foods[0].tolist():
        inner.field[row, column] = max(level, inner.field[row, column])
    inner._food_spawned = inner.field.sum()
    inner._gen_valid_moves()


def sensible(batch: BatchedForaging, rng: np.random.Generator) -> IntArray:
    """What a team does that walks to the first item and loads there, with a random action now and then."""
    left = [food for food in batch.foods[0].tolist() if food[2]]
    actions = rng.integers(0, 6, batch.settings.players)
    for i, (row, column, _) in enumerate(batch.players[0].tolist()):
        down, right = left[0][0] - row, left[0][1] - column
        if rng.random() < 0.2:
            continue
        if abs(down) + abs(right) == 1:
            actions[i] = LOAD
        elif abs(down) > abs(right):
            actions[i] = SOUTH if down > 0 else NORTH
        else:
            actions[i] = EAST if right > 0 else WEST
    return actions


def assert_same(batch: BatchedForaging, original: OriginalForagingTask, step: Step, moved: tuple[Any, ...]) -> None:
    """Everything that both say of the state after a step, and of the step."""
    observations, rewards, terminated, truncated, infos = moved
    np.testing.assert_array_equal(step.last_obs[0][0], [x.ravel() for x in observations.values()])
    assert batch.shares[0].tolist() == list(rewards.values())
    assert step.reward[0] == np.float32(sum(rewards.values()))
    assert [bool(step.terminated[0]), bool(step.truncated[0])] == [terminated["agent_0"], truncated["agent_0"]]
    assert bool(step.success[0]) == (terminated["agent_0"] and original.success(infos))
    counts = [[infos[agent]["events"][event.name] for event in EVENTS] for agent in infos]
    np.testing.assert_array_equal(step.events[0][0], counts)
    features = [[original.features(agent, {})[spec.name] for spec in original.feature_specs(agent)] for agent in infos]
    np.testing.assert_array_equal(step.last_features[0][0], features)
    assert batch.describe() == original.describe()
    if batch.numbers[0, 2] % 10 == 1:
        assert batch.picture() == original.render_text()


@pytest.mark.parametrize("plays", ["at random", "sensibly"])
@pytest.mark.parametrize("episodes", [10, pytest.param(250, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
@by_settings
def test_every_step_is_the_originals(settings: dict[str, Any], episodes: int, plays: str) -> None:
    batch = BatchedForaging(1, ForagingSettings(**settings), auto_reset=False)
    original, rng = OriginalForagingTask(**settings), np.random.default_rng(1)
    ends, happened = set[str](), np.zeros(len(EVENTS))
    for seed in range(episodes):
        batch.start(seed)
        put(original, batch)
        while True:
            actions = sensible(batch, rng) if plays == "sensibly" else rng.integers(0, 6, batch.settings.players)
            step = batch.step([actions[None]])
            moved = original.env.step(dict(zip(original.env.possible_agents, actions.tolist(), strict=True)))
            assert_same(batch, original, step, moved)
            happened += step.events[0][0].sum(0)
            if batch.ended.any():
                ends.add("success" if batch.ended[2, 0] else "limit")
                break
    if plays == "at random":
        assert "limit" in ends or settings.get("max_food_level") == 1
    else:
        assert happened[0], "nothing was loaded"


def resets(settings: dict[str, Any], number: int) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
    batch = BatchedForaging(1, ForagingSettings(**settings), auto_reset=False)
    for seed in range(number):
        batch.start(seed)
        yield batch.players[0].tolist(), [food for food in batch.foods[0].tolist() if food[2]]


@by_settings
def test_episodes_start_as_upstreams_do(settings: dict[str, Any]) -> None:
    """Where agents and items may be is upstream's rule; how often each is there is compared as a whole."""
    original, number = OriginalForagingTask(**settings), 400
    theirs = []
    for seed in range(number):
        original.env.reset(seed=seed)
        inner = original.env.inner
        rows, columns = inner.field.nonzero()
        food = [[r, c, inner.field[r, c]] for r, c in zip(rows.tolist(), columns.tolist(), strict=True)]
        theirs.append(([[*p.position, p.level] for p in inner.players], food))
    ours = list(resets(settings, number))
    size, agents = original.chosen.size, original.chosen.players
    for players, food in ours:
        cells = [tuple(x[:2]) for x in players + food]
        assert len(set(cells)) == len(cells)
        assert all(1 <= r < size - 1 and 1 <= c < size - 1 for r, c, _ in food)
        for k, (r, c, _) in enumerate(food):
            for other_r, other_c, _ in food[:k]:
                apart = sorted((abs(r - other_r), abs(c - other_c)))
                assert apart[1] > 1 and apart not in ([0, 1], [0, 2])
    # means of row, level and number over 400 episodes, to within six standard errors of either
    for of in (
        lambda x: np.mean([p[0] for p in x[0]]),
        lambda x: np.mean([p[2] for p in x[0]]),
        lambda x: len(x[1]),
        lambda x: np.mean([f[1] for f in x[1]]) if x[1] else 0.0,
        lambda x: np.mean([f[2] for f in x[1]]) if x[1] else 0.0,
    ):
        one, other = np.array([of(x) for x in ours]), np.array([of(x) for x in theirs])
        error = np.sqrt((one.var() + other.var()) / number) + 1e-9
        assert abs(one.mean() - other.mean()) < 6 * error, (one.mean(), other.mean(), agents)


def test_the_spec_is_the_originals() -> None:
    for settings in SETTINGS:
        limit = {"n_max": settings["n_max"]} if "n_max" in settings else {}
        others = {name: value for name, value in settings.items() if name != "n_max"}
        ours, theirs = (task_spec(TaskConfig(name=name, env_args=others, **limit)) for name in ("lbf", "lbf_original"))
        assert ours == theirs.model_copy(update={"name": "lbf"})


def test_loaders_of_several_items_are_asked_in_their_order() -> None:
    """The agent in the middle stands beside both items and helps the first agent, who is asked first."""
    batch = BatchedForaging(1, ForagingSettings(players=3, coop=False), auto_reset=False)
    batch.players[0] = [[2, 1, 1], [3, 2, 1], [4, 3, 2]]
    batch.foods[0] = [[2, 2, 2], [4, 2, 3]]
    batch.numbers[0, :2] = 5, 2
    step = batch.step([np.array([[LOAD, LOAD, LOAD]])])
    assert batch.shares[0].tolist() == [2 / (2 * 5), 2 / (2 * 5), 0.0]
    assert step.events[0][0].tolist() == [[1, 0], [1, 0], [0, 1]]
    assert batch.describe().endswith("food: level 3 at (2,4)")


def test_one_environment_of_it_keeps_pettingzoos_promises() -> None:
    parallel_api_test(ForagingTask(n_max=12).env)
    parallel_seed_test(lambda: ForagingTask(n_max=12).env)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 4}, "size must be at least 5, got 4"),
        ({"foods": 0}, "foods must be at least 1, got 0"),
        ({"sight": 0}, "sight must be at least 1, got 0"),
        ({"max_food_level": 0}, "max_food_level must be at least 1, got 0"),
        ({"penalty": -0.1}, "penalty must be a number of at least 0, got -0.1"),
        ({"penalty": float("nan")}, "penalty must be a number of at least 0, got nan"),
        ({"foods": 2.5}, "foods must be a whole number of at least 1, got 2.5"),
        ({"sight": 2.5}, "sight must be a whole number of at least 1, got 2.5"),
        ({"coop": 2}, "coop must be true or false, got 2"),
        ({"grid_observation": "yes"}, "grid_observation must be true or false, got 'yes'"),
        ({"grid_observation": True, "agent_ids": True}, "agent_ids must be false with grid_observation"),
        ({"size": 5, "players": 25}, "players must be fewer than cells, got 25"),
    ],
)
def test_settings_that_make_no_field_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForagingSettings(**settings)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("lbf", {"players": 3, "sight": 2}),
        ("lbf", {"players": 3, "sight": 3, "grid_observation": True}),
        ("lbf", {"players": 3, "agent_ids": True}),
        ("rware", {"agents": 3}),
        ("rware", {"agents": 3, "observation_type": "image"}),
    ],
)
def test_one_environment_of_it_plays_the_batchs_episodes(name: ShippedName, arguments: dict[str, Any]) -> None:
    """What exports and preference collection build, through the wrapper for anybody's environment."""
    config = TaskConfig(name=name, env_args=arguments, n_max=9)
    batch, rng = make_task(config, 2), np.random.default_rng(0)
    plain = PettingZooTask(plain_task_factory(config), 2, config.team_is_paid, None, agent_ids=config.adds_agent_ids)
    assert plain.spec == batch.spec
    one, other = batch.reset(5), plain.reset(5)
    for _ in range(40):
        for field in ("obs", "features", "last_obs", "last_features", "events"):
            np.testing.assert_array_equal(getattr(one, field)[0], getattr(other, field)[0], field)
        for field in ("reward", "terminated", "truncated", "success"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field), field)
        actions = [rng.integers(0, group.n_actions, (2, len(group.agents))) for group in batch.spec.groups]
        one, other = batch.step(actions), plain.step(actions)
    joint = [np.zeros((4, 3), np.int64)]
    assert batch.episode_text(77, joint, [0, 4]) == plain.episode_text(77, joint, [0, 4])
    plain.close()


def test_a_snapshot_of_another_version_is_refused_with_a_remedy() -> None:
    batch = BatchedForaging(2, ForagingSettings())
    with pytest.raises(
        SnapshotError, match=r"needs 'players' as int64 \(2, 2, 3\), got only \['actions'\]; .* compiled"
    ):
        batch.load_state_dict({"actions": np.zeros(3)})
