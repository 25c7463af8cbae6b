"""Pairs from play: labels, determinism, and observations that are those of the batch that trains."""

from __future__ import annotations

import numpy as np
import pytest
from cosignal.errors import PreferenceError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.preferences.collect import collect_pairs
from cosignal.rl.preferences.key_steps import key_steps
from cosignal.rl.preferences.pairs import NOT_JUDGED
from cosignal.rl.task import ActionArray, Step

TWO_SWITCH = TaskConfig(name="two_switch")


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [("two_switch", (0.60, 0.70), (0.14, 0.20)), ("victim_rubble", (0.46, 0.70), (0.08, 0.20))],
)
def test_the_mix_of_labels_is_about_that_of_play_that_is_half_random_in_every_step(
    name: str, better: tuple[float, float], worse: tuple[float, float]
) -> None:
    config = TaskConfig.model_validate({"name": name})
    counts = [1500] if name == "two_switch" else [1000, 1000]
    for pairs in collect_pairs(config, counts, 1).pairs:
        assert better[0] < (pairs.label == 1).mean() < better[1]
        assert worse[0] < (pairs.label == -1).mean() < worse[1]
        assert (pairs.action != 0).all()  # nobody stays


def test_the_same_arguments_give_the_same_pairs() -> None:
    one, other, third = (collect_pairs(TWO_SWITCH, [60], seed) for seed in (4, 4, 5))
    assert (one.pairs[0].ids(), one.steps, one.pairs[0].before) == (
        other.pairs[0].ids(),
        other.steps,
        other.pairs[0].before,
    )
    assert one.pairs[0].ids() != third.pairs[0].ids()


def test_a_policy_is_followed_and_what_nobody_judges_is_said() -> None:
    def act(step: Step) -> list[ActionArray]:
        return [np.full(x.shape[:-1], 1) for x in step.obs]

    [pairs] = collect_pairs(TWO_SWITCH, [50], 1, act, share_random=(0.0, 0.0)).pairs
    assert set(pairs.action.tolist()) == {1}
    walk = TaskConfig(env="small_tasks:Walk")
    assert (collect_pairs(walk, [20], 1, act).pairs[0].label == NOT_JUDGED).all()
    with pytest.raises(PreferenceError, match="needs the task's heuristic"):
        collect_pairs(walk, [20], 1)


def test_key_steps_are_the_rewarded_moments_in_order() -> None:
    told, steps = key_steps(TWO_SWITCH, 1)
    assert len(told) == 3
    assert "triggered a switch" in told[0]
    assert "goal" in told[2]
    assert steps > 0


def test_agents_act_at_random_in_the_share_of_steps_that_is_asked_for() -> None:
    """The policy always turns left, which is action 1; a random move is one of five, and staying makes no pair."""

    def act(step: Step) -> list[ActionArray]:
        return [np.ones(step.obs[0].shape[:2], np.int64)]

    [half] = collect_pairs(TWO_SWITCH, [4000], 1, act, share_random=(0.5, 0.5)).pairs
    left = 0.5 + 0.5 / 5
    assert (half.action == 1).mean() == pytest.approx(left / (left + 0.5 * 3 / 5), abs=0.03)
    [mixed] = collect_pairs(TWO_SWITCH, [4000], 1, act).pairs  # the same on average
    assert (mixed.action == 1).mean() == pytest.approx(left / (left + 0.5 * 3 / 5), abs=0.06)


def test_random_actions_are_allowed_ones() -> None:
    """Walkers that go forward but when they act at random; there is no step back from the line's start."""

    def act(step: Step) -> list[ActionArray]:
        assert step.masks is not None
        return [np.full(o.shape[:2], 2) for o in step.obs]

    [pairs] = collect_pairs(TaskConfig(env="small_tasks:Walk"), [300], 3, act, share_random=(1.0, 1.0)).pairs
    back = pairs.action == 1
    assert back.any() and (pairs.obs[back, 0] > 0).all()


def test_spread_out_a_move_is_kept_once_where_others_suffice() -> None:
    """A policy that is stuck in a corner makes the same few moves over and over."""

    def act(step: Step) -> list[ActionArray]:
        return [np.full(x.shape[:-1], 3) for x in step.obs]  # straight on, into the wall

    def known(spread: int, count: int = 100) -> int:
        found = collect_pairs(TWO_SWITCH, [count], 1, act, share_random=(0.0, 0.2), spread=spread).pairs[0]
        assert len(found) == count
        return len({(row.tobytes(), action) for row, action in zip(found.obs, found.action.tolist(), strict=True)})

    assert known(1) < 80
    assert known(12) == 100
    assert known(2, 1500) < 1500  # there are not as many: the rest was seen before
