"""Similarity to a goal state, and team spirit: by hand, as laws, and both as potentials."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm, SimilarityTerm, Term
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, TaskSpec
from hypothesis import given
from hypothesis import strategies as st
from made_up_transitions import MadeUpTransitions
from pydantic import TypeAdapter

FEATURES = (
    FeatureSpec(name="open", kind="flag", low=0, high=1, object="door"),
    FeatureSpec(name="far", kind="distance", low=0, high=20, object="door"),
    FeatureSpec(name="gold", kind="count", low=0, high=4),
)
GROUP = GroupSpec(
    name="team", agents=("one", "other"), obs_size=1, n_actions=2, features=FEATURES, events=(EventSpec(name="found"),)
)
SPEC = TaskSpec(name="made_up", description="", groups=(GROUP,), return_range=(0.0, 10.0), max_steps=30)
DOOR = {"name": "door", "attributes": [{"feature": "open", "goal": 1}, {"feature": "far", "goal": 0}]}
GOLD = {"name": "gold", "weight": 0.5, "attributes": [{"feature": "gold", "goal": 4}]}
TERM = SimilarityTerm.model_validate({"name": "goal", "objects": [DOOR, GOLD]})


def compiled(*terms: Term) -> CompiledSignal:
    return CompiledSignal(Signal(beta=1.0, scale=1.0, terms=terms), SPEC)


def phi(term: Term, one: list[float], other: list[float]) -> list[float]:
    values: list[float] = compiled(term).potential([np.array([one, other], np.float32)])[0].tolist()
    return values


def test_by_hand() -> None:
    # the door: (0 + 0.5) / 2 = 0.25 and 1; the gold: 0.5 and 1, which counts half: (0.25 + 0.25) / 1.5
    assert phi(TERM, [0, 10, 2], [1, 0, 4]) == pytest.approx([1 / 3, 1.0])
    assert TERM.describe() == "similarity goal: to door (open 1, far 0); gold × 0.5 (gold 4) (weight 1)"


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=3))
def test_it_lies_in_0_to_1_and_is_1_at_the_goal_only(state: list[float]) -> None:
    (value, at_goal) = phi(TERM, state, [1, 0, 4])
    assert 0 <= value <= 1 == at_goal
    if max(abs(x - y) for x, y in zip(state, [1, 0, 4], strict=True)) > 0.01:
        assert value < 1


def test_it_needs_its_features_and_goes_through_json() -> None:
    wrong = {"name": "x", "attributes": [{"feature": "opened", "goal": 1}]}
    with pytest.raises(SignalError, match="reads feature 'opened', which this task does not have; did you mean 'open'"):
        compiled(SimilarityTerm.model_validate({"name": "goal", "objects": [wrong]}))
    adapter: TypeAdapter[Term] = TypeAdapter(Term)
    assert adapter.validate_python(json.loads(TERM.model_dump_json())) == TERM


# ------------------------------------------------------------ team spirit


@pytest.mark.parametrize(("spirit", "expected"), [(0.0, [0.2, 1.0]), (0.5, [0.4, 0.8]), (1.0, [0.6, 0.6])])
def test_team_spirit_shares_the_mean(spirit: float, expected: list[float]) -> None:
    term = PotentialTerm(name="phi", expression="far / 20", team_spirit=spirit)
    assert phi(term, [0, 4, 0], [0, 20, 0]) == pytest.approx(expected)
    events = np.zeros((2, 1), np.float32)
    events[0] = 1
    bonus = EventTerm(name="found", event="found", weight=1.0, team_spirit=spirit)
    transition = MadeUpTransitions(
        [np.zeros((2, 3), np.float32)], [np.zeros((2, 3), np.float32)], [events], np.zeros(())
    )
    assert compiled(bonus).shape(transition, 0.9).total[0] == pytest.approx([1 - spirit / 2, spirit / 2])


def test_others_get_nothing_of_it_and_another_spirit_is_another_potential() -> None:
    alone = PotentialTerm(name="phi", expression="far / 20", team_spirit=1.0, agents=["one"])
    assert phi(alone, [0, 4, 0], [0, 20, 0]) == pytest.approx([0.2, 0])
    keys = {alone.model_copy(update={"team_spirit": x}).potential_key for x in (0.0, 0.5, 1.0)}
    assert len(keys) == 3
