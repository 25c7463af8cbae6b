"""Scorers learn an order from votes on pairs, noisy ones too, and nothing from undecided ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from cosignal.errors import PreferenceError, TrainingDiverged
from cosignal.rl.preferences.config import ScorerConfig
from cosignal.rl.preferences.fit import Fitted, fit_scorer, held_out_change, scaled
from cosignal.rl.preferences.pairs import NOT_JUDGED, Pairs
from cosignal.rl.preferences.votes import agreement, confidence, oracle_votes
from cosignal.rl.signals.scorer import Scorer
from hypothesis import given, settings
from hypothesis import strategies as st
from ranked_moves import made_up_pairs, two_switch_pairs

pytestmark = pytest.mark.usefixtures("one_thread")

FRESH = made_up_pairs(4000, 99)
SHORT = ScorerConfig(hidden=(8,), max_epochs=3, members=2)


def fitted(pairs: Pairs, queries: int = 1, accuracy: float = 1.0, seed: int = 0, **config: Any) -> Fitted:
    votes = oracle_votes(pairs.label, queries, accuracy, seed)
    return fit_scorer(pairs, confidence(votes), ScorerConfig(**config), seed)


def change(scorer: Scorer, pairs: Pairs) -> np.ndarray:
    return scorer.score(pairs.last_obs) - scorer.score(pairs.obs)


def on_fresh(scorer: Scorer) -> float:
    found = agreement(change(scorer, FRESH), FRESH.label)
    assert found is not None
    return found


def test_a_known_order_is_recovered() -> None:
    found = fitted(made_up_pairs(4400, 1))
    assert on_fresh(found.scorer) >= 0.97
    assert found.agreement is not None and found.agreement >= 0.95
    assert found.accuracy == found.agreement  # clean votes are the labels
    assert len(found.epochs) == ScorerConfig().members


def test_four_better_votes_beat_one_worse() -> None:
    pairs = made_up_pairs(2000, 2)
    for seed in (0, 1):
        one, four = fitted(pairs, 1, 0.7, seed), fitted(pairs, 4, 0.8, seed)
        assert on_fresh(four.scorer) > on_fresh(one.scorer) + 0.015
        assert one.accuracy is not None and one.agreement is not None
        assert one.accuracy < one.agreement  # of the votes three in ten are wrong


def test_early_stopping_keeps_wrong_votes_from_being_memorised() -> None:
    pairs = made_up_pairs(1000, 3)
    votes = oracle_votes(pairs.label, 1, 0.8, 0)[:, 0]
    right = votes == (pairs.label + 1) / 2
    stopped = fitted(pairs, 1, 0.8, members=1, max_epochs=300)
    trained_on = _without_stopping(pairs, votes, epochs=300)
    assert on_fresh(trained_on) < on_fresh(stopped.scorer) - 0.05

    def believed(scorer: Scorer) -> float:
        """Share of the wrong votes that the scorer repeats."""
        return float(((change(scorer, pairs) > 0) == (votes > 0.5))[~right].mean())

    assert believed(trained_on) > 0.4 > 0.25 > believed(stopped.scorer)


def _without_stopping(pairs: Pairs, votes: np.ndarray, epochs: int) -> Scorer:
    """The twin that must fail, in plain torch: Eq. 3 as two log-likelihoods, all pairs, the last weights."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    obs, last_obs, target = (torch.tensor(x, dtype=torch.float32) for x in (pairs.obs, pairs.last_obs, votes))
    log_sigmoid = torch.nn.functional.logsigmoid
    for _ in range(epochs):
        for batch in torch.randperm(len(pairs)).split(256):
            rise = (network(last_obs[batch]) - network(obs[batch]))[:, 0]
            loss = -(target[batch] * log_sigmoid(rise) + (1 - target[batch]) * log_sigmoid(-rise)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    layers = [x for x in network if isinstance(x, torch.nn.Linear)]
    return Scorer(
        tuple(x.weight.detach().numpy().T[None] for x in layers), tuple(x.bias.detach().numpy()[None] for x in layers)
    )


def test_the_heuristic_of_two_switch_is_learnt() -> None:
    found = fitted(two_switch_pairs(4400, 1, ties=False), members=1)
    fresh = two_switch_pairs(1000, 77, ties=False)
    share = agreement(change(found.scorer, fresh), fresh.label)
    assert share is not None and share > 0.93


@pytest.mark.parametrize("normalise", [True, False])
def test_t1_what_nobody_knows_pays_nothing(normalise: bool) -> None:
    pairs = two_switch_pairs(1500, 1)
    clean = fitted(pairs, members=1, max_epochs=60, normalise=normalise)
    config = ScorerConfig(members=1, normalise=normalise)
    unknown = fit_scorer(pairs, np.full(len(pairs), 0.5), config, 0)
    size = abs(change(unknown.scorer, pairs)).mean() / abs(change(clean.scorer, pairs)).mean()
    assert size < 0.05
    assert unknown.accuracy is None
    if normalise:  # the twin that must fail: without a least unit noise is worth as much as knowledge
        blown_up = scaled(unknown.scorer, pairs, ScorerConfig(least_unit=1e-9))
        assert abs(change(blown_up, pairs)).mean() > 0.5


def test_rewards_shrink_with_the_certainty_of_the_votes() -> None:
    """At the best fit a difference is the log-odds of the votes: ln(c / (1 − c))."""
    obs = np.tile(np.array([[0.0], [1.0]], np.float32), (200, 1))
    zeros = np.zeros(400, np.int64)
    pairs = Pairs(0, obs, 1 - obs, zeros, zeros, 1 - 2 * obs[:, 0].astype(np.int64), [""] * 400, [""] * 400)
    for certain in (0.6, 0.75, 0.9):
        towards_one = np.where(obs[:, 0] == 0, certain, 1 - certain)
        scorer = fit_scorer(pairs, towards_one, ScorerConfig(members=1, normalise=False, lr=3e-3), 0).scorer
        assert change(scorer, pairs)[0] == pytest.approx(np.log(certain / (1 - certain)), rel=0.05)


# ------------------------------------------------------------ what comes out


@pytest.fixture(scope="module")
def small() -> tuple[Pairs, Fitted]:
    pairs = made_up_pairs(300, 5)
    return pairs, fit_scorer(pairs, (pairs.label + 1) / 2, SHORT, 7)


def test_unit_and_anchor_are_of_the_pairs(small: tuple[Pairs, Fitted]) -> None:
    pairs, found = small
    raw = scaled(found.scorer, pairs, SHORT.model_copy(update={"normalise": False, "least_unit": 99.0}))
    assert raw.unit == 1.0
    assert found.scorer.unit == pytest.approx(max(change(raw, pairs).std(), SHORT.least_unit), rel=1e-5)
    assert max(x.max() for x in (raw.score(pairs.obs), raw.score(pairs.last_obs))) == pytest.approx(0, abs=1e-6)
    turned = scaled(found.scorer, replace(pairs, obs=pairs.last_obs, last_obs=pairs.obs), SHORT)
    assert (turned.unit, turned.anchor) == pytest.approx((found.scorer.unit, found.scorer.anchor))
    narrow = scaled(found.scorer, pairs, SHORT.model_copy(update={"least_unit": 1e-9}))
    assert change(narrow, pairs).std() == pytest.approx(1, rel=1e-5)


def test_the_same_arguments_give_the_same_scorer(small: tuple[Pairs, Fitted]) -> None:
    pairs, found = small
    torch.manual_seed(123)  # nothing of torch's or numpy's own streams is used
    np.random.seed(123)
    assert fit_scorer(pairs, (pairs.label + 1) / 2, SHORT, 7).scorer.to_bytes() == found.scorer.to_bytes()
    assert fit_scorer(pairs, (pairs.label + 1) / 2, SHORT, 8).scorer.name != found.scorer.name


def test_a_member_is_what_it_would_be_alone(small: tuple[Pairs, Fitted]) -> None:
    pairs, found = small
    alone = fit_scorer(pairs, (pairs.label + 1) / 2, SHORT.model_copy(update={"members": 1}), 7)
    for own, stacked in zip(alone.scorer.weights, found.scorer.weights, strict=True):
        np.testing.assert_allclose(own[0], stacked[0], atol=1e-6)
    assert not np.allclose(found.scorer.weights[0][0], found.scorer.weights[0][1])


@pytest.mark.parametrize("seed", [1, 4, 5])  # the first member would find better weights later on
def test_a_member_that_has_stopped_is_left_alone(seed: int) -> None:
    """One that waits for others keeps the weights of its own best epoch, however long they train."""
    pairs = made_up_pairs(100, 6)
    votes = confidence(oracle_votes(pairs.label, 1, 0.8, 0))
    config = ScorerConfig(hidden=(16,), lr=0.02, batch=20, patience=1, members=16)
    together = fit_scorer(pairs, votes, config, seed)
    assert together.epochs[0] < max(together.epochs)
    alone = fit_scorer(pairs, votes, config.model_copy(update={"members": 1}), seed)
    assert alone.epochs == together.epochs[:1]
    np.testing.assert_allclose(alone.scorer.weights[0][0], together.scorer.weights[0][0], atol=1e-3)


def test_a_pair_is_judged_by_members_that_kept_it_apart() -> None:
    rise = Scorer((np.array([[[1.0]], [[10.0]]], np.float32),), (np.zeros((2, 1), np.float32),))
    zeros = np.zeros(4, np.int64)
    pairs = Pairs(0, np.zeros((4, 1), np.float32), np.ones((4, 1), np.float32), zeros, zeros, zeros, [""] * 4, [""] * 4)
    some, found = held_out_change(rise, pairs, np.array([[0, 1], [1, 3]]))
    assert some.tolist() == [True, True, False, True]
    assert found.tolist() == [1, 5.5, 10]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=2), st.integers(1, 3))
def test_numpy_evaluates_what_torch_does(hidden: list[int], members: int) -> None:
    pairs = made_up_pairs(40, 1)
    config = ScorerConfig(hidden=tuple(hidden), members=members, max_epochs=2)
    scorer = fit_scorer(pairs, (pairs.label + 1) / 2, config, 0).scorer
    for m, said in enumerate(scorer.members(pairs.obs)):
        x = torch.from_numpy(pairs.obs)
        for i, (weight, bias) in enumerate(zip(scorer.weights, scorer.biases, strict=True)):
            x = torch.nn.functional.linear(
                x if i == 0 else x.relu(), torch.from_numpy(weight[m].T), torch.tensor(bias[m])
            )
        np.testing.assert_allclose(said, (x[:, 0].numpy() - scorer.anchor) / scorer.unit, rtol=1e-4, atol=1e-5)


def test_pairs_that_nobody_was_asked_about_do_not_count(small: tuple[Pairs, Fitted]) -> None:
    pairs, found = small
    more = made_up_pairs(320, 5)
    more = replace(
        more,
        obs=np.concatenate([pairs.obs, more.obs[:20] + 9]),
        last_obs=np.concatenate([pairs.last_obs, more.obs[:20]]),
    )
    votes = np.concatenate([(pairs.label + 1) / 2, np.full(20, np.nan)])
    labels = np.concatenate([pairs.label, np.full(20, NOT_JUDGED)])
    again = fit_scorer(more, votes, SHORT, 7, labels)
    assert again.scorer.name == found.scorer.name
    assert again.agreement == found.agreement


def test_agreement_is_unknown_without_labels(small: tuple[Pairs, Fitted]) -> None:
    pairs, found = small
    unknown = fit_scorer(pairs, (pairs.label + 1) / 2, SHORT, 7, np.full(len(pairs), NOT_JUDGED))
    assert unknown.agreement is None and unknown.accuracy == found.accuracy


def test_what_it_refuses(small: tuple[Pairs, Fitted]) -> None:
    pairs, _ = small
    few = np.full(len(pairs), np.nan)
    few[:19] = 1
    with pytest.raises(PreferenceError, match="at least 20 ranked pairs, got 19 of 300"):
        fit_scorer(pairs, few, SHORT, 0)
    with pytest.raises(PreferenceError, match=r"must be in 0\.\.1, got -1 to 1"):
        fit_scorer(pairs, pairs.label.astype(float), SHORT, 0)
    with pytest.raises(PreferenceError, match="finite observations"):
        fit_scorer(replace(pairs, obs=pairs.obs * np.nan), (pairs.label + 1) / 2, SHORT, 0)


def test_scorers_that_are_not_finite_are_never_kept() -> None:
    """Else the first weights would be the best, and the scorer one of noise."""
    pairs = made_up_pairs(100, 5)
    with pytest.raises(TrainingDiverged, match=r"lower preferences\.scorer\.lr \(1e\+30\)"):
        fitted(pairs, lr=1e30, hidden=(8, 8), max_epochs=3, members=2)
    huge = replace(pairs, obs=pairs.obs * np.float32(1e30), last_obs=pairs.last_obs * np.float32(1e30))
    with pytest.raises(TrainingDiverged):
        fitted(huge, hidden=(8, 8), max_epochs=3, members=2)
