"""The protocol of a learner: all that a training line asks of an algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from ..digests import Digest
from ..experience.rnn_states import RNNStates
from ..experience.rollout import Rollout
from ..signals.rewards import Rewards
from ..signals.shaping import Shaping
from ..task import ActionArray, Arrays, BoolArray, FloatArray
from .networks.factory import Network
from .parameter_sharing import NetworkGroup


@dataclass(frozen=True)
class UpdateMetrics:
    """The means over one update of one group."""

    entropy: float  # of its policy, in nats
    losses: dict[str, float]  # by their names in the metrics


@dataclass(frozen=True)
class ActingNetwork:
    """A network that chooses the actions of some agents, with all that inference needs to know of it.

    Its input is what an agent observes, and behind that a 1 where it is one number wider: the sign of an agent that is
    there, see `critic_inputs`.

    Attributes:
        members: the agents that it serves.
        network: [..., inputs] → [..., U] or [..., k]; a `gru` takes and gives its state, too.
        outputs: logits of U choices, values of U choices, or means of k numbers in -1..1.
        std: [k] standard deviations of the numbers, None for choices.
        epsilon: share of random actions while it learns, 0..1; 0 where the outputs are no values.
    """

    members: NetworkGroup
    network: Network
    outputs: Literal["logits", "values", "means"]
    std: Tensor | None = None
    epsilon: float = 0.0


class Learner(Protocol):
    """Networks, optimisers and random streams of one training line. One CPU thread: set by the process.

    Attributes:
        network_groups: which agents are samples of one policy.
        last_advantages: [g] [T, E, A_g], of the last rollout by the critic as it was when it was played, not
            normalised; of the reward that is learned from, which under potentials alone are those of the task's own
            reward. None where the algorithm has none.
        term_factors: [K], what the terms of the signal were multiplied by in the last update; None where by nothing.
        tensorboard_tags: names in `UpdateMetrics.losses` → the tags under which TensorBoard shows them.
    """

    tensorboard_tags: ClassVar[Mapping[str, str]]
    network_groups: list[NetworkGroup]
    last_advantages: list[FloatArray] | None
    term_factors: list[float] | None

    def act(
        self,
        obs: list[FloatArray],
        generator: torch.Generator | None = None,
        masks: list[BoolArray] | None = None,
        rnn_states: RNNStates | None = None,
    ) -> tuple[list[ActionArray], list[FloatArray]]:
        """Choose an action of every agent, to learn from.

        Args:
            obs: [g] [E, A_g, O_g].
            generator: gives the random numbers; without one they come from the learner's own stream.
            masks: [g] [E, A_g, U], true where an action is allowed; None where all are.
            rnn_states: of recurrent actors before this step, overwritten by those after it; None where there are none,
                or everybody is at the first step of an episode. Whoever keeps them resets them where episodes end.

        Returns:
            Actions, [g] [E, A_g] or in a Box [g] [E, A_g, k], and their log-probabilities, [g] [E, A_g].
        """
        ...

    def act_to_evaluate(
        self,
        obs: list[FloatArray],
        generator: torch.Generator,
        masks: list[BoolArray] | None = None,
        rnn_states: RNNStates | None = None,
    ) -> list[ActionArray]:
        """Choose actions as the current policy is evaluated: sampled from a stochastic one unless its config says
        otherwise, greedily by values."""
        ...

    def new_rnn_states(self, num_envs: int) -> RNNStates | None:
        """Make the states of so many environments at the first step of an episode; None where no network has any."""
        ...

    def learn(self, rollout: Rollout, shaping: Shaping, rewards: Rewards) -> list[UpdateMetrics]:
        """Take all gradient steps that follow one rollout; metrics of each group.

        Args:
            rollout: the steps that were just played.
            shaping: what the signal in force adds to the team reward of these steps.
            rewards: gives the shaping of any other transitions, and the offset of critics.

        Raises:
            FloatingPointError: something that is learned from, or what is learned, is not finite; it says what.
        """
        ...

    def explore(self, entropy: float | None) -> None:
        """Set how much to explore from now on, as the config says where `entropy` is None. See `signal.Exploration`."""
        ...

    def kick(self, factor: float) -> None:
        """Explore anew, once. See `signal.Exploration`."""
        ...

    def forget_episodes(self) -> None:
        """Drop what is kept of the running episodes, since all environments begin new ones."""
        ...

    def reseed(self, seed: int) -> None:
        """Draw random numbers from other streams from now on."""
        ...

    def state_dict(self) -> Arrays:
        """Return everything that the next update depends on as numpy arrays, copied."""
        ...

    def load_state_dict(self, state: Arrays, directory: Path | None = None) -> None:
        """Go on from `state`; `directory`: the snapshot that it comes from, None where it was kept in memory."""
        ...

    def load_policy(self, state: Arrays) -> None:
        """Take from `state` only what chooses actions, so that nothing else has to be there; not to be trained on."""
        ...

    def acting_networks(self) -> list[ActingNetwork]:
        """Return the networks that choose actions, in the order of groups and agents."""
        ...

    def link_files(self, directory: Path) -> dict[str, Digest]:
        """Link into a snapshot the files that belong to the state and are not in its arrays; return their digests."""
        ...
