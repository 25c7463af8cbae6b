"""Short texts of what an agent's step has led to, from its features and events: what models judge.

    just did found; at the goal, near door, open, keys 2

Distances, positions and quantities are told by where they lie in their range, in four words, so that there are few
different texts: they are counted, labelled once each, and looked up. A text is data; it is made of names that the task
declares.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..task import FeatureSpec, FloatArray, GroupSpec, TaskSpec

MAX_FEATURES = 12  # of a text
NEAR = ("at {}", "near {}", "half way from {}", "far from {}")  # of a distance, by its share of the range
LEVEL = ("{} low", "{} below the middle", "{} above the middle", "{} high")
SHARES = (0.02, 0.25, 0.6)  # between the words for distances
MIX = np.int64(0x5BD1_E995_9E37_79B1)  # an odd number; its products spread over all bits
VECTOR = 128  # numbers of a text's vector


@dataclass(frozen=True)
class CaptionFormat:
    """The features and events of a group of agents that its texts tell of."""

    features: tuple[str, ...]
    events: tuple[str, ...]


def caption_format(group: GroupSpec) -> CaptionFormat:
    """Return all events of the group, and its first features, those first that have few values."""
    kinds = {"flag": 0, "count": 1, "distance": 2}
    order = sorted(group.features, key=lambda feature: kinds.get(feature.kind, 3))
    return CaptionFormat(tuple(x.name for x in order[:MAX_FEATURES]), tuple(group.event_names()))


def caption_codes(group: GroupSpec, form: CaptionFormat, features: FloatArray, events: FloatArray) -> NDArray[np.int64]:
    """Return [..., K]: a number for each feature and event of the format; equal rows have equal texts.

    Args:
        group: the agents' group.
        form: what is told.
        features: [..., F_g] of the state that the step led to.
        events: [..., V_g] of the step.
    """
    specs = {feature.name: (i, feature) for i, feature in enumerate(group.features)}
    names = group.event_names()
    columns = [_level(feature, features[..., i]) for i, feature in (specs[name] for name in form.features)]
    columns += [np.asarray(events[..., names.index(name)] > 0, np.int64) for name in form.events]
    if not columns:
        return np.zeros((*features.shape[:-1], 0), np.int64)
    return np.stack(columns, -1)


def _level(feature: FeatureSpec, values: FloatArray) -> NDArray[np.int64]:
    """Return the word's number of each value; -1 of one that is done."""
    plain = np.nan_to_num(values.astype(np.float64))
    if feature.kind == "flag":
        return np.asarray(plain > 0.5, np.int64)
    if feature.kind == "count":
        return np.asarray(np.rint(plain), np.int64)
    share = (plain - feature.low) / max(feature.high - feature.low, 1e-9)
    bounds = SHARES if feature.kind == "distance" else (0.25, 0.5, 0.75)
    level = np.asarray(np.searchsorted(bounds, share, side="left"), np.int64)
    return level if feature.done is None else np.where(np.isclose(plain, feature.done), -1, level)


def caption(spec: TaskSpec, g: int, form: CaptionFormat, code: Sequence[int]) -> str:
    """Return the text of a row of `caption_codes` of group g; it names the group where there are several."""
    group = spec.groups[g]
    kinds = {feature.name: feature.kind for feature in group.features}
    happened = [name for name, times in zip(form.events, code[len(form.features) :], strict=True) if times]
    words = [_words(name, kinds[name], level) for name, level in zip(form.features, code, strict=False)]
    parts = ([f"just did {' and '.join(happened)}"] if happened else []) + ([", ".join(words)] if words else [])
    text = "; ".join(parts) or "nothing to tell"
    return f"{group.name}: {text}" if len(spec.groups) > 1 else text


def _words(name: str, kind: str, level: int) -> str:
    if kind == "flag":
        return name if level else f"not {name}"
    if kind == "count":
        return f"{name} {level}"
    if level < 0:
        return f"{name} done"
    return (NEAR if kind == "distance" else LEVEL)[level].format(name)


def captions(spec: TaskSpec, g: int, form: CaptionFormat, codes: NDArray[np.int64]) -> tuple[list[str], NDArray[Any]]:
    """Return the different texts of rows [n, K], and [n], the number of each row's text among them."""
    _, first, number = np.unique(row_keys(codes), return_index=True, return_inverse=True)
    return [caption(spec, g, form, row) for row in codes[first].tolist()], number.reshape(-1)


def row_keys(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return [n]: a number for each row [n, K], equal for equal rows, and hardly ever for others.

    Comparing one number a row is what a trainer can afford in every step.
    """
    keys = np.zeros(codes.shape[:-1], np.int64)
    with np.errstate(over="ignore"):  # numbers wrap around
        for column in range(codes.shape[-1]):
            keys = (keys ^ codes[..., column]) * MIX
    return keys


def exact_text(spec: TaskSpec, g: int, features: FloatArray) -> str:
    """Return a state of group g with its numbers, features [F_g]: `dist_goal 7 (0 to 17), open 1`."""
    group = spec.groups[g]
    words = []
    for feature, value in zip(group.features, features.tolist(), strict=True):
        span = "" if feature.kind in ("flag", "count") else f" ({feature.low:g} to {feature.high:g})"
        words.append(f"{feature.name} {'done' if value == feature.done else format(value, '.3g')}{span}")
    text = ", ".join(words)
    return f"{group.name}: {text}" if len(spec.groups) > 1 else text


def text_vector(text: str) -> FloatArray:
    """Return [VECTOR]: counts of its words and of all three letters in a row, hashed, of length 1.

    So texts with equal parts are near to each other, whatever model they come from.
    """
    vector = np.zeros(VECTOR, np.float32)
    padded = f"  {text.lower()}  "
    grams = [padded[i : i + 3] for i in range(len(padded) - 2)]
    for part in (*grams, *text.lower().split()):
        vector[zlib.crc32(part.encode()) % VECTOR] += 1
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)


def text_vectors(texts: Sequence[str]) -> FloatArray:
    """Return [n, VECTOR]."""
    return np.array([text_vector(text) for text in texts], np.float32).reshape(-1, VECTOR)
