"""Pairs as files."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from cosignal.errors import PreferenceError
from cosignal.rl.preferences.pairs import ARRAYS, TEXTS, load_pairs, save_pairs
from ranked_moves import made_up_pairs, two_switch_pairs

PAIRS = [
    replace(made_up_pairs(2, 0), before=["du", "ï"], after=["a", "b"]),
    replace(two_switch_pairs(3, 0), group=10),
    replace(two_switch_pairs(1, 1), group=2),
]


def test_they_survive_a_file(tmp_path: Path) -> None:
    save_pairs(PAIRS, tmp_path / "deep" / "p")
    found = load_pairs(tmp_path / "deep" / "p")
    assert [pairs.group for pairs in found] == [0, 2, 10]
    for pairs, again in zip([PAIRS[0], PAIRS[2], PAIRS[1]], found, strict=True):
        assert pairs.ids() == again.ids()
        for f in fields(pairs):
            value, loaded = getattr(pairs, f.name), getattr(again, f.name)
            assert np.array_equal(value, loaded) and getattr(value, "dtype", None) == getattr(loaded, "dtype", None)


def test_rows_of_a_transposed_array_stay_rows(tmp_path: Path) -> None:
    """safetensors writes memory as it lies; an array in another order would come back mixed up."""
    pairs = replace(PAIRS[0], obs=np.asfortranarray(PAIRS[0].obs))
    save_pairs([pairs], tmp_path)
    assert np.array_equal(load_pairs(tmp_path)[0].obs, PAIRS[0].obs)


def test_what_is_missing_or_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(PreferenceError, match="no usable pairs in"):
        load_pairs(tmp_path)
    save_pairs(PAIRS[:1], tmp_path)
    (tmp_path / TEXTS).write_text(json.dumps({"0": {"before": ["one"], "after": ["a", "b"]}}))
    with pytest.raises(PreferenceError, match=r"equally long, got \[1, 2\] for group 0"):
        load_pairs(tmp_path)
    (tmp_path / TEXTS).write_text(json.dumps({"1": {"before": [], "after": []}}))
    with pytest.raises(PreferenceError, match="collect them anew"):
        load_pairs(tmp_path)
    (tmp_path / ARRAYS).write_bytes(b"nothing")
    with pytest.raises(PreferenceError, match="collect them anew"):
        load_pairs(tmp_path)
