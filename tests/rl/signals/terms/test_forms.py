"""Rewards made of a score: laws of the paper's difference and of the policy-invariant form, and what loops can gain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cosignal.rl.envs.grid.map import FORWARD, INTERACT, STAY, TURN_LEFT, TURN_RIGHT
from cosignal.rl.envs.two_switch.game import TwoSwitchGame
from cosignal.rl.preferences.config import ScorerConfig
from cosignal.rl.preferences.fit import scaled
from cosignal.rl.signals.scorer import Scorer
from cosignal.rl.signals.terms.base import potential_shaping
from cosignal.rl.signals.terms.learned import difference
from hypothesis import given
from hypothesis import strategies as st
from ranked_moves import two_switch_pairs

GAMMA = 0.9
_RNG = np.random.default_rng(0)
SCORER = Scorer(
    weights=tuple(_RNG.normal(size=(2, *shape)).astype(np.float32) for shape in ((20, 8), (8, 1))),
    biases=tuple(_RNG.normal(size=(2, n)).astype(np.float32) for n in (8, 1)),
)


def both_views(game: TwoSwitchGame) -> np.ndarray:
    """[2, 20]"""
    return np.stack([game.observation(i) for i in (0, 1)])


def rewards(scorer: Scorer, game: TwoSwitchGame, actions: tuple[int, int]) -> np.ndarray:
    """[2]: Eq. 4 for both agents in the game's next step."""
    before = scorer.score(both_views(game))
    game.step(actions)
    return difference(before, scorer.score(both_views(game)), np.array(actions) != STAY)


def scene(*poses: tuple[int, int, int], triggered: tuple[bool, bool] = (False, False)) -> TwoSwitchGame:
    game = TwoSwitchGame(0)
    game.poses, game.triggered = list(poses), list(triggered)
    return game


# ------------------------------------------------------------ T-2: exchangeable agents


@given(st.integers(0, 500), st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_t2_who_swaps_places_swaps_rewards(seed: int, actions: tuple[int, int]) -> None:
    """Eq. 5: one scorer serves both, for it sees each from its own side."""
    game = TwoSwitchGame(seed)
    swapped = scene(*game.poses[::-1], triggered=tuple(game.triggered))  # type: ignore[arg-type]
    assert np.array_equal(both_views(swapped), both_views(game)[::-1])
    assert rewards(SCORER, swapped, actions[::-1]).tolist() == rewards(SCORER, game, actions)[::-1].tolist()


def test_t2_with_a_switch_triggered() -> None:
    game, swapped = scene((2, 2, 2), (4, 1, 0)), scene((4, 1, 0), (2, 2, 2))
    one, other = rewards(SCORER, game, (INTERACT, FORWARD)), rewards(SCORER, swapped, (FORWARD, INTERACT))
    assert game.triggered == swapped.triggered == [True, False]
    assert one.tolist() == other[::-1].tolist()
    assert one[0] != one[1]


# ------------------------------------------------------------ T-3: a constant in the score


def shifted(scorer: Scorer, constant: float) -> Scorer:
    return replace(scorer, biases=(*scorer.biases[:-1], scorer.biases[-1] + np.float32(constant)))


@given(st.floats(-20, 20), st.integers(0, 100))
def test_t3_a_constant_changes_no_difference(constant: float, seed: int) -> None:
    actions = (FORWARD, STAY)
    plain = rewards(SCORER, TwoSwitchGame(seed), actions)
    assert rewards(shifted(SCORER, constant), TwoSwitchGame(seed), actions) == pytest.approx(plain, abs=1e-4)
    assert plain[1] == 0  # who stays is paid nothing


def test_t3_it_changes_the_policy_invariant_form_so_that_one_is_anchored() -> None:
    pairs = two_switch_pairs(200, 0)

    def paid(scorer: Scorer, terminated: float) -> np.ndarray:
        return potential_shaping(scorer.score(pairs.obs), scorer.score(pairs.last_obs), GAMMA, terminated)

    moved = shifted(SCORER, 5.0)
    assert paid(moved, 0.0) - paid(SCORER, 0.0) == pytest.approx(5 * (GAMMA - 1) * np.ones(200), abs=1e-4)
    assert paid(moved, 1.0) - paid(SCORER, 1.0) == pytest.approx(-5 * np.ones(200), abs=1e-4)
    anchored = [scaled(scorer, pairs, ScorerConfig()) for scorer in (SCORER, moved)]
    for terminated in (0.0, 1.0):
        assert paid(anchored[0], terminated) == pytest.approx(paid(anchored[1], terminated), abs=1e-4)
    assert (paid(anchored[0], 1.0) >= -1e-6).all()  # an end pays, from wherever among the pairs it comes


def test_the_forms_by_hand() -> None:
    before, after = np.array([[1.0, -2.0]]), np.array([[3.0, -1.0]])
    assert difference(before, after, np.array([[True, False]])).tolist() == [[2, 0]]
    assert potential_shaping(before, after, 0.5, np.array([[0]])).tolist() == [[0.5, 1.5]]
    assert potential_shaping(before, after, 0.5, np.array([[True]])).tolist() == [[-1, 2]]


# ------------------------------------------------------------ loops

scores = st.lists(st.floats(-10, 10), min_size=2, max_size=20)


@given(scores, st.integers(0, 2**20 - 1))
def test_a_way_back_pays_minus_what_the_score_changed_by_while_staying(values: list[float], staying: int) -> None:
    """The law that says when a loop can gain under the stay rule."""
    score = np.array([*values, values[0]])
    stayed = np.array([staying >> t & 1 for t in range(len(values))], bool)
    paid = difference(score[:-1], score[1:], ~stayed).sum()
    assert paid == pytest.approx(-np.diff(score)[stayed].sum(), abs=1e-9)


@given(scores)
def test_a_way_back_of_actions_alone_never_gains(values: list[float]) -> None:
    score = np.array([*values, values[0]])
    assert difference(score[:-1], score[1:], np.ones(len(values), bool)).sum() == pytest.approx(0, abs=1e-9)


@given(scores, st.booleans())
def test_the_policy_invariant_form_telescopes(values: list[float], terminated: bool) -> None:
    """Discounted, any way is worth what its ends are, so that no loop is worth more than another."""
    score, steps = np.array(values), len(values) - 1
    ends = np.zeros(steps)
    ends[-1] = terminated
    paid = (GAMMA ** np.arange(steps) * potential_shaping(score[:-1], score[1:], GAMMA, ends)).sum()
    assert paid == pytest.approx(GAMMA**steps * score[-1] * (not terminated) - score[0], abs=1e-9)


def played(scorer: Scorer, game: TwoSwitchGame, actions: list[tuple[int, int]]) -> float:
    """Green's undiscounted sum of Eq. 4."""
    return float(sum(rewards(scorer, game, joint)[0] for joint in actions))


def test_turning_to_and_fro_with_rests_between_gains_nothing() -> None:
    """The mate stands still, so that nothing changes while green stays."""
    game = scene((4, 2, 0), (2, 1, 0))
    start = both_views(game)
    gained = played(SCORER, game, [(TURN_LEFT, STAY), (STAY, STAY), (TURN_RIGHT, STAY), (STAY, STAY)] * 5)
    assert np.array_equal(both_views(game), start)
    assert gained == pytest.approx(0, abs=1e-4)


def test_a_loop_gains_where_a_mate_lowers_the_score_of_one_who_stays() -> None:
    """Here a loop does gain: what is lost while staying is not charged, what is won back by acting is paid.

    σ = −(mate's x): green turns while orange comes nearer, and rests while it goes away again.
    """
    mate_x = np.zeros((1, 20, 1), np.float32)
    mate_x[0, 6] = -1.0
    nearer = Scorer((mate_x,), (np.zeros((1, 1), np.float32),))
    loop = [(STAY, FORWARD), (STAY, TURN_LEFT), (STAY, TURN_LEFT)]  # orange goes a cell east, and turns about
    loop += [(TURN_LEFT, FORWARD), (TURN_RIGHT, TURN_LEFT), (STAY, TURN_LEFT)]  # it comes back while green acts
    game = scene((4, 2, 0), (2, 1, 0))
    start = both_views(game)
    assert played(nearer, game, loop) == pytest.approx(1 / 9)  # one of nine columns, each time round
    assert np.array_equal(both_views(game), start)
    all_acting = [(TURN_LEFT if t % 2 else TURN_RIGHT, orange) for t, (_, orange) in enumerate(loop)]
    assert played(nearer, game, all_acting) == pytest.approx(0, abs=1e-6)


def test_discounted_the_difference_is_no_potential() -> None:
    """Up and down again is worth 1 − γ, down and up again γ − 1: the order counts, not the ends alone."""
    up = difference(np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.ones(2, bool))
    assert up @ GAMMA ** np.arange(2) == pytest.approx(1 - GAMMA)
    assert -up @ GAMMA ** np.arange(2) == pytest.approx(GAMMA - 1)


def test_both_ends_of_a_pair_are_seen_alike() -> None:
    """Swapping s and s' turns the sign of what an acting agent is paid."""
    pairs = two_switch_pairs(200, 0)
    moved = np.ones(len(pairs), bool)
    there = difference(SCORER.score(pairs.obs), SCORER.score(pairs.last_obs), moved)
    back = difference(SCORER.score(pairs.last_obs), SCORER.score(pairs.obs), moved)
    assert there.tolist() == (-back).tolist()
