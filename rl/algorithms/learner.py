"""What a training line asks of an algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..experience.rollout import Rollout
from ..signals.rewards import Rewards
from ..signals.shaping import Shaping
from ..task import ActionArray, BoolArray, FloatArray

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Learned:
    """What one update did to one group. `entropy` of its policy in nats; `losses` by their names in the metrics."""

    entropy: float
    losses: dict[str, float]


class Learner(Protocol):
    """Networks, optimisers and random streams of one training line. One CPU thread: set by the process."""

    def act(
        self,
        obs: list[FloatArray],
        generator: torch.Generator | None = None,
        masks: list[BoolArray] | None = None,
    ) -> tuple[list[ActionArray], list[FloatArray]]:
        """An action of every agent, to learn from: obs [g] [E, A_g, O_g], masks [g] [E, A_g, U] of what is allowed →
        actions, log-probabilities [g] [E, A_g]; actions in a Box [g] [E, A_g, k].

        Random numbers come from the learner's own stream, or from `generator`, which leaves that as it is.
        """
        ...

    def act_to_evaluate(
        self, obs: list[FloatArray], generator: torch.Generator, masks: list[BoolArray] | None = None
    ) -> list[ActionArray]:
        """As the current policy is evaluated: sampled from a stochastic one, greedily by values. [g] [E, A_g]."""
        ...

    def learn(self, rollout: Rollout, shaping: Shaping, rewards: Rewards) -> list[Learned]:
        """All gradient steps that follow one rollout, [g]. `shaping` is the rollout's; `rewards` gives that of any
        other transitions."""
        ...

    def explore(self, entropy: float | None) -> None:
        """How much to explore from now on; None is what the config says. See `signal.Exploration`."""
        ...

    def kick(self, factor: float) -> None:
        """Explore anew, once. See `signal.Exploration`."""
        ...

    def reseed(self, seed: int) -> None: ...

    def state_dict(self) -> Arrays:
        """Everything that the next update depends on as numpy arrays, copied."""
        ...

    def load_state_dict(self, state: Arrays, directory: Path | None = None) -> None:
        """`directory`: the snapshot that `state` comes from, None for a state that was kept in memory."""
        ...

    def link_files(self, directory: Path) -> None:
        """Give a snapshot the files that belong to the state and are not in its arrays."""
        ...
