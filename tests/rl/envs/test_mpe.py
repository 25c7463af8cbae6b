"""Sparse spread and speaker-listener: when the one reward comes, who gets it, and what is near."""

from __future__ import annotations

from math import hypot

import numpy as np
import pytest
from cosignal.rl.envs.mpe import FAR, SpeakerListenerTask, SpreadTask
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask

Point = tuple[float, float]


def place(task: SpreadTask | SpeakerListenerTask, agents: list[Point], landmarks: list[Point]) -> None:
    """Bodies at rest at these points."""
    world = task.env.world
    for bodies, points in ((world.agents, agents), (world.landmarks, landmarks)):
        for body, point in zip(bodies, points, strict=True):
            body.state.p_pos, body.state.p_vel = np.array(point), np.zeros(2)
    task.env._look()


def rest(task: SpreadTask | SpeakerListenerTask) -> tuple[dict, dict, dict, dict]:
    return task.env.step(dict.fromkeys(task.env.agents, 0))[1:]


LANDMARKS = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]


@pytest.mark.parametrize(("offset", "solved"), [(0.149, True), (0.151, False)])
def test_spread_pays_once_when_every_landmark_is_covered(offset: float, solved: bool) -> None:
    task = SpreadTask()
    task.env.reset(seed=0)
    place(task, [(3.0, 0.0), (1.0, 0.1), (0.0, 1.0)], LANDMARKS)
    rewards, terminated, truncated, _ = rest(task)
    assert (sum(rewards.values()), any(terminated.values())) == (0.0, False)
    place(task, [(3.0, 0.0), (1.0, 0.1), (0.0, 1.0)], LANDMARKS)
    task.env.world.agents[0].state.p_pos = np.array([-offset, 0.0])
    rewards, terminated, truncated, infos = rest(task)
    assert sum(rewards.values()) == float(solved)
    assert rewards["agent_0"] == pytest.approx(solved / 3)
    assert (all(terminated.values()), any(truncated.values()), task.success({})) == (solved, False, solved)
    assert infos["agent_0"]["events"] == {"landmark_covered": int(solved), "collision": 0}
    assert infos["agent_1"]["events"] == {"landmark_covered": 0, "collision": 0}
    assert task.describe().endswith(f"{2 + solved} of 3 covered")


def test_spread_features_by_hand() -> None:
    task = SpreadTask()
    task.env.reset(seed=0)
    place(task, [(0.5, 0.0), (1.0, 0.1), (9.0, 0.0)], LANDMARKS)
    found = task.features("agent_0", {})
    assert found == pytest.approx({
        "x": 0.5, "y": 0.0, "dist_nearest_landmark": 0.5, "dist_nearest_open_landmark": 0.5,
        "dist_nearest_mate": hypot(0.5, 0.1), "sum_landmark_distances": 0.5 + 0.1 + hypot(0.5, 1.0),
        "landmarks_covered": 1,
    })  # fmt: skip
    far = task.features("agent_2", {})
    assert (far["x"], far["dist_nearest_landmark"], far["dist_nearest_mate"]) == (FAR, FAR, FAR)
    done = {feature.name: feature.done for feature in task.feature_specs("agent_0")}["dist_nearest_open_landmark"]
    place(task, [(0.5, 0.0), (0.0, 0.05), (1.0, 0.0)], [(0.0, 0.0), (0.0, 0.1), (1.0, 0.0)])
    assert task.features("agent_0", {})["dist_nearest_open_landmark"] == done  # the others cover all


def test_a_collision_is_told_when_it_begins() -> None:
    task = SpreadTask(agents=2)
    task.env.reset(seed=0)
    place(task, [(0.0, 0.0), (0.5, 0.0)], [(1.0, 1.0), (-1.0, -1.0)])
    task.env.world.agents[0].state.p_vel = np.array([3.0, 0.0])
    *_, infos = rest(task)
    assert [info["events"]["collision"] for info in infos.values()] == [1, 1]
    *_, infos = rest(task)
    assert [info["events"]["collision"] for info in infos.values()] == [0, 0]


def test_the_words_of_the_rules_are_upstreams() -> None:
    """Right is x, up is y; a push tells in the next step, and a quarter of the velocity is lost."""
    task = SpreadTask(agents=2)
    task.env.reset(seed=0)
    place(task, [(0.0, 0.0), (2.0, 0.0)], [(1.0, 1.0), (-1.0, -1.0)])
    task.env.step({"agent_0": 2, "agent_1": 4})
    bodies = [task.env.body(agent).state for agent in task.env.agents]
    assert [body.p_vel.tolist() for body in bodies] == [[0.5, 0.0], [0.0, 0.5]]
    task.env.step({"agent_0": 0, "agent_1": 3})
    assert [body.p_pos.tolist() for body in bodies] == [[0.05, 0.0], [2.0, 0.05]]
    assert [body.p_vel.tolist() for body in bodies] == [[0.375, 0.0], [0.0, -0.125]]


def test_the_listener_is_paid_at_the_target_and_nowhere_else() -> None:
    task = SpeakerListenerTask()
    task.env.reset(seed=0)
    target = task.env.target()
    other = (target + 1) % 3
    place(task, [(0.0, 0.5), (5.5, 0.0)], LANDMARKS)
    listener = task.env.body("listener_0").state
    assert task.features("speaker_0", {}) == {"target": target, "said": -1, "dist_target": FAR}
    listener.p_pos = np.array(LANDMARKS[other])
    rewards, terminated, _, infos = rest(task)
    assert (sum(rewards.values()), any(terminated.values())) == (0.0, False)
    assert infos["listener_0"]["events"] == {"target_reached": 0, "other_landmark_reached": 1}
    assert task.features("listener_0", {})["said"] == 0
    listener.p_pos = np.add(LANDMARKS[target], (0.0, 0.101))
    assert sum(rest(task)[0].values()) == 0
    listener.p_pos = np.add(LANDMARKS[target], (0.0, 0.099))
    rewards, terminated, truncated, infos = rest(task)
    assert rewards == {"speaker_0": 0.5, "listener_0": 0.5}
    assert (all(terminated.values()), any(truncated.values()), task.success({})) == (True, False, True)
    assert infos == {
        "speaker_0": {"events": {}},
        "listener_0": {"events": {"target_reached": 1, "other_landmark_reached": 0}},
    }


def test_the_speaker_is_a_group_of_its_own() -> None:
    spec = PettingZooTask(SpeakerListenerTask, 1).spec
    assert [(group.name, group.obs_size, group.n_actions, group.action_names) for group in spec.groups] == [
        ("speaker", 3, 3, ()),
        ("listener", 11, 5, ("none", "left", "right", "down", "up")),
    ]


@pytest.mark.parametrize("build", [SpreadTask, SpeakerListenerTask])
def test_the_time_limit_is_truncation(build: type[SpreadTask] | type[SpeakerListenerTask]) -> None:
    task = PettingZooTask(build, 1)
    task.tasks[0].env.solved = lambda: False
    nothing = [np.zeros((1, len(group.agents)), np.int64) for group in task.spec.groups]
    for t in range(1, 26):
        step = task.step(nothing)
        assert (bool(step.terminated[0]), bool(step.truncated[0])) == (False, t == 25)


@pytest.mark.parametrize("build", [SpreadTask, SpeakerListenerTask])
def test_success_in_the_last_step_is_termination(build: type[SpreadTask] | type[SpeakerListenerTask]) -> None:
    """Upstream truncates there."""
    task = build(n_max=1)
    task.env.reset(seed=0)
    task.env.solved = lambda: True
    rewards, terminated, truncated, _ = rest(task)
    assert (sum(rewards.values()), all(terminated.values()), any(truncated.values())) == (1.0, True, False)


def test_closing_one_leaves_the_others_alone() -> None:
    one, other = SpreadTask(), SpreadTask()
    one.env.close()
    other.env.reset(seed=0)
    assert not any(rest(other)[1].values())
    SpreadTask().env.reset(seed=1)
