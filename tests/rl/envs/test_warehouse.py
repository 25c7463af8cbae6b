"""The robotic warehouse: a delivery by hand, the time limit, and upstream's own environment beside it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from cosignal.rl.envs.rware.original import OriginalWarehouseTask as WarehouseTask
from cosignal.rl.envs.rware.spec import HEADINGS, REQUESTS_PER_AGENT, SHELVES
from rware.warehouse import Direction

NONE, FORWARD, LEFT, RIGHT, LOAD = range(5)


def arranged(task: WarehouseTask, poses: list[tuple[int, int, Direction]], requested: list[tuple[int, int]]) -> None:
    """Robots at (x, y, heading), and the shelves of these cells requested."""
    task.env.reset(seed=0)
    inner = task.env.inner
    for robot, (x, y, heading) in zip(inner.agents, poses, strict=True):
        robot.x, robot.y, robot.dir = x, y, heading
    inner._recalc_grid()
    shelves = {(shelf.x, shelf.y): shelf for shelf in inner.shelfs}
    inner.request_queue = [shelves[cell] for cell in requested]


def act(task: WarehouseTask, *choices: int) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
    _, rewards, _, _, infos = task.env.step(dict(zip(task.env.possible_agents, choices, strict=True)))
    return rewards, {agent: {k: v for k, v in info["events"].items() if v} for agent, info in infos.items()}


def test_a_delivery_by_hand() -> None:
    task = WarehouseTask()
    # the shelf of (2, 8), two cells above the row of the goals (4, 10) and (5, 10)
    arranged(task, [(2, 8, Direction.DOWN), (0, 0, Direction.UP)], [(2, 8), (7, 1)])
    found = task.features("agent_0", {})
    assert (found["on_requested_shelf"], found["dist_requested_shelf"], found["dist_goal"]) == (True, 0, 4)
    assert (found["x"], found["y"], found["heading"], found["on_place"]) == (2, 8, 1, True)
    assert task.features("agent_1", {})["dist_requested_shelf"] == 8

    _, events = act(task, LOAD, NONE)
    assert events == {"agent_0": {"requested_shelf_lifted": 1, "shelf_lifted": 1}, "agent_1": {}}
    found = task.features("agent_0", {})
    assert (found["carrying"], found["carrying_requested"], found["on_requested_shelf"]) == (True, True, False)
    assert found["dist_requested_shelf"] == 12  # the other one
    assert "agent_0 with a requested shelf at (2,8) facing down" in task.describe()

    for choice in (FORWARD, FORWARD, LEFT, FORWARD):
        rewards, events = act(task, choice, NONE)
        assert not any(rewards.values()) and events == {"agent_0": {}, "agent_1": {}}
    rewards, events = act(task, FORWARD, NONE)
    assert (rewards, events["agent_0"]) == ({"agent_0": 1.0, "agent_1": 0.0}, {"shelf_delivered": 1})
    assert not task.features("agent_0", {})["carrying_requested"]  # another one is requested now
    assert not task.success({})


def test_a_shelf_is_put_down_on_a_place_only() -> None:
    task = WarehouseTask()
    arranged(task, [(1, 1, Direction.UP), (9, 10, Direction.UP)], [(7, 1), (8, 1)])
    assert act(task, LOAD, NONE)[1]["agent_0"] == {"shelf_lifted": 1}
    act(task, FORWARD, NONE)
    assert act(task, LOAD, NONE)[1]["agent_0"] == {}  # on the way (1, 0)
    for choice in (RIGHT, RIGHT, FORWARD):
        act(task, choice, NONE)
    assert act(task, FORWARD, NONE)[1]["agent_0"] == {}
    assert task.features("agent_0", {})["y"] == 1  # a shelf stands at (1, 2)
    assert act(task, LOAD, NONE)[1]["agent_0"] == {"shelf_put_down": 1}


def test_the_words_are_upstreams() -> None:
    assert [heading.upper() for heading in HEADINGS] == [direction.name for direction in Direction]
    assert "....GG....\n'S' is a place" in str(WarehouseTask().description)


def test_the_time_limit_is_truncation() -> None:
    task = PettingZooTask(WarehouseTask, 1)
    nothing = [np.zeros((1, 2), np.int64)]
    for t in range(1, 501):
        step = task.step(nothing)
        assert (bool(step.terminated[0]), bool(step.truncated[0])) == (False, t == 500)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("rware-tiny-2ag-v2", {}),
        ("rware-tiny-2ag-easy-v2", {"difficulty": "easy"}),
        ("rware-small-4ag-hard-v2", {"size": "small", "agents": 4, "difficulty": "hard"}),
    ],
)
def test_it_is_the_registered_environment(name: str, arguments: dict[str, Any]) -> None:
    import rware  # noqa: F401 registers

    upstream, task = gymnasium.make(name, disable_env_checker=True).unwrapped, WarehouseTask(**arguments)
    for seed in range(2):
        theirs, (ours, _) = upstream.reset(seed=seed)[0], task.env.reset(seed=seed)
        rng = np.random.default_rng(seed)
        for _ in range(500):
            np.testing.assert_array_equal(theirs, list(ours.values()))
            choices = rng.choice(5, len(theirs), p=[0.05, 0.5, 0.15, 0.15, 0.15]).tolist()
            theirs, rewards, ended, _, _ = upstream.step(choices)
            ours, mine, terminated, truncated, _ = task.env.step(dict(zip(ours, choices, strict=True)))
            assert list(mine.values()) == rewards
            assert not any(terminated.values())
            assert ended == truncated["agent_0"]
        assert ended


def test_sizes_and_difficulties_are_the_registered_ones() -> None:
    for size, (rows, columns) in SHELVES.items():
        for difficulty, share in REQUESTS_PER_AGENT.items():
            suffix = "" if difficulty == "normal" else f"-{difficulty}"
            kwargs = gymnasium.spec(f"rware-{size}-4ag{suffix}-v2").kwargs
            found = kwargs["shelf_rows"], kwargs["shelf_columns"], kwargs["request_queue_size"]
            assert found == (rows, columns, int(4 * share))


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(ValueError, match="size must be one of tiny, small, medium, large, got 'huge'"):
        WarehouseTask(size="huge")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="requests must be at least 1"):
        WarehouseTask(agents=1, difficulty="hard")
