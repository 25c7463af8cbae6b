"""The states of recurrent networks, which go on from step to step of an episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..task import Arrays, BoolArray, FloatArray


@dataclass
class RNNStates:
    """The states for a batch of environments: one array for each network of a learner.

    They are zero at the first step of an episode. A network without a state has H = 0.

    Attributes:
        actor: [n] [E, A_n, H], which actions are chosen by.
        critic: [n] [E, A_n, H]; of algorithms by values none.
    """

    actor: list[FloatArray]
    critic: list[FloatArray]

    def reset(self, ended: BoolArray | slice = slice(None)) -> None:
        """Begin anew where an episode has `ended` [E], or everywhere."""
        for state in (*self.actor, *self.critic):
            state[ended] = 0

    def copied(self) -> RNNStates:
        return RNNStates([x.copy() for x in self.actor], [x.copy() for x in self.critic])

    def state_dict(self) -> Arrays:
        """Return the arrays by name, copied."""
        parts = {"actor": self.actor, "critic": self.critic}
        return {f"{part}.{n}": x.copy() for part, states in parts.items() for n, x in enumerate(states)}

    def load_state_dict(self, state: Arrays) -> None:
        """Write what `state_dict` returned into the arrays. Raises KeyError or ValueError where it does not fit."""
        for part, states in (("actor", self.actor), ("critic", self.critic)):
            for n, own in enumerate(states):
                own[:] = np.asarray(state[f"{part}.{n}"], np.float32)
