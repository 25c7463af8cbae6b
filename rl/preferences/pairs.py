"""Pairs of states that one agent's move connects: what is ranked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
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
_TEXTS = ("before", "after")
NOT_JUDGED = 2  # in `Pairs.label`: the task has no heuristic


@dataclass(frozen=True)
class Pairs:
    """`P` moves of single agents of group number `group`: from state s to s′, before auto-reset."""

    group: int
    obs: FloatArray  # [P, O_g] of s, from the agent's own side
    last_obs: FloatArray  # [P, O_g] of s′
    agent: IntArray  # [P] index in the group
    action: IntArray  # [P]
    label: IntArray  # [P] of the task's heuristic: 1 where s′ is better, -1 where s is, 0 for neither; or NOT_JUDGED
    before: list[str]  # [P] s in words, from the agent's side
    after: list[str]  # [P]

    def __len__(self) -> int:
        return len(self.action)

    def ids(self) -> list[str]:
        """Return a name of each pair, [P], 16 hex digits of its content: what recorded answers refer to."""
        contents = [
            b"|".join((str(self.group).encode(), bytes(a), bytes(b), bytes(i), bytes(u)))
            for a, b, i, u in zip(self.obs, self.last_obs, self.agent, self.action, strict=True)
        ]
        return [hashlib.sha256(content).hexdigest()[:16] for content in contents]

    def select(self, index: NDArray[Any]) -> Pairs:
        """Return the pairs with these numbers, or where a mask [P] is true."""
        chosen = np.arange(len(self))[index]
        values: dict[str, Any] = {"group": self.group}
        values |= {name: getattr(self, name)[chosen] for name in _ARRAYS}
        values |= {name: [getattr(self, name)[i] for i in chosen] for name in _TEXTS}
        return Pairs(**values)

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """Return all pairs of the parts, which are of one group."""
        values: dict[str, Any] = {"group": parts[0].group}
        values |= {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
        values |= {name: [text for part in parts for text in getattr(part, name)] for name in _TEXTS}
        return cls(**values)


def save_pairs(pairs: Sequence[Pairs], folder: Path) -> None:
    """Write `pairs.safetensors` with the arrays and `texts.json` with the states in words; groups must differ."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"{p.group}.{name}": np.ascontiguousarray(getattr(p, name)) for p in pairs for name in _ARRAYS}
    texts = {p.group: {"before": p.before, "after": p.after} for p in pairs}
    (folder / TEXTS).write_text(json.dumps(texts), encoding="utf-8")
    save_file(arrays, folder / ARRAYS)


def load_pairs(folder: Path) -> list[Pairs]:
    """Read what `save_pairs` wrote, ordered by group.

    Raises:
        PreferenceError: a file is missing or broken, or arrays and texts do not fit together.
    """
    try:
        arrays, texts = load_file(folder / ARRAYS), json.loads((folder / TEXTS).read_text(encoding="utf-8"))
        by_group = []
        for group in sorted(texts, key=int):
            values: dict[str, Any] = {name: arrays[f"{group}.{name}"] for name in _ARRAYS}
            by_group.append(Pairs(int(group), **values, **texts[group]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise PreferenceError(f"no usable pairs in {str(folder)!r} ({error!r}); collect them anew") from error
    for pairs in by_group:
        sizes = {len(getattr(pairs, name)) for name in (*_ARRAYS, *_TEXTS)}
        if len(sizes) != 1:
            raise PreferenceError(
                f"arrays and texts of pairs must be equally long, got {sorted(sizes)} for group {pairs.group} in "
                f"{str(folder)!r}; collect them anew"
            )
    return by_group
