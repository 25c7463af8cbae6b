"""Pairs of states that one agent's move connects: what is ranked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ...errors import PreferenceError
from ..task import FloatArray, IntArray

ARRAYS, TEXTS = "pairs.safetensors", "texts.json"
_ARRAYS = ("obs", "last_obs", "agent", "action", "label")
NOT_JUDGED = 2  # in `Pairs.label`: the task has no heuristic


@dataclass(frozen=True)
class Pairs:
    """`P` moves of single agents of group number `group`: from state s to s', before auto-reset."""

    group: int
    obs: FloatArray  # [P, O_g] of s, from the agent's own side
    last_obs: FloatArray  # [P, O_g] of s'
    agent: IntArray  # [P] index in the group
    action: IntArray  # [P]
    label: IntArray  # [P] of the task's heuristic: 1 where s' is better, -1 where s is, 0 for neither; or NOT_JUDGED
    before: list[str]  # [P] s in words, from the agent's side
    after: list[str]  # [P]

    def __len__(self) -> int:
        return len(self.action)

    def ids(self) -> list[str]:
        """[P] by content, 16 hex digits: what recorded answers refer to."""
        return [
            hashlib.sha256(b"|".join((str(self.group).encode(), bytes(a), bytes(b), bytes(i), bytes(u)))).hexdigest()[
                :16
            ]
            for a, b, i, u in zip(self.obs, self.last_obs, self.agent, self.action, strict=True)
        ]

    def taken(self, index: NDArray[Any]) -> Pairs:
        """Those with these numbers, or where a mask is true."""
        chosen = np.arange(len(self))[index]
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in parts.items():
            if isinstance(value, np.ndarray):
                parts[name] = value[chosen]
            elif isinstance(value, list):
                parts[name] = [value[i] for i in chosen]
        return Pairs(**parts)

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """All pairs of the parts, which are of one group."""
        values: dict[str, Any] = {"group": parts[0].group}
        for name in (f.name for f in fields(cls) if f.name != "group"):
            found = [getattr(part, name) for part in parts]
            values[name] = np.concatenate(found) if name in _ARRAYS else [text for texts in found for text in texts]
        return cls(**values)


def save_pairs(pairs: Sequence[Pairs], folder: Path) -> None:
    """`pairs.safetensors` with the arrays and `texts.json` with the states in words; groups must differ."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"{p.group}.{name}": np.ascontiguousarray(getattr(p, name)) for p in pairs for name in _ARRAYS}
    texts = {p.group: {"before": p.before, "after": p.after} for p in pairs}
    (folder / TEXTS).write_text(json.dumps(texts), encoding="utf-8")
    save_file(arrays, folder / ARRAYS)


def load_pairs(folder: Path) -> list[Pairs]:
    """What `save_pairs` wrote, by group. Raises PreferenceError where it is missing, broken or does not fit."""
    try:
        arrays, texts = load_file(folder / ARRAYS), json.loads((folder / TEXTS).read_text(encoding="utf-8"))
        found = [_group(group, arrays, told) for group, told in sorted(texts.items(), key=lambda item: int(item[0]))]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise PreferenceError(f"no usable pairs in {str(folder)!r} ({error!r}); collect them anew") from error
    for pairs in found:
        sizes = {len(getattr(pairs, f.name)) for f in fields(pairs) if f.name != "group"}
        if len(sizes) != 1:
            raise PreferenceError(
                f"arrays and texts of pairs must be equally long, got {sorted(sizes)} for group {pairs.group} in "
                f"{str(folder)!r}; collect them anew"
            )
    return found


def _group(group: str, arrays: dict[str, NDArray[Any]], texts: dict[str, Any]) -> Pairs:
    parts: dict[str, Any] = {name: arrays[f"{group}.{name}"] for name in _ARRAYS}
    return Pairs(int(group), **parts, **texts)
