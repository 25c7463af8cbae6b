"""Pictures of states: those of the shipped tasks by hand, PettingZoo's convention, and what may go wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.rl.envs.adapter import Task
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.drawing import MAX_PICTURE, MAX_SIDE, drawing_arguments, frame, text_picture
from cosignal.rl.envs.factory import make_task
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from cosignal.rl.envs.relay.env import RelayEnv
from cosignal.rl.envs.two_switch.env import TwoSwitchEnv, TwoSwitchTask
from cosignal.rl.envs.victim_rubble.env import VictimRubbleEnv


def rows(picture: str) -> list[str]:
    """Return the map of a picture, without the line that says what the signs are."""
    return picture.split("\n")[:-1]


def test_two_switch_by_hand() -> None:
    env = TwoSwitchEnv(render_mode="ansi")
    env.reset(seed=1)
    env.game.poses, env.game.triggered = [(2, 2, 2), (4, 5, 1)], [True, False]
    assert rows(env.render() or "") == [
        "# # # # # # # # #",
        "# . . . . . . . #",
        "# a g<. . . . B #",
        "# . . . . . . . #",
        "# # # # D # # # #",
        "# . . . ov. . . #",
        "# . . . . . . . #",
        "# . . . . . . G #",
        "# # # # # # # # #",
    ]
    env.game.poses, env.game.triggered = [(4, 4, 1), (4, 4, 3)], [True, True]
    assert rows(env.render() or "")[2:5] == ["# a . . . . . b #", "# . . . . . . . #", "# # # # go# # # #"]
    env.game.poses = [(1, 1, 0), (1, 3, 3)]
    assert rows(env.render() or "")[1:5] == [
        "# g>. . . . . . #", "# a . . . . . b #", "# o^. . . . . . #", "# # # # / # # # #",
    ]  # fmt: skip


def test_victim_rubble_by_hand() -> None:
    env = VictimRubbleEnv(render_mode="ansi")
    env.reset(seed=1)
    env.game.poses, env.game.handled = [(4, 2, 0), (8, 1, 1)], [True, False, True, False, False]
    assert rows(env.render() or "") == [
        "# # # # # # # # # # # # #",
        "# . . # . . . . ov. # V #",
        "# . . . g>. . # . Q . . #",
        "# # # # . . . # # # # # #",
        "# . . . . . . # # # # # #",
        "# . . # . . r # # # # # #",
        "# # # # # # # # # # # # #",
    ]


def test_relay_by_hand() -> None:
    env = RelayEnv(render_mode="ansi")
    env.reset(seed=1)
    env.game.poses, env.game.pulled = [(1, 1, 3), (7, 3, 0)], [True, False, False, False]
    assert rows(env.render() or "") == [
        "# a # # # # # # # # # # # # # # # C # # # # # # #",
        "# g^. . . . # . . . . . # . . . . . # . . . . . #",
        "# . . . . . # . . . . . # . . . . . # . . . . . #",
        "# . . . . . / o>. . . . 2 . . . . . 3 . . . . . #",
        "# . . . . . # . . . . . # . . . . . # . . . . . #",
        "# . . . . . # . . . . . # . . . . . # . . . . . #",
        "# # # # # # # # # # # B # # # # # # # # # # # D #",
    ]


def test_an_environment_without_the_mode_draws_nothing_and_refuses_another() -> None:
    env = TwoSwitchEnv()
    env.reset(seed=1)
    assert env.render() is None and env.metadata["render_modes"] == ["ansi"]
    with pytest.raises(ValueError, match="render_mode must be one of"):
        TwoSwitchEnv(render_mode="human")


def test_the_batch_and_its_twin_draw_the_same_at_the_states_asked_for() -> None:
    actions = [np.array([[3, 3], [1, 4], [4, 2]])]
    native = make_task(TaskConfig(name="two_switch"), 1)
    twins = [PettingZooTask(factory, 1, team_reward="mean") for factory in (TwoSwitchTask, TwoSwitchEnv)]
    text = native.episode_text(9, actions, [0, 2, 3, 8])
    assert list(text.pictures) == [0, 2, 3] and len(text.lines) == 3
    assert all(twin.episode_text(9, actions, [0, 2, 3, 8]) == text for twin in twins)
    assert native.episode_frames(9, actions, [0]) == twins[0].episode_frames(9, actions, [0]) == {}


def test_lbf_by_hand() -> None:
    pytest.importorskip("lbforaging")
    task = make_task(TaskConfig(name="lbf_original", env_args={"size": 5}), 1)
    assert isinstance(task, PettingZooTask)
    inner = task.tasks[0].env.inner
    inner.field[:] = 0
    inner.field[1, 1], inner.field[3, 2] = 3, 1
    for player, place, level in zip(inner.players, ((0, 1), (4, 4)), (1, 2), strict=True):
        player.position, player.level = place, level
    assert rows(text_picture(task.tasks[0])) == [
        ".  a1 .  .  .", ".  *3 .  .  .", ".  .  .  .  .", ".  .  *1 .  .", ".  .  .  .  b2",
    ]  # fmt: skip
    task.close()


def test_the_warehouse_by_hand() -> None:
    pytest.importorskip("rware")
    task = make_task(TaskConfig(name="rware_original"), 1)
    assert isinstance(task, PettingZooTask)
    inner = task.tasks[0].env.inner
    for robot, (x, y) in zip(inner.agents, ((0, 0), (9, 10)), strict=True):
        robot.x, robot.y, robot.dir = x, y, type(robot.dir).RIGHT
    shelf = next(shelf for shelf in inner.shelfs if (shelf.x, shelf.y) == (1, 1))
    inner.request_queue = [shelf, next(other for other in inner.shelfs if (other.x, other.y) == (2, 3))]
    shelf.x, shelf.y = 0, 0
    inner.agents[0].carrying_shelf = shelf
    picture = rows(text_picture(task.tasks[0]))
    assert picture[:4] == ["A>. . . . . . . . .", ". _ S . . . . S S .", ". S S . . . . S S .", ". S R . . . . S S ."]
    assert picture[-1] == ". . . . G G . . . b>"
    task.close()


class Drawn(Task):
    """A task that draws what it is told."""

    def __init__(self, drawn: Any) -> None:
        super().__init__(TwoSwitchEnv())
        self.drawn = drawn

    def render_text(self) -> str:
        if isinstance(self.drawn, Exception):
            raise self.drawn
        return self.drawn  # type: ignore[no-any-return]

    def render_frame(self) -> Any:
        return self.drawn


def test_colours_control_characters_and_what_is_too_large_are_not_shown() -> None:
    assert text_picture(Drawn("\n\x1b[31m#.\x1b[0m  \n a\tb\n\n")) == "#.\n a      b"
    assert text_picture(Drawn("a\x07\x1b]0;title\x07")) == "a\\x07\\x1b]0;title\\x07"
    assert len(text_picture(Drawn("x" * MAX_PICTURE))) == MAX_PICTURE
    assert "2,001" in text_picture(Drawn("x" * (MAX_PICTURE + 1)))
    assert text_picture(Drawn(None)) == text_picture(Drawn(RuntimeError("no screen"))) == ""


def test_frames_are_means_over_squares_and_small() -> None:
    array = np.zeros((2 * MAX_SIDE, 3, 4), np.uint8)
    array[0, :2, :3] = 200
    drawn = frame(Drawn(array))
    assert drawn is not None and drawn.shape == (MAX_SIDE, 1, 3) and drawn[0, 0].tolist() == [100] * 3
    assert frame(Drawn(np.zeros((4, 4), np.uint8))) is None and frame(Drawn("text")) is None


def test_a_factory_is_told_the_mode_where_it_takes_it() -> None:
    def takes_any(**_: Any) -> None: ...

    assert drawing_arguments(TwoSwitchEnv, "ansi") == drawing_arguments(takes_any, "ansi") == {"render_mode": "ansi"}
    assert drawing_arguments(TwoSwitchTask, "ansi") == {}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_environment_that_draws_frames_gives_them(workers: int) -> None:
    pytest.importorskip("mpe2")
    task = make_task(TaskConfig(env="mpe2.simple_spread_v3:parallel_env", workers=workers), 1)
    frames = task.episode_frames(3, [np.ones((4, 3), np.int64)], [0, 4])
    assert sorted(frames) == [0, 4] and frames[0].dtype == np.uint8 and max(frames[0].shape) <= MAX_SIDE
    assert not np.array_equal(frames[0], frames[4])
    task.close()
