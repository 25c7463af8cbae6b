"""What recorded ways to a reward say about potentials, on numbers worked out by hand."""

from __future__ import annotations

import dataclasses
from random import Random

import numpy as np
import pytest
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.signals.screen import Ways, ways_to_reward
from cosignal.rl.signals.signal import EventTerm, PotentialTerm, Signal
from cosignal.rl.task import FloatArray, GroupSpec, TaskSpec
from hypothesis import given
from hypothesis import strategies as st

N = 30


def potential(expression: str, weight: float = 1.0, agents: str = "all", name: str = "phi") -> Signal:
    return Signal(terms=(PotentialTerm(name=name, expression=expression, weight=weight, agents=agents),))


def features(scouts: np.ndarray, lifter: np.ndarray) -> list[FloatArray]:
    """`dist` of two scouts [P, 2] and of one lifter [P]; the other features are 0."""
    first = np.stack([scouts, np.zeros_like(scouts)], axis=-1)
    second = np.stack([np.zeros_like(lifter), lifter], axis=-1)[:, None]
    return [first.astype(np.float32), second.astype(np.float32)]


def pairs(rewarded: np.ndarray, plain: np.ndarray, spec: TaskSpec) -> TransitionSample:
    """Every agent's `dist` starts at 5 and changes by `rewarded` or `plain` [P]."""
    empty = [np.zeros((0, len(g.agents), len(g.features)), np.float32) for g in spec.groups]
    none = [np.zeros((0, len(g.agents), len(g.events)), np.float32) for g in spec.groups]

    def states(change: np.ndarray) -> list[FloatArray]:
        return features(np.repeat(5.0 + change[:, None], 2, axis=1), 5.0 + change)

    return TransitionSample(
        empty, empty, none, np.zeros(0), empty, np.zeros(0),
        rewarded_from=states(0 * rewarded), rewarded_to=states(rewarded),
        plain_from=states(0 * plain), plain_to=states(plain),
    )  # fmt: skip


def alternating(mean: float, by: float, n: int = N) -> np.ndarray:
    return mean + by * np.where(np.arange(n) % 2 == 0, 1.0, -1.0)


def found(signal: Signal, spec: TaskSpec, recorded: TransitionSample) -> Ways:
    ways = ways_to_reward(signal, spec, recorded)
    assert ways is not None
    return ways


def test_the_score_by_hand(spec: TaskSpec) -> None:
    """`dist` falls by 1 ± 0.5 on the way to rewards and rises by 0.2 ± 0.5 elsewhere. Each sum of squares is 30 · 0.25;
    pooled over 58 degrees of freedom the deviation is √(15/58), the standard error that times √(2/30)."""
    recorded = pairs(alternating(-1.0, 0.5), alternating(0.2, 0.5), spec)
    error = np.sqrt(15 / 58) * np.sqrt(2 / 30)
    near, far = found(potential("-dist"), spec, recorded), found(potential("dist"), spec, recorded)
    assert (near.rewarded, near.plain, near.pairs) == (pytest.approx(1.0), pytest.approx(-0.2), (30, 30))
    assert near.score == pytest.approx(1.2 / error, rel=1e-5)
    assert far.score == pytest.approx(-1.2 / error, rel=1e-5)
    assert (near.against, far.against) == (False, True)
    assert far.words() == (
        "recorded ways to the reward: the potential changes by -1 on 30 of them and by +0.2 on 30 others, "
        f"{-1.2 / error:+.1f} standard errors"
    )


def test_three_standard_errors_are_the_line(spec: TaskSpec) -> None:
    error = np.sqrt(15 / 58) * np.sqrt(2 / 30)
    for errors, against in ((2.99, False), (3.01, True)):
        recorded = pairs(alternating(-errors * error, 0.5), alternating(0.0, 0.5), spec)
        assert found(potential("dist"), spec, recorded).against is against


def test_too_few_pairs_say_nothing(spec: TaskSpec) -> None:
    few, enough = alternating(-1.0, 0.1, N - 1), alternating(0.0, 0.1)
    assert ways_to_reward(potential("dist"), spec, pairs(few, enough, spec)) is None
    assert ways_to_reward(potential("dist"), spec, pairs(enough, few, spec)) is None
    unpaired = dataclasses.replace(
        pairs(enough, enough, spec), rewarded_from=[], rewarded_to=[], plain_from=[], plain_to=[]
    )
    assert ways_to_reward(potential("dist"), spec, unpaired) is None


def test_event_terms_are_not_scored(spec: TaskSpec) -> None:
    recorded, bonus = pairs(alternating(-1.0, 0.1), alternating(0.0, 0.1), spec), EventTerm(name="e", event="found")
    assert ways_to_reward(Signal(terms=(bonus,)), spec, recorded) is None
    assert ways_to_reward(Signal(), spec, recorded) is None
    alone = potential("dist")
    both = alone.model_copy(update={"terms": (*alone.terms, bonus)})
    assert ways_to_reward(both, spec, recorded) == ways_to_reward(alone, spec, recorded)


def test_a_potential_that_never_moves_is_not_held_against_it(spec: TaskSpec) -> None:
    still = found(potential("seen", agents="scouts"), spec, pairs(alternating(-1.0, 0.1), alternating(0.0, 0.1), spec))
    assert (still.score, still.against) == (0.0, False)


def test_equal_changes_have_a_floor_of_spread(spec: TaskSpec) -> None:
    """No spread within either kind: the deviation is 5 % of the range of all rises, 1."""
    got = found(potential("dist"), spec, pairs(np.full(N, -1.0), np.zeros(N), spec))
    assert got.score == pytest.approx(-1 / (0.05 * np.sqrt(2 / 30)), rel=1e-5)


def test_only_agents_with_the_potential_count(spec: TaskSpec) -> None:
    """The scouts come nearer on the way to rewards, the lifter goes away."""
    recorded = pairs(alternating(-1.0, 0.1), alternating(0.0, 0.1), spec)
    away = [recorded.rewarded_to[0], 10.0 - recorded.rewarded_to[1]]
    recorded = dataclasses.replace(recorded, rewarded_to=away)
    scores = {
        agents: found(potential("-dist", agents=agents), spec, recorded).score for agents in ("scouts", "lifters")
    }
    assert scores["scouts"] > 3
    assert scores["lifters"] < -3


changes = st.lists(st.floats(-4, 4, width=32), min_size=N, max_size=2 * N).map(np.array)


@given(changes, changes, st.floats(0.1, 8))
def test_laws(spec: TaskSpec, rewarded: np.ndarray, plain: np.ndarray, weight: float) -> None:
    """A flipped sign flips the score, a weight does not matter, and exchanging the kinds of pairs flips it too."""
    recorded = pairs(rewarded, plain, spec)
    score = found(potential("dist / 10"), spec, recorded).score
    close = pytest.approx(score, rel=1e-3, abs=1e-3)
    assert -found(potential("-dist / 10"), spec, recorded).score == close
    assert found(potential("dist / 10", weight), spec, recorded).score == close
    assert -found(potential("dist / 10"), spec, pairs(plain, rewarded, spec)).score == close
    assert np.isfinite(score)


@given(changes, changes, st.randoms(use_true_random=False))
def test_neither_the_order_of_pairs_nor_names_matter(
    spec: TaskSpec, rewarded: np.ndarray, plain: np.ndarray, random: Random
) -> None:
    score = found(potential("dist"), spec, pairs(rewarded, plain, spec)).score
    shuffled = list(rewarded)
    random.shuffle(shuffled)
    assert found(potential("dist"), spec, pairs(np.array(shuffled), plain, spec)).score == pytest.approx(
        score, abs=1e-6
    )
    other = spec.model_copy(update={"groups": tuple(_renamed(group) for group in spec.groups)})
    assert found(potential("how_far"), other, pairs(rewarded, plain, other)).score == score


def _renamed(group: GroupSpec) -> GroupSpec:
    features = [f.model_copy(update={"name": {"dist": "how_far"}.get(f.name, f.name)}) for f in group.features]
    return group.model_copy(update={"features": tuple(features), "name": f"other_{group.name}"})
