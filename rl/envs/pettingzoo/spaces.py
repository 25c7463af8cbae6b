"""Spaces of Gymnasium: observations as rows of numbers, and numbers of a policy as actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple, flatten, flatten_space
from numpy.typing import NDArray

from ....errors import ConfigError
from ...task import BoolArray

OBSERVATION, MASK = "observation", "action_mask"  # keys of PettingZoo's Dict
INTEGERS, NUMBERS = "biu", "biuf"  # kinds of dtypes: booleans and integers; floats, too


# ---------------------------------------------------------------- observations


@dataclass(frozen=True)
class ObservedPart:
    """A Box or choices, alone or somewhere in a Dict or Tuple.

    Attributes:
        keys: that lead to it from the whole observation; none where it is that.
        space: its own.
        bounds: (lowest, highest) of each of its numbers.
        divisor: of its numbers: 255 for an image of bytes, so that they are 0..1, else 1.
    """

    keys: tuple[str | int, ...]
    space: Space[Any]
    bounds: tuple[tuple[float, float], ...]
    divisor: int = 1

    def flat(self, observed: Any) -> NDArray[Any]:
        """Return the part as a row of numbers. Raises ValueError as `ObservationSpace.flat`."""
        numbers = _numbers(observed)
        if numbers is None:
            raise ValueError(f"{shown(observed)}, its space says numbers")
        if self._box_shape is None:
            return self._one_hot(numbers)
        if numbers.shape != self._box_shape:
            raise ValueError(f"{numbers.shape}, its space says {self._box_shape}")
        flat = numbers if numbers.ndim == 1 else numbers.ravel()
        return flat if self.divisor == 1 else flat / np.float32(self.divisor)

    @cached_property
    def _box_shape(self) -> tuple[int, ...] | None:
        """The shape of a Box, None of other spaces."""
        return self.space.shape if isinstance(self.space, Box) else None

    @property
    def image(self) -> tuple[int, int, int] | None:
        """The shape of a Box of height × width × channels; None of other spaces."""
        shape = self._box_shape
        return shape if shape is not None and len(shape) == 3 else None

    def _one_hot(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return choices one-hot, and a MultiBinary as it is."""
        # An array of one number does for a Discrete.
        if numbers.size != int(np.prod(self.space.shape or ())):
            raise ValueError(f"{numbers.shape}, its space says {self.space.shape}")
        numbers = numbers.reshape(self.space.shape or ())
        # Gymnasium's flattening counts from the other end, or into the next choice's place.
        if isinstance(self.space, Discrete | MultiDiscrete):
            sizes = self.space.n if isinstance(self.space, Discrete) else self.space.nvec
            choices = numbers - self.space.start
            if numbers.dtype.kind == "f" or (choices < 0).any() or (choices >= sizes).any():
                raise ValueError(f"{numbers.tolist()!r}, its space says {self.space}")
        row: NDArray[Any] = np.asarray(flatten(self.space, numbers))
        return row


@dataclass(frozen=True)
class ObservationSpace:
    """A rule that makes an agent's observation a row of numbers: those of its parts, in Gymnasium's order.

    Attributes:
        space: the space of the observation itself, without a mask.
        parts: the Boxes and choices in it; a Dict or Tuple has several.
        masked: whether the observation comes in a Dict with the mask.
    """

    space: Space[Any]
    parts: tuple[ObservedPart, ...]
    masked: bool

    @cached_property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """(Lowest, highest) of each component of the flat observation."""
        return tuple(bound for part in self.parts for bound in part.bounds)

    @property
    def image(self) -> tuple[int, int, int] | None:
        """The shape of an observation that is an image and nothing else; None of others."""
        return self.parts[0].image if len(self.parts) == 1 else None

    def flat(self, observed: Any) -> NDArray[Any]:
        """Return the observation as a row of numbers, [O].

        Raises:
            ValueError: it is none of the space; the message says what it is in the place of what.
        """
        if self.masked and not (isinstance(observed, Mapping) and OBSERVATION in observed):
            raise ValueError(f"{shown(observed)}, its space says a dict of {OBSERVATION!r} and {MASK!r}")
        inner = observed[OBSERVATION] if self.masked else observed
        if len(self.parts) == 1 and not self.parts[0].keys:
            return self.parts[0].flat(inner)
        return np.concatenate([part.flat(_at(inner, part.keys)) for part in self.parts])

    def given_mask(self, observed: Any, info: Mapping[str, Any]) -> Any:
        """Return the mask as the environment gives it, None where it gives none."""
        return observed.get(MASK) if self.masked else info.get(MASK)

    def mask(self, observed: Any, info: Mapping[str, Any]) -> BoolArray | None:
        """Return [U], which actions are allowed; None where nobody says, so that all are.

        Raises:
            ValueError: it does not hold 0 or 1; the message says what it holds.
        """
        mask = self.given_mask(observed, info)
        if mask is None:
            return None
        numbers = _numbers(mask)
        if numbers is None:
            raise ValueError(shown(mask))
        allowed = numbers.astype(np.bool_)
        # Masks of other libraries are added to logits, or hold probabilities.
        if numbers.dtype != np.bool_ and allowed.tolist() != numbers.tolist():
            raise ValueError(f"{numbers.tolist()!r:.120}")
        return allowed


def _at(observed: Any, keys: tuple[str | int, ...]) -> Any:
    """Return what an observation has at these keys and places; raise ValueError where it has nothing there."""
    for key in keys:
        try:
            observed = observed[key]
        except (KeyError, IndexError, TypeError):
            kind = f"a dict with {key!r}" if isinstance(key, str) else f"a tuple of at least {key + 1}"
            raise ValueError(f"{shown(observed)}, its space says {kind}") from None
    return observed


def _numbers(given: Any) -> NDArray[Any] | None:
    """Return booleans, integers or floats as an array; None where somebody gave something else."""
    try:
        numbers = np.asarray(given)
    except ValueError:  # lists of unequal lengths
        return None
    return numbers if numbers.dtype.kind in NUMBERS else None


def shown(value: Any) -> str:
    """Return in words what somebody returned in the place of something else."""
    kind = type(value).__name__
    if isinstance(value, Mapping):
        return f"a {kind} of {', '.join(map(repr, value)) or 'nothing'}"[:120]
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of {value.dtype} {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {kind} of {len(value)} ({', '.join(type(item).__name__ for item in value)})"[:120]
    return f"{value!r:.80}" if value is None or isinstance(value, str | int | float) else f"a {kind}"


def read_observations(agent: Any, space: Space[Any]) -> ObservationSpace:
    """Read an agent's observation space.

    Raises:
        ConfigError: the space is not in the list of `layout`.
    """
    masked = isinstance(space, Dict) and set(space.spaces) == {OBSERVATION, MASK}
    inner: Space[Any] = space[OBSERVATION] if masked and isinstance(space, Dict) else space
    parts = tuple(_parts(agent, inner, ()))
    if not parts:
        raise ConfigError(f"an observation must hold a number, agent {agent!r} has {inner!r}; show it something")
    return ObservationSpace(inner, parts, masked)


def _parts(agent: Any, space: Space[Any], keys: tuple[str | int, ...]) -> Iterator[ObservedPart]:
    """Give the Boxes and choices of a space, in the order of Gymnasium's `flatten`."""
    if isinstance(space, Dict | Tuple):
        inside = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        for key, part in inside:
            yield from _parts(agent, part, (*keys, key))
        return
    if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary) or not np.prod(space.shape or (1,)):
        raise ConfigError(
            f"observations must be a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of them, agent "
            f"{agent!r} has {space!r}; put it into a Box in a wrapper"
        )
    # Gymnasium's own flattening says the bounds of one-hot components, too.
    flat = flatten_space(space)
    assert isinstance(flat, Box)
    bytes_of_image = isinstance(space, Box) and len(space.shape) == 3 and space.dtype == np.uint8
    divisor = 255 if bytes_of_image else 1
    low, high = flat.low.astype(float) / divisor, flat.high.astype(float) / divisor
    yield ObservedPart(keys, space, tuple(zip(low.tolist(), high.tolist(), strict=True)), divisor)


# ---------------------------------------------------------------- actions


@dataclass(frozen=True)
class ActionSpace:
    """A rule that makes numbers of a policy an agent's action: `n` choices from `start` on, or a Box.

    Attributes:
        n: number of choices, 0 for a Box.
        start: the environment's number of the first choice.
        bounds: (lowest, highest) of each number of a Box, as integers where its dtype is one; empty for choices.
        shape: of the Box.
        dtype: of the Box.
    """

    n: int
    start: int = 0
    bounds: tuple[tuple[float, float], ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "int64"

    @property
    def width(self) -> int:
        """Number of numbers that say one action."""
        return len(self.bounds) or 1

    def action(self, row: Sequence[float]) -> Any:
        """Return what the environment takes, from one row [width].

        The row is the number of a choice, or numbers in -1..1 (clipped). In a Box of floats -1 is the lowest, 1 the
        highest number, and those between are scaled. In a Box of integers each of them has an equal part of -1..1.
        """
        if not self.bounds:
            return self.start + int(row[0])
        parts = (np.clip(row, -1.0, 1.0) + 1) / 2  # of the way from the lowest to the highest number
        if self._integers:
            # Python's own integers, since the number of those between two of 64 bits has 65.
            whole = [
                int(low) + min(int(part * (int(high) - int(low) + 1)), int(high) - int(low))
                for part, (low, high) in zip(parts.tolist(), self.bounds, strict=True)
            ]
            return np.array(whole, self.dtype).reshape(self.shape)
        low, span, high = self._floats
        return np.clip(low + span * parts, low, high).reshape(self.shape).astype(self.dtype)

    @cached_property
    def _integers(self) -> bool:
        return np.dtype(self.dtype).kind in INTEGERS

    @cached_property
    def _floats(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return lowest numbers, spans and highest numbers [width]."""
        low, high = np.array(self.bounds, np.float64).T
        return low, high - low, high

    def probe(self, mask: BoolArray | None) -> Any:
        """Return an action that may be taken; the first is a no-op in many environments, so the second is preferred.

        Raises:
            ConfigError: the mask allows none.
        """
        if self.bounds:
            return self.action([0.5] * self.width)
        allowed = np.arange(self.n) if mask is None else np.flatnonzero(mask)
        if not len(allowed):
            raise ConfigError(
                f"an action mask must allow at least one of {self.n} actions, got none; correct it in the environment"
            )
        return self.start + int(allowed[min(1, len(allowed) - 1)])


def read_actions(agent: Any, space: Space[Any]) -> ActionSpace:
    """Read an agent's action space.

    Raises:
        ConfigError: the space is not in the list of `layout`.
    """
    if isinstance(space, Discrete) and space.n >= 2:
        return ActionSpace(int(space.n), int(space.start))
    # Without bounds there is nothing to scale -1..1 to, and a span beyond float64 cannot be scaled.
    if isinstance(space, Box) and np.prod(space.shape) and space.is_bounded():
        exact = int if space.dtype.kind in INTEGERS else float
        bounds = tuple(
            (exact(low), exact(high)) for low, high in zip(space.low.ravel(), space.high.ravel(), strict=True)
        )
        if all(np.isfinite(float(high) - float(low)) for low, high in bounds):
            return ActionSpace(0, 0, bounds, space.shape, str(space.dtype))
    raise ConfigError(
        f"actions must be Discrete with at least 2 choices, or a bounded Box of at least one number, agent {agent!r}"
        f" has {space!r}; map them in a wrapper (one choice for each combination, or bounds on the Box)"
    )
