from __future__ import annotations

from cosignal.rl.signals.signal import (
    EventTerm,
    Exploration,
    PotentialTerm,
    Signal,
    describe_difference,
    describe_signal,
)

NEAR = PotentialTerm(name="near", expression="-dist / 12")
HIT = EventTerm(name="hit", event="switch_triggered", weight=0.1, agents=["a", "b"])


def test_equal_signals_have_no_difference() -> None:
    one = Signal(version=1, terms=(NEAR,))
    assert describe_difference(one, Signal(version=2, parent=1, terms=(NEAR,))) == []


def test_terms_that_enter_leave_and_change() -> None:
    assert describe_difference(Signal(), Signal(beta=0.8, terms=(NEAR, HIT))) == [
        "~ beta 0.5 → 0.8",
        "+ potential near: -dist / 12 (weight 1)",
        "+ event hit: each switch_triggered (weight 0.1, decays over 300000 steps, for a b)",
    ]
    old = Signal(scale=1.0, terms=(NEAR, HIT))
    new = Signal(scale=2.5, terms=(NEAR.model_copy(update={"weight": 0.25}),))
    assert describe_difference(old, new) == [
        "~ scale 1 → 2.5",
        "- event hit: each switch_triggered (weight 0.1, decays over 300000 steps, for a b)",
        "~ potential near: weight 1 → 0.25",
    ]


def test_a_changed_expression_is_shown_twice() -> None:
    new = Signal(terms=(NEAR.model_copy(update={"expression": "-dist"}),))
    assert describe_difference(Signal(terms=(NEAR,)), new) == [
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
    assert describe_signal(Signal(scale=3.21987, terms=(NEAR,))) == [
        "beta 0.5, scale 3.22",
        "potential near: -dist / 12 (weight 1)",
    ]
