"""Short texts: by hand, equal for equal codes, and vectors that are near where texts are alike."""

from __future__ import annotations

import numpy as np
import pytest
from cosignal.rl.signals.captions import (
    CaptionFormat,
    caption,
    caption_codes,
    caption_format,
    captions,
    exact_text,
    text_vector,
    text_vectors,
)
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, TaskSpec

FEATURES = (
    FeatureSpec(name="level", kind="quantity", low=0, high=4),
    FeatureSpec(name="goal", kind="distance", low=0, high=20, done=20),
    FeatureSpec(name="keys", kind="count", low=0, high=3),
    FeatureSpec(name="open", kind="flag", low=0, high=1),
)
EVENTS = (EventSpec(name="found"), EventSpec(name="dug"))
GROUP = GroupSpec(name="team", agents=("one", "other"), obs_size=1, n_actions=2, features=FEATURES, events=EVENTS)
SPEC = TaskSpec(name="made_up", description="", groups=(GROUP,), max_steps=30)
FORM = caption_format(GROUP)


def told(features: list[float], events: list[float]) -> str:
    codes = caption_codes(GROUP, FORM, np.array(features, np.float32), np.array(events, np.float32))
    return caption(SPEC, 0, FORM, codes.tolist())


def test_what_has_few_values_comes_first() -> None:
    assert CaptionFormat(("open", "keys", "goal", "level"), ("found", "dug")) == FORM


@pytest.mark.parametrize(
    ("features", "events", "text"),
    [
        ([0, 0, 0, 0], [0, 0], "not open, keys 0, at goal, level low"),
        ([1.5, 3, 2, 1], [1, 0], "just did found; open, keys 2, near goal, level below the middle"),
        ([4, 11, 2, 1], [1, 2], "just did found and dug; open, keys 2, half way from goal, level high"),
        ([3, 19, 0, 0], [0, 0], "not open, keys 0, far from goal, level above the middle"),
        ([0, 20, 0, 0], [0, 0], "not open, keys 0, goal done, level low"),
    ],
)
def test_by_hand(features: list[float], events: list[float], text: str) -> None:
    assert told(features, events) == text


def test_rows_with_one_text_are_one() -> None:
    rng = np.random.default_rng(1)
    features = rng.uniform(0, 4, (50, 4)).astype(np.float32)
    codes = caption_codes(GROUP, FORM, features, np.zeros((50, 2), np.float32))
    texts, number = captions(SPEC, 0, FORM, codes)
    assert len(texts) == len({*texts}) < 50
    assert [texts[i] for i in number] == [told(row, [0, 0]) for row in features.tolist()]


def test_numbers_are_told_where_states_are_measured() -> None:
    assert exact_text(SPEC, 0, np.array([1.25, 20, 2, 1], np.float32)) == (
        "level 1.25 (0 to 4), goal done (0 to 20), keys 2, open 1"
    )


def test_vectors_of_alike_texts_are_near() -> None:
    near, alike, other = text_vectors(["picked key 3 in room 5", "picked key 4 in room 7", "bumped into a wall"])
    assert near @ near == pytest.approx(1)
    assert near @ alike > 0.5 > near @ other
    assert (text_vector("picked key 3 in room 5") == near).all()
    assert text_vectors([]).shape == (0, len(near))
