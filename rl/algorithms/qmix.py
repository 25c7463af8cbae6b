"""QMIX (Rashid et al. 2018): the agents' values are mixed by a network that is monotonic in each of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..task import TaskSpec
from .config import QMIXConfig
from .critic_inputs import state_size
from .q_learning import QLearner


class MonotonicMixer(nn.Module):
    """Q_tot = wᵀ elu(W q + b) + v with W, w ≥ 0, so that ∂Q_tot/∂Q_i ≥ 0 (eqs. 5 and 6).

    Weights and biases are made from the global state s: W and w by two-layer networks, whose absolute values count, b
    by a linear one, v by a two-layer one. q [N, A], s [N, S] → [N].
    """

    def __init__(self, n_agents: int, state_size: int, embed: int, hypernet_embed: int) -> None:
        super().__init__()
        self.n_agents, self.embed = n_agents, embed
        self.sizes = [hypernet_embed, hypernet_embed, embed, embed]
        self.first = nn.Linear(state_size, sum(self.sizes))  # first layers of W, w, v, and all of b: one product
        self.hyper_w1, self.hyper_w2 = nn.Linear(hypernet_embed, n_agents * embed), nn.Linear(hypernet_embed, embed)
        self.value = nn.Linear(embed, 1)

    def forward(self, q: Tensor, state: Tensor) -> Tensor:
        for_w1, for_w2, for_v, b1 = self.first(state).split(self.sizes, -1)
        w1 = self.hyper_w1(for_w1.relu()).abs().view(-1, self.n_agents, self.embed)
        hidden = nn.functional.elu((q[:, :, None] * w1).sum(1) + b1)
        w2, v = self.hyper_w2(for_w2.relu()).abs(), self.value(for_v.relu()).squeeze(-1)
        team: Tensor = (hidden * w2).sum(-1) + v
        return team


class QMIX(QLearner):
    """The team's value rises with each agent's own, so that every agent may choose its action alone."""

    def __init__(
        self, config: QMIXConfig, spec: TaskSpec, seed: int, device: str = "cpu", replay_folder: Path | None = None
    ) -> None:
        self._sizes = config.mixing_embed, config.hypernet_embed
        self._mixer_seed = seed
        super().__init__(config, spec, seed, device, replay_folder)

    def make_mixer(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):  # torch's layers draw from the global stream
            torch.manual_seed(self._mixer_seed)
            return MonotonicMixer(len(self.spec.agents), state_size(self.spec), *self._sizes)
