"""Potentials of an expression: hand-computed values, of agents themselves and of their mates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.errors import ExpressionError
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from cosignal.rl.signals.terms.base import CompiledStateTerm
from cosignal.rl.task import TaskSpec

SCOUTS = np.array([[1.0, 0.0], [4.0, 1.0]], np.float32)  # [agent] (dist, seen)
LIFTER = np.array([[5.0, 7.0]], np.float32)  # (load, dist)


def signal(*terms: PotentialTerm | EventTerm) -> Signal:
    return Signal(beta=0.5, scale=2.0, terms=terms)


def potential(expression: str, **more: Any) -> PotentialTerm:
    return PotentialTerm(**{"name": "phi", "expression": expression, **more})


def phi(spec: TaskSpec, *terms: PotentialTerm | EventTerm) -> list[list[float]]:
    return [x.tolist() for x in CompiledSignal(signal(*terms), spec).potential([SCOUTS, LIFTER])]


@pytest.mark.parametrize(
    ("expression", "agents", "values"),
    [
        ("-dist / 2", "all", [[-0.5, -2], [-3.5]]),
        ("seen", "all", [[0, 1], [0]]),  # lifters have no such feature
        ("load", "all", [[0, 0], [5]]),
        ("3", "all", [[3, 3], [3]]),
        ("dist", "scouts", [[1, 4], [0]]),
        ("dist", ["scout_1", "lifter_0"], [[0, 4], [7]]),
        ("mean_mates(dist)", "all", [[5.5, 4], [2.5]]),  # of the two others, whatever their group
        ("min_mates(dist)", "all", [[4, 1], [1]]),
        ("max_mates(dist)", "all", [[7, 7], [4]]),
        ("mean_mates(seen)", "all", [[1, 0], [0.5]]),  # the lifter has mates that have it
        ("mean_mates(load)", "all", [[5, 5], [5]]),  # the lifter has no mate with a load: its own
        ("dist < min_mates(dist)", "all", [[1, 0], [0]]),
    ],
)
def test_potential(spec: TaskSpec, expression: str, agents: Any, values: list[list[float]]) -> None:
    assert phi(spec, potential(expression, agents=agents)) == values


def test_any_leading_shape(spec: TaskSpec) -> None:
    compiled = CompiledSignal(signal(potential("dist - mean_mates(dist)")), spec)
    features = [np.broadcast_to(SCOUTS, (3, 5, 2, 2)), np.broadcast_to(LIFTER, (3, 5, 1, 2))]
    got = compiled.potential(features)
    assert [x.shape for x in got] == [(3, 5, 2), (3, 5, 1)]
    assert got[0].dtype == np.float32
    np.testing.assert_array_equal(got[0][2, 4], [-4.5, 0])


def test_potentials_add_up_with_their_weights(spec: TaskSpec) -> None:
    terms = [
        potential("dist", name="a", weight=2),
        potential("seen", name="b", weight=-1),
        EventTerm(name="c", event="found"),
    ]
    assert phi(spec, *terms) == [[2, 7], [14]]
    first, _, bonus = CompiledSignal(signal(*terms), spec).terms
    assert isinstance(first, CompiledStateTerm)
    assert [x.tolist() for x in first.state_values([SCOUTS, LIFTER], None)] == [[1, 4], [7]]  # without its weight
    assert not isinstance(bonus, CompiledStateTerm)


def test_a_bad_expression_is_a_signal_error(spec: TaskSpec) -> None:
    with pytest.raises(ExpressionError):
        CompiledSignal(signal(potential("dist ** 2")), spec)


def test_it_reads_the_features_of_the_agent_and_of_its_mates() -> None:
    assert potential("dist - min_mates(seen)").reads == (frozenset({"dist", "seen"}), frozenset())
    with pytest.raises(ExpressionError):
        potential("dist ** 2").reads  # noqa: B018 the property raises
