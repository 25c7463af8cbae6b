"""Evaluation: fixed episodes, its own random streams, every step counted, and an end."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from cosignal.rl.branches.run_evaluation import episode_stats
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, Step, TaskSpec, new_step
from cosignal.rl.training import evaluate
from cosignal.rl.training.evaluate import Evaluation, Evaluator
from training_lines import assert_same_state, small_config, trained

TASK = TaskConfig(name="two_switch", n_max=30)


def test_the_same_episodes_again_and_no_training_stream_touched() -> None:
    line, untouched = trained(small_config(), 3), trained(small_config(), 3)
    evaluator = Evaluator(TASK, 6, seed=4)
    first, second = evaluator.evaluate(line.learner), Evaluator(TASK, 6, seed=4).evaluate(line.learner)
    assert first == second == evaluator.evaluate(line.learner)
    assert first != Evaluator(TASK, 6, seed=5).evaluate(line.learner)
    assert_same_state(line, untouched)


def test_steps_are_those_of_the_longest_episode_in_every_environment() -> None:
    found = Evaluator(TASK, 6, seed=4).evaluate(trained(small_config(), 1).learner)
    assert found.steps == 6 * 30  # somebody hardly trained runs into the time limit
    assert len(found.returns) == 6
    assert found.mean_return == pytest.approx(np.mean(found.returns))
    assert found.success_rate == np.mean(found.successes)


def test_an_episode_that_nothing_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "LONGEST_EPISODE", 7)
    found = Evaluator(TASK, 6, seed=4).evaluate(trained(small_config(), 1).learner)
    assert found.steps == 6 * 7


# ---------------------------------------------------------------- milestones, by hand

NEAR_AND_FAR = FeatureSpec(name="dist_exit", kind="distance", low=10, high=30)  # within 11
BELL = FeatureSpec(name="dist_bell", kind="distance", low=0, high=20)  # within 1
PLACE = FeatureSpec(name="x", kind="position", low=0, high=9)
PUSHED, RANG = EventSpec(name="pushed"), EventSpec(name="rang")
SPEC = TaskSpec(
    name="scripted",
    description="",
    groups=(
        GroupSpec(
            name="workers", agents=("a", "b"), obs_size=1, n_actions=2, features=(PLACE, NEAR_AND_FAR), events=(PUSHED,)
        ),
        GroupSpec(
            name="cranes", agents=("c",), obs_size=1, n_actions=2,
            features=(NEAR_AND_FAR, BELL), events=(RANG, PUSHED),
        ),
    ),
    has_masks=True,
)  # fmt: skip


class Scripted:
    """Two environments whose every step is written down, in place of a task."""

    spec, num_envs = SPEC, 2

    def __init__(self, script: list[dict[str, Any]]) -> None:
        self.script = script

    def reset(self, seed: int) -> Step:
        self.t = 0
        self.now = new_step(SPEC, 2)
        assert self.now.last_alive is not None and self.now.lost is not None
        return self.now

    def step(self, actions: Any) -> Step:
        told, step = self.script[self.t % len(self.script)], self.now
        self.t += 1
        assert step.last_alive is not None and step.lost is not None
        workers, cranes = told["exit"]
        step.last_features[0][..., 1], step.last_features[1][..., 0] = workers, cranes
        step.last_features[1][..., 1] = told.get("bell", 20)
        step.features[0][:], step.features[1][:] = 10, 0  # where the next episode begins, which says nothing
        step.events[0][..., 0] = told.get("pushed", 0)
        step.events[1][..., 0], step.events[1][..., 1] = told.get("rang", 0), told.get("crane pushed", 0)
        step.last_alive[0][:] = told.get("alive", True)
        step.terminated[:], step.lost[:] = told.get("ended", False), told.get("lost", False)
        step.truncated[:] = step.lost
        return step


class Idle:
    def new_rnn_states(self, num_envs: int) -> None:
        return None

    def act_to_evaluate(self, obs: Any, generator: Any, masks: Any = None, rnn_states: Any = None) -> list[Any]:
        return [np.zeros(x.shape[:-1], np.int64) for x in obs]


def played(script: list[dict[str, Any]]) -> Evaluation:
    evaluator = Evaluator(TASK, 2, seed=1)
    evaluator.task = Scripted(script)  # type: ignore[assignment]
    return evaluator.evaluate(Idle())  # type: ignore[arg-type]


FAR = ([[30, 30], [30, 30]], [[30], [30]])
SCRIPT: list[dict[str, Any]] = [
    # environment 0: a and c are at the exit; environment 1: nobody, 11.5 is too far
    {"exit": ([[11, 30], [11.5, 30]], [[10.5], [30]]), "pushed": [[1, 2], [0, 1]], "crane pushed": [[1], [0]]},
    # environment 0: all would be, but a has left; environment 1: b and c are, and it ends
    {
        "exit": ([[10, 10], [30, 10]], [[10], [11]]), "alive": [[False, True], [True, True]], "bell": [[1], [1.1]],
        "rang": [[0], [3]], "ended": [False, True],
    },
    # environment 1 is in its next episode, which does not count
    {"exit": ([[30, 30], [10, 10]], [[30], [10]]), "pushed": [[0, 0], [5, 5]], "bell": 0},
    {"exit": FAR, "ended": [True, False]},
]  # fmt: skip


@pytest.mark.parametrize("kept", [64, 3, 1])
def test_milestones_are_counted_over_all_who_have_them(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Whatever number of steps is looked at together."""
    monkeypatch.setattr(evaluate._Milestones, "KEPT", kept)
    found = played(SCRIPT)
    assert found.reached == {
        "pushed": [1 + 2 + 1, 1], "rang": [0, 3], "at dist_exit": [2, 2], "at dist_bell": [1, 0],
    }  # fmt: skip
    assert (found.lengths, found.steps) == ([4, 2], 8)
    told = episode_stats(found)
    assert (told.reached, told.lengths, told.steps, told.returns) == (found.reached, [4, 2], 8, [0, 0])
    assert told.successes == [False, False]


@pytest.mark.parametrize("kept", [64, 3, 1])
def test_what_a_lost_episode_reached_counts_for_nothing(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr(evaluate._Milestones, "KEPT", kept)
    lost = {"exit": ([[10, 10], [30, 30]], [[10], [30]]), "lost": [True, False]}
    script = [SCRIPT[0], lost, {"exit": FAR, "pushed": [[0, 1], [0, 0]]}, {"exit": FAR, "ended": True}]
    found = played(script)
    assert found.reached == {"pushed": [1, 1], "rang": [0, 0], "at dist_exit": [0, 0], "at dist_bell": [0, 0]}
    assert found.lengths == [2, 4]


def test_what_a_real_task_tells_is_what_a_walk_over_its_steps_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two-Switch, one environment and step at a time, by the words of `EpisodeStats`."""
    line = trained(small_config(), 2)
    evaluator = Evaluator(TaskConfig(name="two_switch", n_max=70), 5, seed=4)
    steps: list[Step] = []
    real = evaluator.task.step

    def kept(actions: Any) -> Step:
        step = real(actions)
        steps.append(deepcopy(step))
        return step

    monkeypatch.setattr(evaluator.task, "step", kept)
    found, [group] = evaluator.evaluate(line.learner), evaluator.task.spec.groups
    assert any(sum(times) for name, times in found.reached.items() if name.startswith("at "))
    for e in range(5):
        expected = dict.fromkeys(found.reached, 0)
        for step in steps[: found.lengths[e]]:
            for v, event in enumerate(group.events):
                expected[event.name] += int(step.events[0][e, :, v].sum())
            for f, feature in enumerate(group.features):
                if feature.kind == "distance":
                    near = (step.last_features[0][e, :, f] - feature.low) / (feature.high - feature.low) <= 0.05
                    expected[f"at {feature.name}"] = max(expected[f"at {feature.name}"], int(near.sum()))
        assert expected == {name: times[e] for name, times in found.reached.items()}
        assert steps[found.lengths[e] - 1].terminated[e] or steps[found.lengths[e] - 1].truncated[e]
