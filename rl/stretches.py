"""A rollout cut where its episodes end, so that what happened in each can be computed without a loop over steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Stretches:
    """The steps of a rollout that belong to one episode of one environment, [S], by environment and then by time.

    `env`, `first`, `last`: environment, first and last step. `over`: whether the episode ended with it. `carried` [E]:
    the stretches that go on with what ran before the rollout, `newest` [E] the last ones, both by environment. `ended`:
    those that are over, in the order in which they ended, of equals the lower environment first.
    """

    def __init__(self, done: NDArray[Any]) -> None:
        """done: [T, E]."""
        self.length, envs = done.shape
        begins = np.ones((envs, self.length), np.bool_)
        begins[:, 1:] = done.T[:, :-1] > 0
        self._rows = np.flatnonzero(begins)
        self.env, self.first = np.divmod(self._rows, self.length)
        self.last = np.append(self._rows[1:], envs * self.length) - 1 - self.env * self.length
        self.over = done[self.last, self.env] > 0
        self.carried = np.flatnonzero(self.first == 0)
        self.newest = np.append(self.carried[1:], len(self.env)) - 1
        over = np.flatnonzero(self.over)
        self.ended = over[np.lexsort((self.env[over], self.last[over]))]

    def reduced(self, operation: np.ufunc, steps: NDArray[Any]) -> NDArray[Any]:
        """[T, E, …] → [S, …]: `operation` over the steps of each stretch."""
        by_env = np.swapaxes(steps, 0, 1).reshape(steps.shape[0] * steps.shape[1], *steps.shape[2:])
        return np.asarray(operation.reduceat(by_env, self._rows, axis=0))

    def steps_since(self, before: NDArray[Any]) -> NDArray[Any]:
        """[T, E]: how many steps the running episode has taken with this one; `before` [S] it had when it came in."""
        shift = np.repeat(before - self.first, self.last - self.first + 1).reshape(-1, self.length)
        return np.asarray((np.arange(1, self.length + 1) + shift).T)
