"""What counts as moving toward reward, and what does not however it is pushed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.rl.branches.movement import LEVEL, Reached, moved, paid_by, pooled, shares
from cosignal.rl.ipc.messages import EpisodeStats
from cosignal.rl.signals.signal import Signal
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, TaskSpec
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats


def feature(name: str, kind: Any) -> FeatureSpec:
    return FeatureSpec(name=name, kind=kind, low=0, high=10)


# Two rooms: a key opens the second one, where an altar is charged before the exit pays. The lever leads nowhere.
ROOMS = TaskSpec(
    name="rooms",
    description="",
    groups=(
        GroupSpec(
            name="agents",
            agents=("a", "b", "c"),
            obs_size=4,
            n_actions=3,
            features=(
                feature("x", "position"),
                feature("dist_altar", "distance"),
                feature("dist_mate", "distance"),
                feature("has_key", "flag"),
            ),
            events=(
                EventSpec(name="key_taken"),
                EventSpec(name="altar_charged"),
                EventSpec(name="exit_reached", reward=1),
                EventSpec(name="lever_pulled"),
                EventSpec(name="turned", repeatable=True),
                EventSpec(name="fell", reward=-1),
            ),
        ),
    ),
)
NOTHING: frozenset[str] = frozenset()


def potential(expression: str) -> dict[str, Any]:
    return {"name": "p", "kind": "potential", "expression": expression}


def signal(*terms: dict[str, Any]) -> Signal:
    return Signal.model_validate({"terms": terms})


def episodes(n: int, **reached: list[int]) -> EpisodeStats:
    names = {name.replace("__", " "): counts for name, counts in reached.items()}
    return EpisodeStats(returns=[0.0] * n, successes=None, lengths=[1] * n, reached=names, steps=n)


def look(n: int = 32, **found: float) -> Reached:
    return Reached({name.replace("__", " "): share for name, share in found.items()}, n)


# ------------------------------------------------------------ shares


def test_shares_of_episodes_not_counts() -> None:
    # 4 episodes: 0, 1, 2 and 9 keys; an altar never; at most two agents at it
    found = shares(episodes(4, key_taken=[0, 1, 2, 9], altar_charged=[0, 0, 0, 0], at__dist_altar=[2, 1, 2, 0]))
    assert found == {
        "key_taken": 0.75,
        "key_taken ×2": 0.5,
        "key_taken ×3": 0.25,
        "key_taken ×4": 0.25,
        "at dist_altar": 0.75,
        "at dist_altar ×2": 0.5,
    }


def test_pooled_looks_weigh_their_episodes() -> None:
    both = pooled([Reached({"key_taken": 0.5}, 32), Reached({"key_taken": 0.25, "altar_charged": 0.5}, 64)])
    assert both == Reached({"altar_charged": 32 / 96, "key_taken": 32 / 96}, 96)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_more_often_is_never_more_frequent(counts: list[int]) -> None:
    found = shares(episodes(len(counts), key_taken=counts))
    values = [found.get(name, 0.0) for name in ("key_taken", "key_taken ×2", "key_taken ×3", "key_taken ×4")]
    assert values == sorted(values, reverse=True)
    assert values == [sum(count >= k for count in counts) / len(counts) for k in range(1, 5)]


# ------------------------------------------------------------ what is paid for

PLACES = {"at dist_altar", "at dist_mate"}


@pytest.mark.parametrize(
    ("terms", "paid"),
    [
        ([], set()),
        ([{"name": "e", "kind": "event", "event": "key_taken"}], {"key_taken"}),
        ([{"name": "e", "kind": "event", "event": "key_taken", "weight": -0.1}], {"key_taken"}),
        ([potential("-dist_altar / 10")], PLACES),
        ([potential("-mean_mates(dist_altar)")], PLACES),
        ([potential("-x")], PLACES),  # a corner: near whatever is near it
        ([potential("has_key")], set()),
        ([{"name": "s", "kind": "learned", "scorer": "0" * 16, "agents": "agents"}], PLACES),
        ([{"name": "s", "kind": "decomposition", "scorer": "0" * 16, "agents": "agents"}], PLACES),
        ([potential("-x"), {"name": "e", "kind": "event", "event": "turned"}], PLACES | {"turned"}),
    ],
)
def test_what_a_signal_pays_for(terms: list[dict[str, Any]], paid: set[str]) -> None:
    assert paid_by(signal(*terms), ROOMS) == paid


# ------------------------------------------------------------ movement

CONTROL = look(128, key_taken=0.5, turned=1.0)


def test_a_rare_event_moves() -> None:
    assert moved(look(key_taken=1.0, altar_charged=0.47), CONTROL, NOTHING, ROOMS) == ["altar_charged"]


def test_what_is_frequent_in_the_control_does_not_move() -> None:
    assert moved(look(key_taken=1.0), CONTROL, NOTHING, ROOMS) == []
    assert moved(look(key_taken=1.0), look(128, key_taken=0.11), NOTHING, ROOMS) == []
    assert moved(look(key_taken=1.0), look(128, key_taken=0.1), NOTHING, ROOMS) == ["key_taken"]


def test_significance_by_hand() -> None:
    # 3 of 32 against 0 of 96: C(32, 3) / C(128, 3) = 4960 / 341376 = 0.0145; 4 of 32: 35960 / 10668000 = 0.0034
    control = look(96)
    assert moved(look(altar_charged=3 / 32), control, NOTHING, ROOMS) == []
    assert moved(look(altar_charged=4 / 32), control, NOTHING, ROOMS) == ["altar_charged"]
    # With a second rare milestone the level is halved: 0.0034 is still below 0.005; with a third one it is not.
    few = {"exit_reached": 1 / 32}
    assert moved(look(altar_charged=4 / 32, **few), control, NOTHING, ROOMS) == ["altar_charged"]
    assert moved(look(altar_charged=4 / 32, lever_pulled=1 / 32, **few), control, NOTHING, ROOMS) == []


def test_a_milestone_that_only_the_control_reached_counts_as_none() -> None:
    assert moved(look(), look(128, altar_charged=0.1), NOTHING, ROOMS) == []


def test_deepest_first() -> None:
    control = look(128, altar_charged=0.05)
    arm = look(altar_charged=0.6, exit_reached=0.3, lever_pulled=0.4)
    assert moved(arm, control, NOTHING, ROOMS) == ["exit_reached", "lever_pulled", "altar_charged"]


def test_several_agents_at_one_target_move() -> None:
    arm = Reached({"at dist_altar": 1.0, "at dist_altar ×2": 0.8, "at dist_altar ×3": 0.5}, 32)
    assert moved(arm, look(64), NOTHING, ROOMS) == ["at dist_altar ×3", "at dist_altar ×2"]
    # One agent somewhere is no movement.
    assert moved(Reached({"at dist_altar": 1.0}, 32), look(64), NOTHING, ROOMS) == []


def test_the_level_holds_for_policies_alike() -> None:
    # Four milestones at shares of 0 to 0.1, the same in both: the share of looks with any movement is below the level.
    rng = np.random.default_rng(0)
    names = ["key_taken", "altar_charged", "exit_reached", "lever_pulled"]
    truth = np.array([0.02, 0.05, 0.08, 0.1])
    found = 0
    for _ in range(2000):
        arm, control = rng.binomial(32, truth) / 32, rng.binomial(128, truth) / 128
        found += bool(
            moved(
                Reached(dict(zip(names, arm.tolist(), strict=True)), 32),
                Reached(dict(zip(names, control.tolist(), strict=True)), 128),
                NOTHING,
                ROOMS,
            )
        )
    assert found <= stats.binom.ppf(0.999, 2000, LEVEL)


# ------------------------------------------------------------ adversaries


def test_a_farmed_event_is_no_movement() -> None:
    paid = paid_by(signal({"name": "e", "kind": "event", "event": "lever_pulled"}), ROOMS)
    flood = Reached({f"lever_pulled{k}": 1.0 for k in ("", " ×2", " ×3", " ×4")}, 32)
    assert moved(flood, CONTROL, paid, ROOMS) == []
    # The same policy under a signal that does not pay for it would count: the twin that must differ.
    assert moved(flood, CONTROL, NOTHING, ROOMS)


def test_what_is_paid_for_counts_beside_something_deeper() -> None:
    paid = frozenset({"key_taken"})
    control = look(128, key_taken=0.05)
    assert moved(look(key_taken=1.0), control, paid, ROOMS) == []
    assert moved(look(key_taken=1.0, altar_charged=0.5), control, paid, ROOMS) == ["altar_charged", "key_taken"]
    # Unpaid but shallower: it counts, what is paid for does not.
    shallow = look(128, altar_charged=0.05)
    assert moved(look(key_taken=1.0, altar_charged=0.5), shallow, paid, ROOMS) == ["altar_charged"]
    # As rare in the control: the rarer one in the arm is the deeper.
    assert moved(look(key_taken=0.6, altar_charged=0.5), look(128), paid, ROOMS) == ["altar_charged", "key_taken"]
    assert moved(look(key_taken=0.5, altar_charged=0.6), look(128), paid, ROOMS) == ["altar_charged"]


@pytest.mark.parametrize("expression", ["-x", "x - mean_mates(x)", "dist_altar", "-dist_mate"])
def test_a_pull_to_some_place_is_no_movement(expression: str) -> None:
    arm = Reached({f"at {name}{k}": 1.0 for name in ("dist_altar", "dist_mate") for k in ("", " ×2", " ×3")}, 32)
    assert moved(arm, CONTROL, paid_by(signal(potential(expression)), ROOMS), ROOMS) == []


@pytest.mark.parametrize("event", ["turned", "fell"])
def test_what_repeats_or_costs_is_no_movement(event: str) -> None:
    arm = Reached({f"{event}{k}": 1.0 for k in ("", " ×2", " ×3", " ×4")}, 32)
    assert moved(arm, look(128), NOTHING, ROOMS) == []
