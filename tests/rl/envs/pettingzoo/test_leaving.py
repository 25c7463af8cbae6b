"""Agents that leave before the others: noticed in the step in which they go, however an environment shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from cosignal import EventSpec, FeatureSpec, Task
from cosignal.errors import ConfigError
from cosignal.rl.envs.pettingzoo.batch import PettingZooTask
from cosignal.rl.evidence.build import build_evidence
from cosignal.rl.training.line import TrainingLine
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from pettingzoo import ParallelEnv
from training_lines import small_config

MARGIN_BUDGET = 10_000


class Leaver(ParallelEnv):  # type: ignore[misc]
    """`a` leaves in step `leave`, `b` and the episode end in step `end`. Both see the step and the episode's number."""

    metadata: ClassVar[dict[str, Any]] = {"name": "leaver"}

    def __init__(self, leave: int = 3, end: int = 6, last_seen: bool = True, zero_masks: bool = False) -> None:
        self.possible_agents = ["a", "b"]
        self.leave, self.end, self.last_seen, self.zero_masks = leave, end, last_seen, zero_masks
        self.episode = 0

    def observation_space(self, agent: str) -> Box:
        return Box(0, 100, (2,))

    def action_space(self, agent: str) -> Discrete:
        return Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.agents, self.t, self.episode = list(self.possible_agents), 0, (seed or 0) % 50
        return self._told(self.agents)

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        assert set(actions) == set(self.agents)
        self.t += 1
        acted = list(self.agents)
        gone = {agent: self.t >= (self.leave if agent == "a" else self.end) for agent in acted}
        self.agents = [agent for agent in acted if not gone[agent]]
        observed, infos = self._told(acted if self.last_seen else self.agents)
        return observed, dict.fromkeys(acted, 0.0), gone, dict.fromkeys(acted, False), infos

    def _told(self, agents: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        seen = {agent: np.array([self.t + 1, self.episode], np.float32) for agent in agents}
        infos: dict[str, Any] = {agent: {"scored": self.t} for agent in agents}
        if self.zero_masks:
            infos = {a: info | {"action_mask": [int(a in self.agents)] * 3} for a, info in infos.items()}
        return seen, infos


class LeaverTask(Task):
    """Its features need a living agent, and its events an info."""

    def __init__(self, **options: Any) -> None:
        super().__init__(Leaver(**options))

    def feature_specs(self, agent: Any) -> list[FeatureSpec]:
        return [FeatureSpec(name="t", kind="count", low=0, high=100)]

    def features(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, float]:
        assert agent in self.env.agents or not self.env.agents, "asked about somebody who has left"
        return {"t": self.env.t}

    def event_specs(self, agent: Any) -> list[EventSpec]:
        return [EventSpec(name="acted")]

    def events(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, int]:
        return {"acted": 1 if not self.env.last_seen else info["scored"] > 0}


def steps(task: PettingZooTask, number: int) -> Any:
    for _ in range(number):
        step = task.step([np.zeros((task.num_envs, len(group.agents)), np.int64) for group in task.spec.groups])
    return step


@pytest.mark.parametrize("last_seen", [True, False])
def test_leaving_is_seen_in_the_state_that_it_leads_to(last_seen: bool) -> None:
    task = PettingZooTask(lambda: LeaverTask(last_seen=last_seen), 1)
    before = steps(task, 2)
    assert before.alive[0].tolist() == [[True, True]]
    assert before.events[0][0, :, 0].tolist() == [1, 1]
    left = steps(task, 1)
    assert left.last_alive[0].tolist() == [[False, True]]
    assert left.last_masks[0][0].tolist() == [[True, False, False], [True, True, True]]
    assert left.last_obs[0][0, 0].tolist() == [0, 0]
    assert left.last_features[0][0, :, 0].tolist() == [2, 3]  # its last ones, and those of who is there
    assert left.events[0][0, :, 0].tolist() == [1, 1]  # it acted in that step
    after = steps(task, 1)
    assert after.events[0][0, :, 0].tolist() == [0, 1]
    assert after.last_features[0][0, :, 0].tolist() == [2, 4]


@pytest.mark.parametrize("last_seen", [True, False])
def test_features_of_the_last_episode_are_not_taken_over(last_seen: bool) -> None:
    task = PettingZooTask(lambda: Leaver(1, 3, last_seen), 1)
    steps(task, 3)
    number = task.observe().obs[0][0, 1, 1]
    step = steps(task, 1)
    assert step.last_features[0][0, 0].tolist() == [1, number]  # of this episode's first state


@pytest.mark.parametrize("last_seen", [True, False])
@pytest.mark.parametrize("before", [1, 3, 4, 7])
def test_a_restored_task_knows_who_has_left_and_what_was_last_seen(last_seen: bool, before: int) -> None:
    one, other = (PettingZooTask(lambda: Leaver(3, 6, last_seen), 2) for _ in range(2))
    steps(one, before)
    other.load_state_dict(one.state_dict())
    for name, value in vars(one.observe()).items():
        theirs = getattr(other.observe(), name)
        pairs = zip(value, theirs, strict=True) if isinstance(value, list) else [(value, theirs)]
        assert all(np.array_equal(x, y) for x, y in pairs), name


@pytest.mark.parametrize("leave", [3, 6])
def test_an_empty_mask_of_who_is_done_is_no_fault(leave: int) -> None:
    step = steps(PettingZooTask(lambda: Leaver(leave, 6, zero_masks=True), 1), 6)
    assert step.terminated.all()
    assert step.last_masks[0][0, 1].tolist() == [True, False, False]


def test_an_event_that_does_not_come_is_told() -> None:
    class Forgetful(LeaverTask):
        def events(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, int]:
            return {"acted": info["not there"]}

    with pytest.raises(ConfigError, match="the events of a task must be there"):
        steps(PettingZooTask(Forgetful, 1), 1)


def test_a_promise_that_nobody_leaves_spares_masks_and_is_held_against_who_breaks_it() -> None:
    class Promised(Leaver):
        has_masks = False

    task = PettingZooTask(lambda: Promised(400, 400), 1)
    assert not task.spec.has_masks
    assert task.observe().masks is None
    assert task.observe().alive is None
    with pytest.raises(ConfigError, match="agent 'a' did; take the declaration out"):
        PettingZooTask(Promised, 1)


def test_a_mask_against_the_promise_of_none_is_told() -> None:
    class Promised(LeaverTask):
        has_masks = False

    with pytest.raises(ConfigError, match="but gave agent 'a' an action mask"):
        PettingZooTask(lambda: Promised(zero_masks=True), 1)


def test_agents_whose_spaces_differ_in_kind_are_no_group() -> None:
    class Mixed(Leaver):
        spaces: ClassVar[dict[str, Any]] = {}
        shown: ClassVar[dict[str, Any]] = {}

        def observation_space(self, agent: str) -> Any:
            return self.spaces[agent]

        def _told(self, agents: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
            return {agent: self.shown[agent] for agent in agents}, {agent: {} for agent in agents}

    box, seen = Box(0, 1, (3,)), np.zeros(3, np.float32)
    masked = Dict({"observation": box, "action_mask": MultiBinary(3)})
    for other, shown in ((Discrete(3), 1), (masked, {"observation": seen, "action_mask": [1, 1, 0]})):
        Mixed.spaces, Mixed.shown = {"a": box, "b": other}, {"a": seen, "b": shown}
        assert len(PettingZooTask(lambda: Mixed(9, 9), 1).spec.groups) == 2


class TwoGroups(LeaverTask):
    def __init__(self) -> None:
        super().__init__(leave=3, end=200)

    def groups(self) -> Mapping[str, Any]:
        return {"first": ["a"], "second": ["b"]}


def test_a_group_that_is_gone_for_a_whole_rollout_leaves_numbers_behind() -> None:
    config = small_config(envs=2, rollout=16)
    line = TrainingLine(config.model_copy(update={"task": config.task.model_copy(
        update={"name": None, "env": f"{__name__}:TwoGroups", "n_max": None}
    )}))  # fmt: skip
    for _ in range(3):
        line.update()
        assert np.isfinite(line.history[-1]["no_effect"]).all()
        assert np.isfinite(line.history[-1]["entropy"]).all()
    evidence = build_evidence(line, MARGIN_BUDGET)
    assert type(evidence).model_validate_json(evidence.model_dump_json()) == evidence


class Odd(Leaver):
    """`what` goes wrong in the fourth step."""

    def __init__(self, what: str) -> None:
        super().__init__(20, 20)
        self.what = what

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        observed, rewards, *rest = super().step(actions)
        if self.t == 4:
            observed["a"] = {"nan": observed["a"] * np.nan, "short": observed["a"][:1]}.get(self.what, observed["a"])
            rewards["b"] = np.inf if self.what == "pay" else 0.0
        return (observed, rewards, *rest)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan", r"agent 'a' of 'leaver' observes \[nan, nan\] \(number 0 is not.*\(in step 4 of .* reset seed 0\)"),
        ("short", r"agent 'a' of 'leaver' observes \(1,\), its space says \(2,\)"),
        ("pay", r"rewards must be finite and at most 1e\+15, 'leaver' paid agent 'b' inf"),
    ],
)
def test_what_would_spoil_every_weight_from_the_start_is_refused_with_its_place(what: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PettingZooTask(lambda: Odd(what), 1)


def test_an_event_under_an_undeclared_name_is_told() -> None:
    class Typo(LeaverTask):
        def events(self, agent: Any, info: Mapping[str, Any]) -> Mapping[str, int]:
            return {"actd": 1}

    with pytest.raises(ConfigError, match=r"gave agent 'a' \['actd'\]; correct the name"):
        steps(PettingZooTask(Typo, 1), 1)


def test_a_success_test_is_found_at_an_episodes_end_and_in_a_task_of_ones_own() -> None:
    class AtTheEnd(Leaver):
        def _told(self, agents: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
            observed, infos = super()._told(agents)
            return observed, infos if self.agents else {
                agent: info | {"success": True} for agent, info in infos.items()
            }

    class Own(LeaverTask):
        def success(self, infos: Any) -> bool:
            return True

    assert not PettingZooTask(lambda: Leaver(9, 30), 1).spec.has_success
    assert PettingZooTask(lambda: AtTheEnd(9, 30), 1).spec.has_success
    assert PettingZooTask(Own, 1).spec.has_success
