"""Potentials of an expression: hand-computed values, of agents themselves and of their mates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.errors import ExpressionError, SignalError
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from cosignal.rl.signals.terms.base import CompiledStateTerm
from cosignal.rl.task import FeatureSpec, GroupSpec, TaskSpec

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
        ("sum_mates(dist)", "all", [[11, 8], [5]]),
        ("count_mates(dist > 3)", "all", [[2, 1], [1]]),
        ("max_mates(dist - 3 * seen)", "all", [[1, 1], [1]]),  # scouts are the mates that have both
        ("sum_mates(load) + count_mates(load)", "all", [[6, 6], [0]]),  # the lifter has no mate with a load
        ("count_mates(1)", "all", [[2, 2], [2]]),
        ("seen and dist > 3 or count_mates(seen) > 1", "all", [[0, 1], [0]]),
        ("dist if seen else -1", "all", [[-1, 4], [0]]),
    ],
)
def test_potential(spec: TaskSpec, expression: str, agents: Any, values: list[list[float]]) -> None:
    assert phi(spec, potential(expression, agents=agents)) == values


def test_the_nearest_thing_that_is_not_done_by_hand() -> None:
    """Two things, done at 0. Done with the first, Φ = done − nearest / 10 never falls: 1 is worth 10 of distance."""
    features = (
        FeatureSpec(name="a", kind="distance", low=0, high=10, done=0),
        FeatureSpec(name="b", kind="distance", low=0, high=10, done=0),
        FeatureSpec(name="n", kind="count", low=0, high=2),
    )
    group = GroupSpec(name="agents", agents=("x", "y"), obs_size=1, n_actions=2, features=features)
    task = TaskSpec(name="two_things", description="", groups=(group,))
    # x: on its way, the first one done, both done; y: far from both, and then the same counts.
    states = np.array([[[2, 9, 0], [8, 9, 0]], [[0, 9, 1], [0, 7, 1]], [[0, 0, 2], [0, 0, 2]]], np.float32)

    def of(text: str) -> list[list[float]]:
        return CompiledSignal(signal(potential(text)), task).potential([states])[0].tolist()

    assert of("nearest(a, b)") == [[2, 8], [9, 7], [0, 0]]
    assert of("min_mates(nearest(a, b))") == [[8, 2], [7, 9], [0, 0]]
    np.testing.assert_allclose(of("n - nearest(a, b) / 10"), [[-0.2, -0.8], [0.1, 0.3], [2, 2]], atol=1e-6)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "sum_mates(load + seen)",
            r"reads features \['load', 'seen'\] of one mate, and no group has them all; use feat",
        ),
        ("count_mates(load) + mean_mates(seen * load)", r"\['load', 'seen'\] of one mate"),
        ("nearest(dist, seen)", "nearest takes features of kind distance, 'dist' is a quantity; use min for it"),
        ("max_mates(nearest(load))", "nearest takes features of kind distance, 'load' is a quantity; use min for it"),
        ("count_mates(zzz > 1)", "reads feature 'zzz', which this task does not have"),
        ("mean_mates(load) + load + seen", r"needs features \['load', 'seen'\] in one group"),
    ],
)
def test_expressions_that_do_not_fit_the_task(spec: TaskSpec, expression: str, message: str) -> None:
    with pytest.raises(SignalError, match=message):
        CompiledSignal(signal(potential(expression)), spec)


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
    text = "a and not b if count_mates(c > 1 or d) else nearest(e, f)"
    assert potential(text).reads == (frozenset("abcdef"), frozenset())
    with pytest.raises(ExpressionError):
        potential("dist ** 2").reads  # noqa: B018 the property raises
