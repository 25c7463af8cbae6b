"""What the same signal means, which signals only take away from another, and how signals read."""

from __future__ import annotations

from typing import Any

import pytest
from cosignal.rl.signals.learner_settings import LearnerSettings
from cosignal.rl.signals.signal import Exploration, Signal, describe_difference, describe_signal, is_removal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm

NEAR = PotentialTerm(name="near", expression="-dist / 10")
BONUS = EventTerm(name="found", event="found", weight=0.1)
BOTH = Signal(version=3, scale=2.0, beta=0.5, terms=(NEAR, BONUS))
PLAIN = Signal(scale=1.0)


def signal(*terms: Any, **more: Any) -> Signal:
    return Signal(**{"beta": 0.5, "terms": terms, **more})


def changed(term: Any, **more: Any) -> Any:
    return term.model_copy(update=more)


# ------------------------------------------------------------ the same signal


SENSES = {
    "content_hash": Signal.content_hash,
    "proposal_hash": Signal.proposal_hash,
    "shape_hash": Signal.shape_hash,
    "shapes_like": lambda s: s.shapes_like(BOTH),
}


@pytest.mark.parametrize(
    ("changes", "different_by"),
    [
        ({"version": 9, "parent": 8, "stage": "improving"}, set()),
        ({"scale": 7.0}, {"content_hash"}),
        ({"exploration": Exploration(kick=0.1)}, {"content_hash", "proposal_hash"}),
        ({"learner": LearnerSettings(lr=1e-4)}, {"content_hash", "proposal_hash"}),
        ({"beta": 0.7}, {"content_hash", "proposal_hash", "shapes_like"}),
        ({"terms": (BONUS, NEAR)}, {"content_hash", "proposal_hash", "shapes_like"}),
        ({"terms": (changed(NEAR, name="other"), BONUS)}, {"content_hash", "proposal_hash", "shapes_like"}),
        ({"terms": (changed(NEAR, expression="- dist/10"), BONUS)}, {"content_hash", "proposal_hash", "shapes_like"}),
        ({"terms": (changed(NEAR, weight=0.9), BONUS)}, set(SENSES)),
    ],
)
def test_the_senses_in_which_signals_are_the_same(changes: dict[str, Any], different_by: set[str]) -> None:
    other = BOTH.model_copy(update=changes)
    assert {name for name, of in SENSES.items() if of(other) != of(BOTH)} == different_by


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a  and not b", " a and not  b ", True),
        ("( a )or( b )", "(a) or (b)", True),
        ("min( a , b ) if c else - 1", "min(a,b) if c else -1", True),
        ("a and b", "aandb", False),  # a feature
        ("not b", "notb", False),
        ("1 if a else b", "1 if a elseb", False),
    ],
)
def test_spaces_count_between_words_only(one: str, other: str, same: bool) -> None:
    hashes = {signal(changed(NEAR, expression=text)).shape_hash() for text in (one, other)}
    assert (len(hashes) == 1) == same


# ------------------------------------------------------------ removals


@pytest.mark.parametrize(
    ("s", "removal"),
    [
        (signal(), True),
        (signal(beta=2.0), True),  # without terms beta says nothing
        (signal(NEAR), True),
        (signal(NEAR, learner=LearnerSettings(lr=1e-4)), False),  # another way to learn is something new
        (signal(BONUS, NEAR, beta=0.4), True),
        (signal(changed(NEAR, weight=0.2), BONUS), True),
        (signal(changed(NEAR, weight=0.0)), True),
        (signal(NEAR, BONUS), False),  # the same
        (signal(NEAR, beta=0.6), False),
        (signal(changed(NEAR, weight=1.5)), False),
        (signal(changed(NEAR, weight=-0.5)), False),
        (signal(changed(NEAR, expression="-dist")), False),
        (signal(changed(NEAR, agents="scouts")), False),
        (signal(changed(BONUS, decay_steps=9999)), False),
        (signal(changed(NEAR, name="other")), False),
        (signal(NEAR, exploration=Exploration(kick=0.1)), False),
        (signal(exploration=Exploration(entropy=0.1)), False),
    ],
)
def test_is_removal(s: Signal, removal: bool) -> None:
    assert is_removal(s, BOTH) is removal


def test_there_is_nothing_to_remove_from_a_plain_signal() -> None:
    assert not is_removal(signal(), PLAIN)


def phi(**more: Any) -> PotentialTerm:
    return PotentialTerm(**{"name": "phi", "expression": "dist", "weight": 2, **more})


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (phi(anneal_steps=50_000), phi(), True),
        (phi(anneal_steps=50_000, weight=1), phi(), True),
        (phi(anneal_steps=20_000), phi(anneal_steps=50_000), True),
        (phi(anneal_steps=80_000), phi(anneal_steps=50_000), False),
        (phi(), phi(anneal_steps=50_000), False),  # it stays for good
        (phi(anneal_steps=50_000, weight=3), phi(), False),
        (phi(anneal_steps=50_000, weight=-1), phi(), False),
        (phi(anneal_steps=50_000, expression="seen"), phi(), False),
    ],
)
def test_annealing_only_takes_away(new: PotentialTerm, old: PotentialTerm, expected: bool) -> None:
    assert is_removal(Signal(terms=(new, BONUS)), Signal(terms=(old, BONUS))) is expected


def test_nothing_left_is_a_removal_and_nothing_changed_is_none() -> None:
    annealing = Signal(terms=(phi(anneal_steps=50_000),))
    assert is_removal(Signal(), annealing)
    assert not is_removal(annealing, annealing)


# ------------------------------------------------------------ in words

FAR = PotentialTerm(name="near", expression="-dist / 12")
HIT = EventTerm(name="hit", event="switch_triggered", weight=0.1, agents=["a", "b"])


def test_equal_signals_have_no_difference() -> None:
    one = Signal(version=1, terms=(FAR,))
    assert describe_difference(one, Signal(version=2, parent=1, terms=(FAR,))) == []


def test_terms_that_enter_leave_and_change() -> None:
    assert describe_difference(Signal(), Signal(beta=0.8, terms=(FAR, HIT))) == [
        "~ beta 0.5 → 0.8",
        "+ potential near: -dist / 12 (weight 1)",
        "+ event hit: each switch_triggered (weight 0.1, decays over 300000 steps, for a b)",
    ]
    old = Signal(scale=1.0, terms=(FAR, HIT))
    new = Signal(scale=2.5, terms=(FAR.model_copy(update={"weight": 0.25}),))
    assert describe_difference(old, new) == [
        "~ scale 1 → 2.5",
        "- event hit: each switch_triggered (weight 0.1, decays over 300000 steps, for a b)",
        "~ potential near: weight 1 → 0.25",
    ]


def test_a_changed_expression_is_shown_twice() -> None:
    new = Signal(terms=(FAR.model_copy(update={"expression": "-dist"}),))
    assert describe_difference(Signal(terms=(FAR,)), new) == [
        "- potential near: -dist / 12 (weight 1)",
        "+ potential near: -dist (weight 1)",
    ]


def test_exploration() -> None:
    kicked = Signal(exploration=Exploration(entropy=0.05, kick=0.05))
    assert describe_difference(Signal(), kicked) == [
        "~ entropy the trainer's own → 0.05",
        "+ exploration kick: actor head × 0.05",
    ]
    assert describe_difference(kicked, Signal()) == ["~ entropy 0.05 → the trainer's own"]


def test_a_whole_signal() -> None:
    assert describe_signal(Signal()) == ["no shaping"]
    assert describe_signal(Signal(scale=3.21987, terms=(FAR,))) == [
        "beta 0.5, scale 3.22",
        "potential near: -dist / 12 (weight 1)",
    ]


# ------------------------------------------------------------ how policies learn


def test_settings_of_the_learner_last_and_are_told() -> None:
    apart, slow = LearnerSettings(share_parameters=False), LearnerSettings(lr=1e-4)
    assert slow.over(apart) == LearnerSettings(share_parameters=False, lr=1e-4)
    assert LearnerSettings().over(slow) == slow
    assert describe_signal(signal(learner=apart.over(slow))) == [
        "no shaping", "learner: share_parameters false", "learner: lr 0.0001"
    ]  # fmt: skip
    assert describe_difference(signal(learner=apart), signal(learner=slow.over(apart))) == ["~ learner: lr 0.0001"]
    # what was withdrawn does not come back by another setting, and without terms the setting is all that there is
    assert signal(NEAR, learner=apart).shape_hash() == signal(NEAR).shape_hash()
    assert signal(learner=apart).shape_hash() != signal().shape_hash()
    # what signals of older versions were known by stays
    assert "learner" not in signal().model_dump()
