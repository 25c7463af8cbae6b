"""Pairs of states that one agent's move connects: what is ranked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..task import FloatArray, IntArray

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
