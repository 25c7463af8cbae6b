"""Spaces of Gymnasium that can be batched: observations as rows of numbers, actions as choices or bounded numbers.

Observations: Box of any shape (flattened), Discrete and MultiDiscrete (one-hot), MultiBinary; or PettingZoo's Dict of
"observation" and "action_mask". Actions: Discrete, with a mask in the observation or in infos[agent]["action_mask"]
where there is one; or a bounded Box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, flatten, flatten_space

from ...errors import ConfigError
from ..task import BoolArray

OBSERVATION, MASK = "observation", "action_mask"


@dataclass(frozen=True)
class ObservationSpace:
    """`bounds`: of each component of the flat observation. `masked`: it comes in a Dict with the mask."""

    space: Space[Any]
    bounds: tuple[tuple[float, float], ...]
    masked: bool

    def flat(self, observed: Any) -> Any:
        """The observation as a row of numbers, [O]."""
        inner = observed[OBSERVATION] if self.masked else observed
        if isinstance(self.space, Box):
            return inner if len(self.space.shape) == 1 else np.ravel(inner)
        return flatten(self.space, inner)

    def mask(self, observed: Any, info: Mapping[str, Any]) -> BoolArray | None:
        """[U] of what is allowed; None where nobody says, so that all is."""
        told = observed.get(MASK) if self.masked else info.get(MASK)
        return None if told is None else np.asarray(told).astype(np.bool_)


@dataclass(frozen=True)
class ActionSpace:
    """`n` choices from `start` on, or a Box: `bounds` of each number."""

    n: int
    start: int = 0
    bounds: tuple[tuple[float, float], ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "int64"

    @property
    def width(self) -> int:
        """Numbers that say one action."""
        return len(self.bounds) or 1

    def action(self, row: Sequence[float]) -> Any:
        """What the environment takes, from one row [width]: the number of a choice, or numbers in -1..1 (clipped)."""
        if not self.bounds:
            return self.start + int(row[0])
        low, high = np.array(self.bounds).T
        return (low + (high - low) * (np.clip(row, -1.0, 1.0) + 1) / 2).reshape(self.shape).astype(self.dtype)

    def probe(self, mask: BoolArray | None) -> Any:
        """Some action that may be taken; the first is a no-op in many environments, so the second is preferred."""
        if self.bounds:
            return self.action([0.5] * self.width)
        allowed = np.arange(self.n) if mask is None else np.flatnonzero(mask)
        if not len(allowed):
            raise ConfigError(
                f"an action mask must allow at least one of {self.n} actions, got none; correct it in the environment"
            )
        return self.start + int(allowed[min(1, len(allowed) - 1)])


def read_observations(agent: Any, space: Space[Any]) -> ObservationSpace:
    """Raises ConfigError for a space that is not in the list above."""
    masked = isinstance(space, Dict) and set(space.spaces) == {OBSERVATION, MASK}
    inner: Space[Any] = space[OBSERVATION] if masked and isinstance(space, Dict) else space
    if not isinstance(inner, Box | Discrete | MultiDiscrete | MultiBinary) or not np.prod(inner.shape or (1,)):
        raise ConfigError(
            f"observations must be a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of {OBSERVATION!r} and"
            f" {MASK!r}, agent {agent!r} has {space!r}; put the parts into one Box in a wrapper"
        )
    flat = flatten_space(inner)
    assert isinstance(flat, Box)
    bounds = tuple(zip(flat.low.astype(float).tolist(), flat.high.astype(float).tolist(), strict=True))
    return ObservationSpace(inner, bounds, masked)


def read_actions(agent: Any, space: Space[Any]) -> ActionSpace:
    """Raises ConfigError for a space that is not in the list above."""
    if isinstance(space, Discrete) and space.n >= 2:
        return ActionSpace(int(space.n), int(space.start))
    if isinstance(space, Box) and space.shape and np.prod(space.shape) and space.is_bounded():
        bounds = tuple(
            zip(space.low.ravel().astype(float).tolist(), space.high.ravel().astype(float).tolist(), strict=True)
        )
        return ActionSpace(0, 0, bounds, space.shape, str(space.dtype))
    raise ConfigError(
        f"actions must be Discrete with at least 2 choices, or a bounded Box, agent {agent!r} has {space!r}; map them"
        " in a wrapper (one choice for each combination, or bounds on the Box)"
    )
