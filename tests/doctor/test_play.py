"""What the doctor finds out about a task by playing it at random."""

from __future__ import annotations

from contextlib import closing
from typing import Any, ClassVar

import numpy as np
import pytest
from cosignal.doctor.check import Check
from cosignal.doctor.play import ENOUGH, STEPS, check_pictures, check_played, play, random_actions
from cosignal.doctor.task_process import look_at
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.envs.factory import make_task
from small_tasks import Walk


def checks(env: str, **more: Any) -> dict[str, Check]:
    """The worst of each name."""
    config = TaskConfig(env=f"{__name__}:{env}" if ":" not in env else env, **more)
    found: dict[str, Check] = {}
    for check in look_at(config, lambda _: None).checks:
        if check.name not in found or check.state != "ok":
            found[check.name] = check
    return found


class Space(Walk):
    """With the same space objects each time, as the contract asks."""

    def __init__(self) -> None:
        super().__init__()
        self._spaces = {a: (Walk.observation_space(self, a), Walk.action_space(self, a)) for a in self.possible_agents}

    def observation_space(self, agent: str) -> Any:
        return self._spaces[agent][0]

    def action_space(self, agent: str) -> Any:
        return self._spaces[agent][1]


class Drawn(Space):
    """Draws its state where it is asked to by PettingZoo's convention, in text, frames or both."""

    metadata: ClassVar[dict[str, Any]] = {"name": "drawn", "render_modes": ["ansi", "rgb_array"]}
    drawings: ClassVar[dict[str, Any]] = {"ansi": "w.w.", "rgb_array": np.zeros((4, 4, 3), np.uint8)}

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.render_mode = render_mode

    def render(self) -> Any:
        return self.drawings.get(self.render_mode or "")


class DrawnInFrames(Drawn):
    drawings: ClassVar[dict[str, Any]] = {"rgb_array": np.zeros((4, 4, 3), np.uint8)}


class Undrawn(Drawn):
    drawings: ClassVar[dict[str, Any]] = {}


def test_a_sound_task_is_told_in_numbers() -> None:
    found = checks("Space")
    assert {check.state for check in found.values()} == {"ok"}
    assert "masks come in infos" in found["task.contract"].message  # which that test cannot read
    assert "episodes of random play, 8,000 steps: " in found["task.episodes"].message
    assert "% successful" in found["task.episodes"].message
    assert "dist_end 0…5" in found["task.agents.features"].message
    assert "never seen: none" in found["task.agents.events"].message
    assert "the same 1,000 steps twice, also after going back" in found["task.deterministic"].message


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (TaskConfig(env=f"{__name__}:Space"), "draws nothing"),
        (TaskConfig(env=f"{__name__}:Undrawn"), "draws nothing"),
        (TaskConfig(env=f"{__name__}:DrawnInFrames"), "draws its state in frames, which the page"),
        (TaskConfig(env=f"{__name__}:Drawn"), "as text, which models are shown and in frames"),
        (TaskConfig(name="two_switch"), "draws its state as text, which models are shown"),
    ],
    ids=["declares nothing", "draws nothing", "frames", "both", "native"],
)
def test_who_sees_pictures_is_said(task: TaskConfig, told: str) -> None:
    with closing(make_task(task, 1)) as built:
        pictures = check_pictures(built)
    assert (pictures.name, pictures.state) == ("task.pictures", "ok")
    assert told in pictures.message


def test_pictures_are_among_what_is_looked_at() -> None:
    assert "draws nothing" in checks("Space")["task.pictures"].message


def test_numbers_are_exact_on_a_task_that_is_counted_by_hand() -> None:
    """Walkers that cannot arrive: 25 steps an episode, all cut, nothing paid."""
    task = make_task(TaskConfig(env="small_tasks:Walk", n_max=2), 4)
    played = play(task, 10, 60.0)
    assert (played.steps, played.lengths, played.cut, played.successes) == (40, [2] * 20, 20, 0)
    assert (played.rewarded, played.returns) == (0, [0.0] * 20)


def test_time_that_runs_out_is_told_and_too_few_steps_are_not_judged() -> None:
    """4 environments with episodes of at most 25 steps."""
    with closing(make_task(TaskConfig(env="small_tasks:Walk"), 4)) as task:
        played = play(task, STEPS, 0.0)
        assert (played.joint_steps, played.steps, played.wanted) == (1, 4, STEPS)
        [check] = check_played(played, task.spec)
        assert (check.name, check.state) == ("task.play", "warning")
        assert "at 4 of 8,000 steps: too few to judge" in check.message
        played = play(task, ENOUGH, 60.0)
        played.wanted = STEPS
        first, *others = check_played(played, task.spec)
        assert (first.name, first.state) == ("task.play", "ok")
        assert "at 2,000 of 8,000 steps; what follows is judged on these" in first.message
        assert {check.name for check in others} >= {"task.episodes", "task.reward"}
        # An episode may be longer than all that was played.
        [check] = check_played(played, task.spec.model_copy(update={"max_steps": ENOUGH + 1}))
        assert "too few" in check.message
        assert {check.name for check in check_played(play(task, ENOUGH, 60.0), task.spec)} == {c.name for c in others}


def test_random_actions_are_allowed_ones() -> None:
    task = make_task(TaskConfig(env="small_tasks:Walk"), 64)
    rng, step = np.random.default_rng(0), task.reset(0)
    assert step.masks is not None
    drawn = np.stack([random_actions(task.spec, step, rng)[0] for _ in range(50)])
    assert np.take_along_axis(step.masks[0][None].repeat(50, 0), drawn[..., None], -1).all()
    assert set(np.unique(drawn)) == {0, 1, 2}
    numbers = random_actions(make_task(TaskConfig(env="small_tasks:Glide"), 1).spec, step, rng)[0]
    assert numbers.shape == (64, 2, 1)
    assert np.abs(numbers).max() <= 1


class Nan(Space):
    def _observed(self) -> dict[str, Any]:
        return {agent: x * (np.nan if self.t == 7 else 1) for agent, x in super()._observed().items()}


class Wide(Space):
    def _infos(self, arrived: set[str]) -> dict[str, Any]:
        infos = super()._infos(arrived)
        for info in infos.values():
            info["features"]["dist_end"] += 1
        return infos


class Still(Space):
    def _infos(self, arrived: set[str]) -> dict[str, Any]:
        return {agent: info | {"features": {"dist_end": 2.0}} for agent, info in super()._infos(arrived).items()}


class Fragile(Space):
    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        if self.t == 12:
            raise ZeroDivisionError("too far")
        return super().step(actions)


class Shared(Space):
    """Pays each the team's reward, and says of no range what it is."""

    return_range = None  # type: ignore[assignment]

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        observed, rewards, *rest = super().step(actions)
        return (observed, dict.fromkeys(rewards, sum(rewards.values())), *rest)


class Unpaid(Space):
    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        observed, rewards, *rest = super().step(actions)
        return (observed, dict.fromkeys(rewards, 0.0), *rest)


@pytest.mark.parametrize(
    ("env", "name", "state", "words"),
    [
        ("Nan", "task.play", "problem", "agent 'walker_0' of 'walk' observes [nan, nan, 1.0, 0.0] (number 0 is not"),
        ("Wide", "task.agents.features", "problem", "outside were dist_end 1…6 (declared 0…5)"),
        ("Still", "task.agents.features", "warning", "never changed tell nothing yet: dist_end"),
        ("Unpaid", "task.reward", "warning", "no reward but 0 in 8,000 steps"),
        ("small_tasks:NewSpaces", "task.contract", "warning", "should return the exact same space object"),
    ],
)
def test_what_is_wrong_is_named_with_a_remedy(env: str, name: str, state: str, words: str) -> None:
    check = checks(env)[name]
    assert check.state == state, check
    assert words in check.message
    assert check.remedy


def test_a_team_reward_that_each_is_paid_is_noticed_unless_the_mean_is_taken() -> None:
    check = checks("Shared")["task.team_reward"]
    assert "all agents were paid the same" in check.message
    assert "task.team_reward" not in checks("Shared", team_reward="mean")
    assert "task.team_reward" not in checks("Space")


def test_a_task_that_raises_in_play_is_a_problem() -> None:
    found = checks("Fragile")
    assert found["task.crashes"].state == "problem"
    assert found["task.deterministic"].state == "warning"  # of which nothing is known then


def test_no_end_is_a_warning() -> None:
    found = checks("Forever")["task.episodes"]
    assert (found.state, found.remedy) == ("warning", "set task.n_max, or a time limit in the environment")


class Forever(Space):
    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.t = 0
        return super().step(dict.fromkeys(actions, 0))


class Sometimes(Space):
    """Raises at times, and never in the first of its episodes."""

    played = 0

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        Sometimes.played += 1
        if Sometimes.played > 2_000 and self.t == 8 and self.at["walker_0"] > 2:
            raise RuntimeError("now and then")
        return super().step(actions)


def test_crashes_now_and_then_are_counted_and_are_no_time_limit() -> None:
    Sometimes.played = 0
    found = checks("Sometimes", team_reward="mean")
    assert found["task.crashes"].state == "problem"
    assert "episodes of random play; it is built anew each time" in found["task.crashes"].message
