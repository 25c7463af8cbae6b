"""The compiled batch of the robotic warehouse beside the original, driven from the same states by the same actions."""

from __future__ import annotations

from typing import Any

import networkx
import numpy as np
import pytest
import rware.warehouse
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import task_spec
from cosignal.rl.envs.rware.batch import BatchedWarehouse, WarehouseTask
from cosignal.rl.envs.rware.original import OriginalWarehouseTask
from cosignal.rl.envs.rware.spec import EVENTS, WarehouseSettings
from cosignal.rl.task import IntArray, Step, splitmix64
from pettingzoo_tests import parallel_api_test, parallel_seed_test
from rware.warehouse import Direction, Warehouse

NONE, FORWARD, LEFT, RIGHT, LOAD = range(5)
UP, DOWN, LEFTWARDS, RIGHTWARDS = range(4)
LIMIT = 60
SETTINGS = [
    {},
    {"agents": 4},
    {"agents": 14, "difficulty": "hard"},
    {"size": "small", "agents": 4, "difficulty": "easy"},
    {"size": "medium", "agents": 3},
    {"size": "large", "agents": 19},
    {"agents": 3, "agent_ids": True},
    {"agents": 5, "observation_type": "image"},
    {"agents": 3, "observation_type": "image", "directional": False},
    {"size": "small", "agents": 6, "observation_type": "image_dict"},
    {"agents": 4, "observation_type": "image_dict", "directional": False},
]
by_settings = pytest.mark.parametrize("settings", SETTINGS, ids=lambda x: "-".join(map(str, x.values())) or "default")


class Requests:
    """A random generator that requests what the batch requests: its stream, drawn from by plain Python."""

    def __init__(self, batch: BatchedWarehouse, shelves: list[Any]) -> None:
        self.stream, self.shelves = int(batch.streams[0, 0]), shelves

    def choice(self, candidates: list[Any]) -> Any:
        while True:
            drawn = self.shelves[splitmix64(self.stream) % len(self.shelves)]
            self.stream = (self.stream + 0x9E3779B97F4A7C15) % 2**64
            if drawn in candidates:
                return drawn


def longest_queue(inner: Warehouse, graph: networkx.DiGraph) -> list[tuple[int, int]]:
    """`networkx.dag_longest_path`, where of equally long ones the agent of the lowest number goes first."""

    def depth(cell: tuple[int, int]) -> int:
        return 1 + max((depth(other) for other in graph.pred[cell]), default=0)

    path = [next(cell for cell in graph if not graph.succ[cell])]
    while graph.pred[path[-1]]:
        path.append(min(graph.pred[path[-1]], key=lambda cell: (-depth(cell), inner.grid[0, cell[1], cell[0]])))
    assert len(path) == networkx.dag_longest_path_length(graph) + 1
    return path


def put(original: OriginalWarehouseTask, batch: BatchedWarehouse) -> None:
    """Put the state of the batch's first environment into the original."""
    original.env.reset(seed=0)
    inner = original.env.inner
    for shelf, (x, y) in zip(inner.shelfs, batch.shelves[0].tolist(), strict=True):
        shelf.x, shelf.y = x, y
    for robot, (x, y, heading, carried) in zip(inner.agents, batch.robots[0].tolist(), strict=True):
        robot.x, robot.y, robot.dir = x, y, Direction(heading)
        robot.carrying_shelf = None if carried < 0 else inner.shelfs[carried]
    inner.request_queue = [inner.shelfs[shelf] for shelf in batch.queue[0]]
    inner._recalc_grid()


def sensible(batch: BatchedWarehouse, rng: np.random.Generator) -> IntArray:
    """What agents do that fetch the first requested shelves and bring them, with a random action now and then."""
    actions = rng.integers(0, 5, batch.settings.agents)
    queue = batch.queue[0].tolist()
    for i, (x, y, heading, carried) in enumerate(batch.robots[0].tolist()):
        if rng.random() < 0.3:
            continue
        shelf = queue[i % len(queue)]
        to_x, to_y = batch.settings.goals[i % 2] if carried in queue else batch.shelves[0, shelf].tolist()
        if (to_x, to_y) == (x, y):
            actions[i] = LOAD
            continue
        ways = [UP if to_y < y else DOWN] * (to_y != y) + [LEFTWARDS if to_x < x else RIGHTWARDS] * (to_x != x)
        actions[i] = FORWARD if heading in ways else LEFT
    return actions


def flat(observed: Any) -> np.ndarray[Any, Any]:
    """The original's observation as a row of numbers, its own before those of its image."""
    parts = [observed["features"], observed["image"]] if isinstance(observed, dict) else [observed]
    return np.concatenate([part.ravel() for part in parts])


def assert_same(batch: BatchedWarehouse, original: OriginalWarehouseTask, step: Step, moved: tuple[Any, ...]) -> None:
    """Everything that both say of the state after a step, and of the step."""
    observations, rewards, terminated, truncated, infos = moved
    np.testing.assert_array_equal(step.last_obs[0][0], [flat(x) for x in observations.values()])
    assert batch.shares[0].tolist() == list(rewards.values())
    assert step.reward[0] == sum(rewards.values())
    assert [bool(step.terminated[0]), bool(step.truncated[0])] == [terminated["agent_0"], truncated["agent_0"]]
    counts = [[infos[agent]["events"][event.name] for event in EVENTS] for agent in infos]
    np.testing.assert_array_equal(step.events[0][0], counts)
    features = [[original.features(agent, {})[spec.name] for spec in original.feature_specs(agent)] for agent in infos]
    np.testing.assert_array_equal(step.last_features[0][0], features)
    if batch.numbers[0, 0] % 10 == 1:
        assert batch.describe() == original.describe()
        assert batch.picture() == original.render_text()


@pytest.mark.parametrize("plays", ["at random", "sensibly"])
@pytest.mark.parametrize("episodes", [6, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@by_settings
def test_every_step_is_the_originals(
    settings: dict[str, Any], episodes: int, plays: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = BatchedWarehouse(1, WarehouseSettings(**settings, n_max=LIMIT), auto_reset=False)
    original, rng = OriginalWarehouseTask(**settings, n_max=LIMIT), np.random.default_rng(1)
    inner = original.env.inner
    monkeypatch.setattr(rware.warehouse.nx.algorithms, "dag_longest_path", lambda graph: longest_queue(inner, graph))
    happened = np.zeros(len(EVENTS))
    for seed in range(episodes):
        batch.start(seed)
        put(original, batch)
        while not batch.ended.any():
            actions = sensible(batch, rng) if plays == "sensibly" else rng.integers(0, 5, batch.settings.agents)
            inner._np_random = Requests(batch, inner.shelfs)
            step = batch.step([actions[None]])
            moved = original.env.step(dict(zip(original.env.possible_agents, actions.tolist(), strict=True)))
            assert_same(batch, original, step, moved)
            happened += step.events[0][0].sum(0)
        inner._np_random = None
    assert happened[1:].all() or (episodes < 300 and plays == "at random")
    assert happened[0] or plays == "at random", "nothing was delivered"


@by_settings
def test_episodes_start_as_upstreams_do(settings: dict[str, Any]) -> None:
    """Shelves stand on upstream's places; agents and requests are spread as upstream's are."""
    batch = BatchedWarehouse(1, WarehouseSettings(**settings), auto_reset=False)
    original, number = OriginalWarehouseTask(**settings), 300
    inner, ours, theirs = original.env.inner, [], []
    for seed in range(number):
        batch.start(seed)
        original.env.reset(seed=seed)
        assert batch.shelves[0].tolist() == [[shelf.x, shelf.y] for shelf in inner.shelfs]
        cells = {tuple(robot[:2]) for robot in batch.robots[0].tolist()}
        assert len(cells) == batch.settings.agents
        assert len(set(batch.queue[0].tolist())) == batch.settings.requests == len(inner.request_queue)
        ours.append([*batch.robots[0, :, :3].mean(0), batch.queue[0].mean()])
        requested = np.mean([shelf.id - 1 for shelf in inner.request_queue])
        poses = np.array([[robot.x, robot.y, robot.dir.value] for robot in inner.agents])
        theirs.append([*poses.mean(0), requested])
    # to within five standard errors of the difference
    one, other = np.array(ours), np.array(theirs)
    assert (abs(one.mean(0) - other.mean(0)) < 5 * np.sqrt((one.var(0) + other.var(0)) / number)).all()


def test_the_spec_is_the_originals() -> None:
    for settings in SETTINGS:
        ours, theirs = (task_spec(TaskConfig(name=name, env_args=settings)) for name in ("rware", "rware_original"))
        assert ours == theirs.model_copy(update={"name": "rware"})


def placed(*robots: tuple[int, int, int, int]) -> BatchedWarehouse:
    """Agents at (x, y) with a heading and a carried shelf, -1 for none."""
    batch = BatchedWarehouse(1, WarehouseSettings(agents=len(robots)), auto_reset=False)
    batch.robots[0], batch.robot_at[0] = robots, 0
    for i, (x, y, _, shelf) in enumerate(robots):
        batch.robot_at[0, y, x] = i + 1
        if shelf >= 0:
            was_x, was_y = batch.shelves[0, shelf]
            batch.shelf_at[0, was_y, was_x], batch.shelf_at[0, y, x] = 0, shelf + 1
            batch.shelves[0, shelf] = x, y
    return batch


def cells_after(batch: BatchedWarehouse, *actions: int) -> list[tuple[int, ...]]:
    batch.step([np.array([actions])])
    return [tuple(cell) for cell in batch.robots[0, :, :2].tolist()]


def test_who_goes_first_by_hand() -> None:
    # both want (0, 0): the lower number moves, unless the other has a queue behind itself
    assert cells_after(placed((0, 1, UP, -1), (1, 0, LEFTWARDS, -1)), FORWARD, FORWARD) == [(0, 0), (1, 0)]
    three = placed((0, 1, UP, -1), (1, 0, LEFTWARDS, -1), (2, 0, LEFTWARDS, -1))
    assert cells_after(three, FORWARD, FORWARD, FORWARD) == [(0, 1), (0, 0), (1, 0)]
    # two cannot swap, four in a ring turn
    assert cells_after(placed((0, 0, RIGHTWARDS, -1), (1, 0, LEFTWARDS, -1)), FORWARD, FORWARD) == [(0, 0), (1, 0)]
    ring = placed((0, 0, RIGHTWARDS, -1), (1, 0, DOWN, -1), (1, 1, LEFTWARDS, -1), (0, 1, UP, -1))
    assert cells_after(ring, *[FORWARD] * 4) == [(1, 0), (1, 1), (0, 1), (0, 0)]
    # nobody leaves the grid, and a loaded one does not pass below a shelf: (1, 1) is a place
    assert cells_after(placed((0, 0, UP, -1)), FORWARD) == [(0, 0)]
    assert cells_after(placed((0, 1, RIGHTWARDS, -1)), FORWARD) == [(1, 1)]
    assert cells_after(placed((0, 1, RIGHTWARDS, 5)), FORWARD) == [(0, 1)]


def test_one_environment_of_it_keeps_pettingzoos_promises() -> None:
    parallel_api_test(WarehouseTask(n_max=12).env)
    parallel_seed_test(lambda: WarehouseTask(n_max=12).env)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": "huge"}, "size must be one of tiny, small, medium, large, got 'huge'"),
        ({"difficulty": "mean"}, "difficulty must be one of easy, normal, hard, got 'mean'"),
        ({"observation_type": "pixels"}, "observation_type must be one of flattened, image, image_dict, got 'pixels'"),
        ({"directional": 1}, "directional must be true or false, got 1"),
        ({"observation_type": "image", "agent_ids": True}, "agent_ids must be false with observation_type image"),
        ({"agents": 1, "difficulty": "hard"}, "requests must be at least 1, got 0"),
        ({"agents": 3.0}, "agents must be a whole number of at least 1, got 3.0"),
        ({"agents": 200}, "agents must fit on 110 cells"),
    ],
)
def test_settings_that_make_no_warehouse_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WarehouseSettings(**settings)
