"""From a config to its task."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cosignal.errors import TaskImportError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task, plain_task_factory, task_spec
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from cosignal.rl.envs.registry import GRIDS, ShippedName
from cosignal.rl.envs.two_switch.env import BatchedTwoSwitch

TWO_SWITCH = "cosignal.rl.envs.two_switch:TwoSwitchEnv"


def test_a_shipped_task_by_name() -> None:
    config = TaskConfig(name="two_switch", n_max=40, allow_agent_overlap=False)
    task = make_task(config, 3)
    assert isinstance(task, BatchedTwoSwitch)
    assert (task.num_envs, task.n_max, task.allow_agent_overlap) == (3, 40, False)
    assert task_spec(config) == task.spec
    assert make_task(TaskConfig(name="two_switch"), 1).spec.max_steps == 100


def test_a_pettingzoo_environment_by_import_path() -> None:
    config = TaskConfig(env=TWO_SWITCH, team_reward="mean", n_max=30)
    task = make_task(config, 2)
    assert isinstance(task, PettingZooTask)
    assert task_spec(config) == task.spec
    assert task.spec.max_steps == 30


def test_a_spec_needs_neither_compiled_code_nor_torch() -> None:
    code = (
        "import sys; from cosignal.rl.envs.config import TaskConfig; from cosignal.rl.envs.factory import task_spec;"
        "task_spec(TaskConfig(name='two_switch'));"
        "sys.exit(bool({'numba', 'torch', 'pettingzoo', 'gymnasium'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_shipped_task_takes_arguments() -> None:
    config = TaskConfig(name="lbf", env_args={"players": 3}, n_max=7)
    assert (len(task_spec(config).agents), task_spec(config).max_steps) == (3, 7)
    assert task_spec(config.model_copy(update={"n_max": 5})).max_steps == 5
    with pytest.raises(TaskImportError, match="'player': 3.*got 'lbf', which raised TypeError.*correct task.env_args"):
        task_spec(TaskConfig(name="lbf", env_args={"player": 3}))
    with pytest.raises(TaskImportError, match="ValueError: foods must be at least 1, got 0"):
        make_task(TaskConfig(name="lbf", env_args={"foods": 0}), 1)


@pytest.mark.parametrize("name", GRIDS)
def test_the_plain_twin_of_a_grid_game_has_the_same_options(name: ShippedName) -> None:
    config = TaskConfig(name=name, n_max=7, allow_agent_overlap=False)
    env = plain_task_factory(config)().env
    assert (env.max_steps, env.allow_agent_overlap) == (7, False)
    assert env.description == task_spec(config).description
    default = TaskConfig(name=name)
    assert (
        plain_task_factory(default)().env.max_steps
        == task_spec(default).max_steps
        == make_task(default, 1).spec.max_steps
    )
