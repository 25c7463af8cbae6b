"""What holds for every shipped task, built as a run builds it."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task, task_spec
from cosignal.rl.envs.load_env import task_factory
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from cosignal.rl.envs.registry import EXTRAS, ShippedName
from cosignal.rl.task import ActionArray, BatchedTask, Step, TaskSpec, episode_seed
from pettingzoo_tests import parallel_api_test, parallel_seed_test

NAMES = get_args(ShippedName)
LIMIT = 9
OTHER_ARGUMENTS = [
    ("lbf", {"size": 7, "players": 4, "foods": 1, "sight": 2, "coop": False}),
    ("lbf", {"size": 15, "players": 3, "foods": 5}),
    ("lbf_original", {"size": 7, "players": 4, "foods": 1, "sight": 2, "coop": False, "penalty": 0.1}),
    ("rware", {"size": "small", "agents": 3, "difficulty": "easy"}),
    ("rware_original", {"size": "small", "agents": 3, "difficulty": "easy"}),
    ("mpe_spread", {"agents": 2}),
    ("pistonball", {"pistons": 3}),
]
CONFIGS = [TaskConfig.model_validate({"name": name, "n_max": LIMIT}) for name in NAMES] + [
    TaskConfig.model_validate({"name": name, "n_max": LIMIT, "env_args": args}) for name, args in OTHER_ARGUMENTS
]
every_task = pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda c: "-".join([c.name, *map(str, c.env_args.values())])
)


def random_actions(spec: TaskSpec, rng: np.random.Generator, envs: int) -> list[ActionArray]:
    return [rng.integers(0, group.n_actions, (envs, len(group.agents))) for group in spec.groups]


def copied(step: Step) -> dict[str, list[bytes]]:
    arrays = {name: value if isinstance(value, list) else [value] for name, value in vars(step).items()}
    return {name: [array.tobytes() for array in value if array is not None] for name, value in arrays.items()}


def assert_inside(step: Step, spec: TaskSpec) -> None:
    for g, group in enumerate(spec.groups):
        for k, feature in enumerate(group.features):
            for view in (step.features, step.last_features):
                low, high = float(view[g][..., k].min()), float(view[g][..., k].max())
                assert low >= feature.low - 1e-5, (feature.name, low)
                assert high <= feature.high + 1e-5, (feature.name, high)


def assert_shapes(step: Step, task: BatchedTask) -> None:
    e = task.num_envs
    for g, group in enumerate(task.spec.groups):
        agents = len(group.agents)
        sizes = (group.obs_size, len(group.features), group.obs_size, len(group.features), len(group.events))
        views = (step.obs, step.features, step.last_obs, step.last_features, step.events)
        for view, size in zip(views, sizes, strict=True):
            assert view[g].shape == (e, agents, size)
            assert view[g].dtype == np.float32
            assert np.isfinite(view[g]).all()
        for masks in (step.masks, step.last_masks):
            assert masks is None or (masks[g].shape == (e, agents, group.n_actions) and masks[g].any(-1).all())
    assert (step.reward.shape, step.reward.dtype) == ((e,), np.float32)
    for flags in (step.terminated, step.truncated, step.success):
        assert (flags.shape, flags.dtype) == ((e,), np.bool_)


@every_task
def test_the_spec_says_what_models_need(config: TaskConfig) -> None:
    spec = task_spec(config)
    assert spec == make_task(config, 1).spec
    assert TaskSpec.model_validate(json.loads(spec.model_dump_json())) == spec
    assert (spec.name, spec.max_steps, spec.deterministic) == (config.name, LIMIT, True)
    assert f"time limit of {LIMIT} steps" in spec.description
    for group in spec.groups:
        assert len(group.feature_names()) == len(set(group.feature_names())) > 0
        assert all(item.description for item in (*group.features, *group.events))
        assert all(feature.low < feature.high for feature in group.features)
        assert all(name in spec.description for name in group.action_names)


@every_task
def test_random_play(config: TaskConfig) -> None:
    """Shapes, bounds, time limit, and episodes that can be named."""
    task, rng = make_task(config, 2), np.random.default_rng(0)
    first = task.reset(5)
    assert_shapes(first, task)
    returns, lengths, over = np.zeros(2), np.zeros(2, dtype=int), 0
    assert_inside(first, task.spec)
    for _ in range(60):
        step = task.step(random_actions(task.spec, rng, 2))
        assert_shapes(step, task)
        assert_inside(step, task.spec)
        returns, lengths = returns + step.reward, lengths + 1
        ended = step.terminated | step.truncated
        assert not (step.terminated & step.truncated).any()
        assert (step.truncated <= (lengths == LIMIT)).all()
        assert (lengths <= LIMIT).all()
        assert (step.success <= step.terminated).all()
        for e in np.flatnonzero(ended):
            if task.spec.return_range is not None:
                low, high = task.spec.return_range
                assert low - 1e-5 <= returns[e] <= high + 1e-5
            over += 1
        returns[ended], lengths[ended] = 0, 0
    assert over >= 12
    task.close()


@every_task
def test_an_episode_is_named_by_its_seed(config: TaskConfig) -> None:
    task, rng = make_task(config, 2), np.random.default_rng(1)
    task.reset(7)
    actions = [random_actions(task.spec, rng, 2) for _ in range(LIMIT)]
    steps = [copied(task.step(action)) for action in actions]
    task.reset(7)
    assert [copied(task.step(action)) for action in actions] == steps
    task.reset(8)
    assert [copied(task.step(action)) for action in actions] != steps
    # environment 1's first episode as text: one line a step, to its end or as far as the actions go
    seed = episode_seed(7, 1, 0)
    joint = [np.array([row[g][1] for row in actions]) for g in range(len(task.spec.groups))]
    lines = task.episode_text(seed, joint).lines
    assert 0 < len(lines) <= LIMIT
    assert lines == task.episode_text(seed, joint).lines
    assert all(" -> " in line and "\n" not in line for line in lines)
    assert lines[-1].endswith(("success", "terminated", "time limit"))
    task.close()


@every_task
def test_a_restored_task_continues_bit_for_bit(config: TaskConfig) -> None:
    one, other, rng = make_task(config, 2), make_task(config, 2), np.random.default_rng(2)
    one.reset(3)
    for _ in range(LIMIT + 4):
        one.step(random_actions(one.spec, rng, 2))
    other.load_state_dict(one.state_dict())
    assert copied(other.observe()) == copied(one.observe())
    for _ in range(2 * LIMIT):
        actions = random_actions(one.spec, rng, 2)
        assert copied(one.step(actions)) == copied(other.step(actions))
    one.close(), other.close()


@pytest.mark.parametrize("name", EXTRAS)
def test_the_environment_passes_pettingzoos_own_tests(name: ShippedName, capsys: pytest.CaptureFixture[str]) -> None:
    build = task_factory(TaskConfig(name=name))
    parallel_api_test(build().env, num_cycles=60)
    parallel_seed_test(lambda: build().env, num_cycles=20)
    assert "Passed" in capsys.readouterr().out


@pytest.mark.parametrize("name", EXTRAS)
def test_the_shares_of_the_agents_are_summed_whatever_team_reward_says(name: ShippedName) -> None:
    one, other = (make_task(TaskConfig(name=name, n_max=3, team_reward=how), 1) for how in ("sum", "mean"))
    assert isinstance(one, PettingZooTask) and isinstance(other, PettingZooTask)
    actions = [np.zeros((1, len(group.agents)), np.int64) for group in one.spec.groups]
    assert [one.step(actions).reward[0] for _ in range(3)] == [other.step(actions).reward[0] for _ in range(3)]


def test_where_a_value_may_also_be_that_of_being_there_nothing_is_said_of_being_done() -> None:
    """The grid tasks are looked at in grid/test_done.py. Food or a shelf is at distance 0 for who stands beside it."""
    declared = {
        (name, feature.name): feature.done
        for name in NAMES
        if name not in ("two_switch", "victim_rubble", "relay")
        for group in task_spec(TaskConfig(name=name)).groups
        for feature in group.features
        if feature.done is not None
    }
    assert declared == {("mpe_spread", "dist_nearest_open_landmark"): 0}
