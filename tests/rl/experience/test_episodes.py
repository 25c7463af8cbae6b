"""Episodes followed by whole rollouts, against the plainest way to follow them: one environment, one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.rl.experience.episodes import AFTER_EVENT, WINDOW, EpisodeTracker, team_distances
from cosignal.rl.experience.rollout import Rollout
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, TaskSpec
from hypothesis import given, settings
from hypothesis import strategies as st

DONE = {0: -0.75, 1: None, 2: None}  # of each feature
GROUPS = (("scouts", 2, 3, 2), ("carrier", 1, 1, 0))  # name, agents, features, events


def spec() -> TaskSpec:
    groups = tuple(
        GroupSpec(
            name=name,
            agents=tuple(f"{name}_{i}" for i in range(agents)),
            obs_size=1,
            n_actions=2,
            # Everybody has the distance f0, and is there at -0.5 and below, but not at -0.75, where it is done.
            features=tuple(
                FeatureSpec(
                    name=f"f{i}", kind="quantity" if i else "distance", low=-9 if i else -1, high=9, done=DONE[i]
                )
                for i in range(features)
            ),
            events=tuple(EventSpec(name=f"e{i}") for i in range(events)),
        )
        for name, agents, features, events in GROUPS
    )
    return TaskSpec(name="made_up", description="", groups=groups)


def rollout(rng: np.random.Generator, length: int, envs: int, ends: float) -> Rollout:
    """Random numbers in float32; an episode ends at a step with probability `ends`."""
    shape, none = (length, envs), [np.zeros(0, np.float32)]

    def drawn(width: int) -> list[Any]:
        values = [rng.normal(size=(*shape, group[1], group[width])).astype(np.float32) for group in GROUPS]
        return [np.where(rng.random(x.shape) < 0.2, np.float32(-0.75), x) for x in values]

    done = (rng.random(shape) < ends).astype(np.float32)
    return Rollout(
        obs=none, last_obs=none, features=drawn(2), last_features=drawn(2),
        events=[(x > 1).astype(np.float32) for x in drawn(3)], actions=[], logp=none,
        reward=rng.normal(size=shape).astype(np.float32), terminated=done, done=done,
        success=done * (rng.random(shape) < 0.5).astype(np.float32),
    )  # fmt: skip


class Plain:
    """Lists of what happened so far in each environment, and the finished episodes in the order in which they ended."""

    def __init__(self, envs: int) -> None:
        self.running: list[list[Any]] = [[] for _ in range(envs)]
        self.finished: list[dict[str, Any]] = []
        self.after: dict[int, list[list[Any]]] = {}  # event → states s′, [g], right after it first happened

    def add(self, found: Rollout) -> None:
        for t in range(len(found.reward)):
            for env, steps in enumerate(self.running):
                groups = [(found.features[g][t, env], found.events[g][t, env]) for g in range(len(GROUPS))]
                for kind in range(GROUPS[0][3]):  # the other group has none
                    happened = [events[:, kind].any() for _, [(_, events), _] in [*steps, (0, groups)]]
                    if happened[-1] and not any(happened[:-1]):
                        self.after.setdefault(kind, []).append([x[t, env] for x in found.last_features])
                steps.append((found.reward[t, env], groups))
                if found.done[t, env]:
                    self.finished.append(self.told(steps) | {"successes": found.success[t, env]})
                    steps.clear()

    def told(self, steps: list[Any]) -> dict[str, Any]:
        total = np.float64(0.0)
        for reward, _ in steps:
            total = total + reward
        near = [[(x[:, 0] <= -0.5) & (x[:, 0] != -0.75) for x, _ in groups] for _, groups in steps]
        there = [sum(agents.sum() for agents in groups) for groups in near]
        row: dict[str, Any] = {"returns": total, "lengths": len(steps), "at_once": np.array([max(there)])}
        for g in range(len(GROUPS)):
            features = np.stack([groups[g][0] for _, groups in steps])  # [n, A, F]
            events = np.stack([groups[g][1] for _, groups in steps])
            happened = events.sum(1) > 0
            row |= {
                f"low.{g}": features.min((0, 1)), f"high.{g}": features.max((0, 1)),
                f"start.{g}": features[0].mean(0), f"end.{g}": features[-1].mean(0),
                f"first_state.{g}": features[0], f"last_state.{g}": features[-1], f"counts.{g}": events.sum(0),
                f"first.{g}": np.where(happened.any(0), happened.argmax(0) + 1, -1),
                f"last.{g}": np.where(happened.any(0), len(steps) - happened[::-1].argmax(0), -1),
            }  # fmt: skip
        return row


def assert_same(tracker: EpisodeTracker, plain: Plain) -> None:
    assert tracker.finished == len(plain.finished)
    kept = plain.finished[-WINDOW:]
    for name in tracker.ring:
        recent = tracker.recent(name)
        assert len(recent) == len(kept)
        for row, expected in zip(recent, kept, strict=True):
            np.testing.assert_array_equal(row, np.asarray(expected[name]).astype(row.dtype), err_msg=name)
    for env, steps in enumerate(plain.running):
        assert tracker.running["length"][env] == len(steps)
        if steps:
            told = plain.told(steps)
            assert tracker.running["return"][env] == told["returns"]
            for name in (name for name in tracker.running if "." in name or name == "at_once"):
                np.testing.assert_array_equal(tracker.running[name][env], told[name].astype(np.float32), err_msg=name)
    for kind in range(GROUPS[0][3]):
        after = plain.after.get(kind, [])
        assert tracker.after_event["count"][kind] == len(after)
        for i, states in list(enumerate(after))[-AFTER_EVENT:]:
            for g, state in enumerate(states):
                np.testing.assert_array_equal(tracker.after_event[f"features.{g}"][kind, i % AFTER_EVENT], state)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 9), envs=st.integers(1, 4), ends=st.sampled_from([0, 0.2, 1]))
def test_rollouts_are_followed_as_the_plain_way_does(seed: int, length: int, envs: int, ends: float) -> None:
    rng = np.random.default_rng(seed)
    tracker, plain = EpisodeTracker(spec(), envs), Plain(envs)
    for _ in range(4):
        found, before = rollout(rng, length, envs, ends), len(plain.finished)
        returns, successes = tracker.add(found)
        plain.add(found)
        new = plain.finished[before:]
        assert returns.tolist() == [np.float32(row["returns"]) for row in new]
        assert successes.tolist() == [row["successes"] for row in new]
        assert_same(tracker, plain)


def test_more_episodes_than_are_kept_end_in_one_rollout() -> None:
    rng = np.random.default_rng(5)
    tracker, plain = EpisodeTracker(spec(), 70), Plain(70)
    for ends in (0.3, 0.9, 1.0):
        found = rollout(rng, 10, 70, ends)
        returns, _ = tracker.add(found)
        plain.add(found)
        assert_same(tracker, plain)
    assert len(returns) == WINDOW < 700


def test_a_distance_of_one_agent_alone_is_no_distance_of_the_team() -> None:
    groups = spec().groups
    alone = FeatureSpec(name="alone", kind="distance", low=0, high=9)
    carrier = groups[1].model_copy(update={"features": (*groups[1].features, alone)})
    (shared,) = team_distances(spec().model_copy(update={"groups": (groups[0], carrier)}))
    assert (shared.name, shared.agents, shared.limit, shared.columns) == ("f0", 3, -0.5, ((0, 0), (1, 0)))


def test_a_state_of_an_older_version_is_taken_over_without_what_it_lacks() -> None:
    tracker, older = EpisodeTracker(spec(), 2), EpisodeTracker(spec(), 2)
    older.add(rollout(np.random.default_rng(2), 5, 2, 0.5))
    lacks = ("running.last.0", "ring.last.0", "running.at_once", "ring.at_once")
    tracker.load_state_dict({k: v for k, v in older.state_dict().items() if k not in lacks})
    assert tracker.finished == older.finished > 0
    assert (tracker.recent("last.0") == -1).all() and (tracker.recent("at_once") == 0).all()
    np.testing.assert_array_equal(tracker.recent("first.0"), older.recent("first.0"))


def test_a_snapshot_of_a_version_that_kept_no_first_states_loads() -> None:
    """Of what began before nobody knows them; of what begins later they are known."""
    rng = np.random.default_rng(2)
    tracker, again = EpisodeTracker(spec(), 3), EpisodeTracker(spec(), 3)
    for one in (tracker, again):
        one.add(rollout(rng, 6, 3, 0.3))
    older = {k: v for k, v in tracker.state_dict().items() if "first_state" not in k and "after_event" not in k}
    again.load_state_dict(older)
    assert not again.after_event["count"].any()
    again.add(rollout(rng, 1, 3, 1.0))
    again.add(rollout(rng, 1, 3, 1.0))
    known = np.isfinite(again.recent("first_state.0")).all((1, 2))
    assert known.tolist() == [False] * (len(known) - 3) + [True] * 3
    with pytest.raises(KeyError):
        again.load_state_dict({k: v for k, v in older.items() if k != "ring.last_state.0"})


@pytest.mark.parametrize("name", ["return", "low.0", "first.0", "last.0", "at_once"])
def test_an_ended_episode_leaves_nothing_behind(name: str) -> None:
    tracker, fresh = EpisodeTracker(spec(), 2), EpisodeTracker(spec(), 2)
    tracker.add(rollout(np.random.default_rng(1), 3, 2, 1.0))
    assert tracker.running[name].tobytes() == fresh.running[name].tobytes()
