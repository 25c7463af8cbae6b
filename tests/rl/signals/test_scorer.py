"""A scorer as data: evaluated by hand, named by its content, kept in a folder."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.signals.scorer import Scorer, Scorers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

# Two networks of one hidden unit: σ = 3 relu(x₀ − x₁ + 1) − 1 and σ = relu(x₁).
HAND = Scorer(
    weights=(np.array([[[1], [-1]], [[0], [1]]], np.float32), np.array([[[3]], [[1]]], np.float32)),
    biases=(np.array([[1], [0]], np.float32), np.array([[-1], [0]], np.float32)),
    unit=2.0,
    anchor=4.0,
)
OBS = np.array([[1, 0], [0, 3]], np.float32)  # σ = 5, −1 and 0, 3


def drawn(seed: int) -> Scorer:
    rng, sizes = np.random.default_rng(seed), (3, 5, 1)
    layers = [
        (rng.normal(size=(2, a, b)).astype(np.float32), rng.normal(size=(2, b)).astype(np.float32))
        for a, b in pairwise(sizes)
    ]
    return Scorer(tuple(w for w, _ in layers), tuple(b for _, b in layers), rng.random() + 0.1, rng.normal())


def test_by_hand() -> None:
    assert HAND.members(OBS).tolist() == [[0.5, -2.5], [-2, -0.5]]
    assert HAND.score(OBS).tolist() == [-0.75, -1.5]
    assert HAND.disagreement(OBS[:1], OBS[1:]).tolist() == [2.25]  # changes −3 and 1.5 are 2.25 from their mean


def test_observations_of_any_leading_shape() -> None:
    scorer, obs = drawn(0), np.random.default_rng(1).normal(size=(4, 2, 3)).astype(np.float32)
    assert scorer.members(obs).shape == (2, 4, 2)
    np.testing.assert_allclose(scorer.score(obs).ravel(), scorer.score(obs.reshape(8, 3)), rtol=1e-5, atol=1e-6)


def test_another_size_is_refused() -> None:
    with pytest.raises(SignalError, match="a scorer of 2 observed numbers got 3"):
        HAND.score(np.zeros((1, 3), np.float32))


@given(st.integers(0, 1000))
def test_it_survives_bytes_and_is_named_by_them(seed: int) -> None:
    scorer = drawn(seed)
    again = Scorer.from_bytes(scorer.to_bytes())
    assert again.to_bytes() == scorer.to_bytes()
    assert again.name == scorer.name
    assert np.array_equal(again.members(np.eye(3, dtype=np.float32)), scorer.members(np.eye(3, dtype=np.float32)))
    assert replace(scorer, unit=scorer.unit * 2).name != scorer.name
    assert replace(scorer, anchor=scorer.anchor + 1).name != scorer.name
    assert replace(scorer, biases=(scorer.biases[0] + 1, scorer.biases[1])).name != scorer.name


@pytest.mark.parametrize("content", [b"", b"no file of tensors", save({"other": np.zeros(1)})])
def test_what_is_no_scorer_is_refused(content: bytes) -> None:
    with pytest.raises(SignalError, match="must be a safetensors file of its own"):
        Scorer.from_bytes(content)


def test_a_folder_of_scorers(tmp_path: Path) -> None:
    scorers = Scorers(tmp_path / "scorers")
    name = scorers.add(HAND)
    assert scorers.add(Scorer.from_bytes(HAND.to_bytes())) == name
    assert [path.name for path in (tmp_path / "scorers").iterdir()] == [f"{name}.safetensors"]
    assert Scorers(tmp_path / "scorers").get(name).to_bytes() == HAND.to_bytes()
    with pytest.raises(SignalError, match="fit it, or drop the term"):
        scorers.get("0" * 16)
    with pytest.raises(SignalError, match="fit it, or drop the term"):
        Scorers().get(name)
