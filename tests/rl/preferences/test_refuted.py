"""What the sparse outcome says of scorers: which pairs refute one, how an exploit loses its score, one against many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.errors import PreferenceError
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.preferences.config import ScorerConfig
from cosignal.rl.preferences.fit import fit_scorer
from cosignal.rl.preferences.pairs import NOT_JUDGED, Pairs
from cosignal.rl.preferences.refuted import Ends, ends_of, one_to_many, refuted_pairs
from cosignal.rl.signals.scorer import Scorer

# Likes the first number that it sees.
FIRST = Scorer((np.array([[[1.0], [0.0]]], np.float32),), (np.zeros((1, 1), np.float32),))


def column(*values: float) -> np.ndarray:
    """Ends of one agent each, which differ in the first number."""
    return np.array([[[x, 0.0]] for x in values], np.float32)


def recorded(ends: Any, success: Any, returns: Any) -> TransitionSample:
    none: list[np.ndarray] = [np.zeros((0, 1, 0), np.float32)]
    return TransitionSample(
        features=none, last_features=none, events=none, terminated=np.zeros(0), end_features=none,
        end_success=np.array(success, np.float32), end_obs=[np.array(ends, np.float32)],
        end_return=np.array(returns, np.float32),
    )  # fmt: skip


# ------------------------------------------------------------ ends


def test_success_tells_good_from_bad_and_else_the_thirds_of_returns() -> None:
    ends = column(0, 1, 2, 3, 4, 5)
    good, bad = ends_of(recorded(ends, [1, 0, 0, 0, 0, 1], [9, 0, 0, 0, 0, 9]), 0)
    assert (good[:, 0, 0].tolist(), bad[:, 0, 0].tolist()) == ([0, 5], [1, 2, 3, 4])
    good, bad = ends_of(recorded(ends, np.zeros(6), [0, 0, 1, 1, 2, 2]), 0)
    assert (good[:, 0, 0].tolist(), bad[:, 0, 0].tolist()) == ([4, 5], [0, 1])
    for returns in ([1] * 6, [np.nan] * 6):
        assert [len(x) for x in ends_of(recorded(ends, np.zeros(6), returns), 0)] == [0, 0]


# ------------------------------------------------------------ pairs that refute


def test_bad_ends_that_it_likes_more_than_a_usual_good_one_are_the_worse_half_of_pairs() -> None:
    ends = Ends(good=column(1, 2, 3), bad=column(0, 5, 2, 4))
    pairs = refuted_pairs(FIRST, ends, group=1, most=10, seed=0)
    assert (pairs.group, pairs.obs[:, 0].tolist()) == (1, [5, 4])  # the median good one has 2
    assert set(pairs.last_obs[:, 0].tolist()) <= {1, 2, 3}
    assert set(pairs.label.tolist()) == {NOT_JUDGED}
    assert len(refuted_pairs(FIRST, ends, 1, most=1, seed=0)) == 1
    assert len(refuted_pairs(FIRST, ends, 1, most=0, seed=0)) == 0


def test_an_agent_is_held_against_itself() -> None:
    good = np.array([[[0.0, 0], [10.0, 0]]], np.float32)  # [1, 2 agents, 2]
    bad = np.array([[[1.0, 0], [9.0, 0]]], np.float32)
    pairs = refuted_pairs(FIRST, Ends(good, bad), 0, most=10, seed=0)
    assert (pairs.agent.tolist(), pairs.obs[:, 0].tolist(), pairs.last_obs[:, 0].tolist()) == ([0], [1], [0])


@pytest.mark.parametrize("ends", [Ends(column(), column(1)), Ends(column(1), column()), Ends(column(5), column(1))])
def test_where_nothing_refutes_it_there_are_none(ends: Ends) -> None:
    empty = Ends(*(x.reshape(-1, 1, 2) for x in ends))
    pairs = refuted_pairs(FIRST, empty, 0, most=10, seed=0)
    assert (len(pairs), pairs.obs.shape, pairs.last_obs.shape) == (0, (0, 2), (0, 2))


def test_an_exploit_that_votes_like_loses_its_score_within_three_fits() -> None:
    """Voters like both numbers; the team is paid for the first one, and the policy drives up the second."""
    rng = np.random.default_rng(0)
    before, after = (rng.uniform(0, 1, (300, 2)).astype(np.float32) for _ in range(2))
    votes = (after.sum(1) > before.sum(1)).astype(np.float64)
    parts = [of_votes(before, after)]
    confidences = [votes]
    config = ScorerConfig(hidden=(16,), members=2, max_epochs=100, lr=3e-3)
    good = np.stack([np.full(60, 0.9), rng.uniform(0, 0.3, 60)], -1)[:, None].astype(np.float32)
    exploit = np.stack([rng.uniform(0, 0.3, 60), np.full(60, 1.0)], -1)[:, None].astype(np.float32)
    ends, ahead = Ends(good, exploit), list[float]()
    for fit in range(4):
        scorer = fit_scorer(Pairs.joined(parts), np.concatenate(confidences), config, seed=1).scorer
        ahead.append(float(scorer.score(exploit).mean() - scorer.score(good).mean()))
        new = refuted_pairs(scorer, ends, 0, most=100, seed=fit)
        parts.append(new)
        confidences.append(np.ones(len(new)))
    twin = fit_scorer(parts[0], votes, config, seed=1).scorer
    assert float(twin.score(exploit).mean() - twin.score(good).mean()) == pytest.approx(ahead[0])
    assert ahead[0] > -0.05  # it is liked about as much as what is paid for
    assert min(ahead[1:]) < ahead[0] - 0.5, ahead
    assert ahead[3] < -0.3, ahead


def test_pairs_that_nobody_voted_on_neither_judge_nor_scale_a_scorer() -> None:
    """Votes of chance stay at chance, however well the other pairs are learned."""
    rng = np.random.default_rng(1)
    before, after = (rng.normal(size=(400, 2)).astype(np.float32) for _ in range(2))
    votes = rng.integers(0, 2, 400).astype(np.float64)
    new = refuted_pairs(FIRST, Ends(column(*rng.random(50)), column(*(1 + rng.random(50)))), 0, most=50, seed=0)
    pairs, confidence = Pairs.joined([of_votes(before, after), *[new] * 6]), np.concatenate([votes, np.ones(300)])
    voted = np.arange(700) < 400
    config = ScorerConfig(hidden=(16,), members=2, max_epochs=60, lr=3e-3, held_out=0.3)
    mixed = fit_scorer(pairs, confidence, config, seed=1)
    apart = fit_scorer(pairs, confidence, config, seed=1, voted=voted)
    assert mixed.accuracy is not None
    assert apart.accuracy is not None
    assert mixed.accuracy > 0.65
    assert abs(apart.accuracy - 0.5) < 0.1
    with pytest.raises(PreferenceError, match="at least 20 ranked pairs, got 10 of 700"):
        fit_scorer(pairs, confidence, config, seed=1, voted=np.arange(700) < 10)


def of_votes(before: np.ndarray, after: np.ndarray) -> Pairs:
    numbers = np.zeros(len(before), np.int64)
    return Pairs(0, before, after, numbers, numbers, numbers, [""] * len(before), [""] * len(before))


# ------------------------------------------------------------ one to many


def test_one_good_end_is_found_among_nine_bad_ones() -> None:
    found = one_to_many(FIRST, Ends(column(10, 11), column(*range(9))), seed=0)
    assert found == (1.0, 1.0)
    lost = one_to_many(FIRST, Ends(column(-1), column(*range(9))), seed=0)
    assert lost is not None
    assert (lost.accuracy, lost.mean_reciprocal_rank) == (0.0, pytest.approx(0.1))
    # behind one of nine: the second place; a tie is a loss
    second = one_to_many(FIRST, Ends(column(7.5), column(*range(9))), seed=0)
    assert second is not None
    assert (second.accuracy, second.mean_reciprocal_rank) == (0.0, 0.5)
    assert one_to_many(FIRST, Ends(column(8), column(*range(9))), seed=0) == (0.0, 0.5)


def test_by_chance_it_is_one_in_ten_and_too_few_ends_say_nothing() -> None:
    rng = np.random.default_rng(0)
    ends = Ends(column(*rng.random(200)), column(*rng.random(200)))
    found = one_to_many(FIRST, ends, seed=0)
    assert found is not None
    assert found.accuracy == pytest.approx(0.1, abs=0.06)
    assert one_to_many(FIRST, Ends(column(1), column(*range(8))), seed=0) is None
    assert one_to_many(FIRST, Ends(column().reshape(0, 1, 2), column(*range(9))), seed=0) is None
