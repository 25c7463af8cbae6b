"""Shaping: hand-computed numbers, and the laws that make potentials harmless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.signals.shaping import CompiledSignal, Shaping, freeze, frozen_scale
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from cosignal.rl.signals.terms.base import fading
from cosignal.rl.task import TaskSpec
from hypothesis import given
from hypothesis import strategies as st
from made_up_transitions import MadeUpTransitions

SCOUTS = np.array([[1.0, 0.0], [4.0, 1.0]], np.float32)  # [agent] (dist, seen)
LIFTER = np.array([[5.0, 7.0]], np.float32)  # (load, dist)


def signal(*terms: PotentialTerm | EventTerm, **more: Any) -> Signal:
    return Signal(**{"beta": 0.5, "scale": 2.0, "terms": terms, **more})


def potential(expression: str, **more: Any) -> PotentialTerm:
    return PotentialTerm(**{"name": "phi", "expression": expression, **more})


# ------------------------------------------------------------ shaping


GAMMA = 0.9


def transition(batch: tuple[int, ...] = ()) -> MadeUpTransitions:
    def repeated(*arrays: np.ndarray) -> list[np.ndarray]:
        return [np.broadcast_to(x.astype(np.float32), (*batch, *x.shape)) for x in arrays]

    return MadeUpTransitions(
        features=repeated(SCOUTS, LIFTER),
        last_features=repeated(SCOUTS - np.array([1, 0]), LIFTER),
        events=repeated(np.array([[1, 0], [2, 5]]), np.array([[1]])),
        terminated=np.zeros(batch, bool),
    )


def test_shape_by_hand(spec: TaskSpec) -> None:
    terms = [potential("-dist", weight=2), EventTerm(name="e", event="found", weight=0.1, decay_steps=1000)]
    got = CompiledSignal(signal(*terms), spec).shape(transition(), GAMMA, 250)
    # beta · scale = 1; scouts 2·(0.9·(−0) + 1), 2·(0.9·(−3) + 4); lifter 2·(0.9·(−7) + 7); events 0.1·0.75·count
    np.testing.assert_allclose(got.per_term[0][0], [2, 2.6], rtol=1e-6)
    np.testing.assert_allclose(got.per_term[0][1], [1.4], rtol=1e-6)
    np.testing.assert_allclose(got.per_term[1][0], [0.075, 0.15], rtol=1e-6)
    np.testing.assert_allclose(got.per_term[1][1], [0], rtol=1e-6)
    np.testing.assert_allclose(got.total[0], [2.075, 2.75], rtol=1e-6)
    np.testing.assert_allclose(got.total[1], [1.4], rtol=1e-6)
    assert got.total[0].dtype == np.float32


def test_the_potential_is_zero_at_true_terminations_only(spec: TaskSpec) -> None:
    """The caller passes `terminated` alone: a truncated step keeps Φ(s′)."""
    compiled = CompiledSignal(signal(potential("dist")), spec)
    data = replace(transition((2,)), terminated=np.array([True, False]))
    got = compiled.shape(data, GAMMA).total
    np.testing.assert_allclose(got[0], [[-1, -4], [-1, -1.3]], rtol=1e-6)
    numbers = compiled.shape(replace(data, terminated=np.array([1.0, 0.0], np.float32)), GAMMA).total
    np.testing.assert_array_equal(numbers[0], got[0])


def test_steps_since_start_may_differ_by_environment(spec: TaskSpec) -> None:
    compiled = CompiledSignal(signal(EventTerm(name="e", event="lifted", weight=1, decay_steps=1000)), spec)
    got = compiled.shape(transition((3,)), GAMMA, np.array([0, 500, 2000])).total
    np.testing.assert_array_equal(got[1], [[1], [0.5], [0]])


def test_fading() -> None:
    np.testing.assert_array_equal(fading(np.array([0, 1, 3, 4, 9]), 4), [1, 0.75, 0.25, 0, 0])
    np.testing.assert_array_equal(fading(np.array([0, 10**9]), None), [1, 1])


def test_an_annealing_potential_weighs_less_by_the_age_of_its_version(spec: TaskSpec) -> None:
    terms = [potential("-dist", weight=2, anneal_steps=1000), potential("-dist", name="stays", weight=1)]
    compiled = CompiledSignal(signal(*terms), spec)
    got = compiled.shape(transition((4,)), GAMMA, np.array([0, 250, 1000, 5000]))
    # beta · scale = 1; the lifter's 2·(0.9·(−7) + 7) = 1.4 falls to nothing, and its 0.7 stays
    np.testing.assert_allclose(got.per_term[0][1], [[1.4], [1.05], [0], [0]], rtol=1e-6)
    np.testing.assert_allclose(got.per_term[1][1], [[0.7]] * 4, rtol=1e-6)
    assert [x.tolist() for x in compiled.potential([SCOUTS, LIFTER])] == [[-3, -12], [-21]]  # as written, at any age


def test_a_signal_without_terms_adds_nothing(spec: TaskSpec) -> None:
    got = CompiledSignal(signal(), spec).shape(transition((4,)), GAMMA)
    assert got.per_term == []
    assert [x.shape for x in got.total] == [(4, 2), (4, 1)]
    assert not any(x.any() for x in got.total)


def test_shaping_needs_a_frozen_scale(spec: TaskSpec) -> None:
    with pytest.raises(SignalError, match="frozen scale, got scale None"):
        CompiledSignal(signal(potential("dist"), scale=None), spec).shape(transition(), GAMMA)


# ------------------------------------------------------------ laws

EXPRESSIONS = ["-dist / 7", "dist * dist / 9 - 2", "mean_mates(dist) - dist", "exp(-dist)", "dist > max_mates(dist)"]
expressions = st.sampled_from(EXPRESSIONS)
seeds = st.integers(0, 2**32 - 1)


def episode(seed: int, length: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """States 0..length of one episode: ([t, 2, 2], [t, 1, 2])."""
    rng = np.random.default_rng(seed)
    states = [rng.uniform(0, 10, (length + 1, n, 2)).astype(np.float32) for n in (2, 1)]
    events = [rng.integers(0, 3, (length, n, v)).astype(np.float32) for n, v in ((2, 2), (1, 1))]
    return states, events


def steps_of(states: list[np.ndarray], events: list[np.ndarray], terminated: np.ndarray) -> MadeUpTransitions:
    return MadeUpTransitions([x[:-1] for x in states], [x[1:] for x in states], events, terminated)


def shaped(spec: TaskSpec, s: Signal, seed: int, length: int, *, terminated: bool, gamma: float) -> list[np.ndarray]:
    states, events = episode(seed, length)
    flags = np.zeros(length, bool)
    flags[-1] = terminated
    return CompiledSignal(s, spec).shape(steps_of(states, events, flags), gamma).total


@given(expressions, seeds, st.integers(1, 30), st.booleans(), st.floats(0.5, 1))
def test_the_discounted_sum_over_an_episode_telescopes(
    spec: TaskSpec, expression: str, seed: int, length: int, terminated: bool, gamma: float
) -> None:
    s = signal(potential(expression, weight=0.7))
    states, _ = episode(seed, length)
    at = CompiledSignal(s, spec).potential(states)
    for g, total in enumerate(shaped(spec, s, seed, length, terminated=terminated, gamma=gamma)):
        discounted = (gamma ** np.arange(length)[:, None] * total.astype(np.float64)).sum(axis=0)
        end = 0.0 if terminated else gamma**length * at[g][-1].astype(np.float64)
        np.testing.assert_allclose(discounted, end - at[g][0], rtol=1e-4, atol=1e-4)


@given(expressions, seeds)
def test_zero_weights_give_zero(spec: TaskSpec, expression: str, seed: int) -> None:
    s = signal(potential(expression, weight=0), EventTerm(name="e", event="found", weight=0))
    assert not any(x.any() for x in shaped(spec, s, seed, 5, terminated=True, gamma=0.9))


@given(expressions, seeds, st.floats(0, 2), st.floats(0.001, 1000))
def test_every_term_is_linear_in_beta_and_scale_and_the_total_is_their_sum(
    spec: TaskSpec, expression: str, seed: int, beta: float, scale: float
) -> None:
    """Linear term by term only: terms are rounded to float32 before they are added, and where two of them cancel the
    rounding is all that is left of the sum."""
    states, events = episode(seed, 5)
    s = signal(potential(expression), EventTerm(name="e", event="found"))

    def run(beta: float, scale: float) -> Shaping:
        compiled = CompiledSignal(s.model_copy(update={"beta": beta, "scale": scale}), spec)
        return compiled.shape(steps_of(states, events, np.zeros(5, bool)), GAMMA)

    unit, other = run(1.0, 1.0), run(beta, scale)
    for one, same in zip(unit.per_term, other.per_term, strict=True):
        for a, b in zip(one, same, strict=True):
            np.testing.assert_allclose(b, beta * scale * a.astype(np.float64), rtol=1e-6, atol=1e-30)
    for g, total in enumerate(other.total):
        np.testing.assert_array_equal(total, other.per_term[0][g] + other.per_term[1][g])


@given(expressions, seeds)
def test_swapping_agents_of_a_group_swaps_their_shaping(spec: TaskSpec, expression: str, seed: int) -> None:
    compiled = CompiledSignal(signal(potential(expression), EventTerm(name="e", event="found")), spec)
    states, events = episode(seed, 5)

    def run(order: list[int]) -> list[np.ndarray]:
        s, e = [states[0][:, order], states[1]], [events[0][:, order], events[1]]
        return compiled.shape(steps_of(s, e, np.zeros(5, bool)), GAMMA).total

    straight, swapped = run([0, 1]), run([1, 0])
    np.testing.assert_allclose(swapped[0], straight[0][:, [1, 0]], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(swapped[1], straight[1], rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------ the frozen scale


def on_a_line(record: Callable[..., TransitionSample], dist: np.ndarray) -> TransitionSample:
    """The scouts' `dist` in every recorded state."""
    base = record(len(dist))
    both = np.stack([dist, dist], axis=1)
    scouts = np.stack([both, np.zeros_like(both)], axis=-1).astype(np.float32)
    return replace(base, features=[scouts, base.features[1]], last_features=[scouts, base.last_features[1]])


def test_crossing_the_recorded_range_is_worth_the_return_range(
    spec: TaskSpec, record: Callable[..., TransitionSample]
) -> None:
    recorded = on_a_line(record, np.linspace(0, 8, 10_001))
    s = signal(potential("-dist", weight=0.5, agents="scouts"), scale=None)
    # Φ covers 4 · 0.99 between the percentiles; returns cover 3
    assert frozen_scale(s, spec, recorded, (-1, 2)) == pytest.approx(3 / (4 * 0.99), rel=1e-4)


def test_a_stray_state_does_not_set_the_scale(spec: TaskSpec, record: Callable[..., TransitionSample]) -> None:
    dist = np.linspace(0, 1, 10_001)
    dist[5] = 90
    scale = frozen_scale(signal(potential("dist", agents="scouts")), spec, on_a_line(record, dist), (0, 1))
    assert scale == pytest.approx(1 / 0.99, rel=1e-3)


def test_a_potential_that_rarely_moves_is_scaled_by_its_whole_range(
    spec: TaskSpec, record: Callable[..., TransitionSample]
) -> None:
    dist = np.zeros(1001)
    dist[7] = 4
    assert frozen_scale(signal(potential("dist", agents="scouts")), spec, on_a_line(record, dist), (0, 2)) == 0.5


def test_where_there_is_nothing_to_scale_the_scale_is_one(
    spec: TaskSpec, record: Callable[..., TransitionSample]
) -> None:
    s, recorded = signal(potential("dist")), record()
    assert frozen_scale(s, spec, recorded, None) == 1
    assert frozen_scale(s, spec, recorded, (2, 2)) == 1
    assert frozen_scale(s, spec, record(0), (0, 1)) == 1
    assert frozen_scale(signal(potential("3")), spec, recorded, (0, 1)) == 1
    assert frozen_scale(signal(EventTerm(name="e", event="found")), spec, recorded, (0, 1)) == 1
    assert frozen_scale(signal(), spec, recorded, (0, 1)) == 1


def test_the_scale_is_bounded(spec: TaskSpec, record: Callable[..., TransitionSample]) -> None:
    assert frozen_scale(signal(potential("dist / 1000000")), spec, record(), (0, 100)) == 1000
    assert frozen_scale(signal(potential("dist")), spec, record(), (0, 1e-5)) == 0.001


def test_freeze_keeps_the_scale_of_what_is_only_weakened(
    spec: TaskSpec, record: Callable[..., TransitionSample]
) -> None:
    in_force = signal(potential("dist"), scale=0.3)
    weaker = signal(potential("dist", weight=0.5), scale=None)
    assert freeze(weaker, in_force, spec, record(), (0, 4)).scale == 0.3
    other = signal(potential("dist / 2"), scale=None)
    assert freeze(other, in_force, spec, record(), (0, 4)).scale == pytest.approx(0.8, rel=0.05)
    assert freeze(in_force, signal(), spec, record(), (0, 4)) == in_force


def test_annealing_leaves_the_scale_alone(spec: TaskSpec, record: Callable[..., TransitionSample]) -> None:
    kept, annealed = (signal(potential("dist", anneal_steps=steps), scale=None) for steps in (None, 50_000))
    assert frozen_scale(annealed, spec, record(), (0, 4)) == frozen_scale(kept, spec, record(), (0, 4))
    in_force = kept.model_copy(update={"scale": 0.3})
    assert freeze(annealed, in_force, spec, record(), (0, 4)).scale == 0.3  # it only takes away
