"""QMIX (Rashid et al. 2018): the agents' values are mixed by a network that is monotonic in each of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..task import TaskSpec
from .config import QMIXConfig
from .q_learning import QLearner
from .state import state_size


class Mixer(nn.Module):
    """Q_tot = wᵀ elu(W q + b) + v with W, w ≥ 0, so that ∂Q_tot/∂Q_i ≥ 0 (eqs. 5 and 6).

    Weights and biases are made from the global state s: W and w by two-layer networks, whose absolute values count, b
    by a linear one, v by a two-layer one. q [N, A], s [N, S] → [N].
    """

    def __init__(self, n_agents: int, state_size: int, embed: int, hypernet_embed: int) -> None:
        super().__init__()
        self.n_agents, self.embed = n_agents, embed

        def hypernet(hidden: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(state_size, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

        self.hyper_w1, self.hyper_b1 = hypernet(hypernet_embed, n_agents * embed), nn.Linear(state_size, embed)
        self.hyper_w2, self.value = hypernet(hypernet_embed, embed), hypernet(embed, 1)

    def forward(self, q: Tensor, state: Tensor) -> Tensor:
        w1 = self.hyper_w1(state).abs().view(-1, self.n_agents, self.embed)
        hidden = nn.functional.elu((q[:, None] @ w1).squeeze(1) + self.hyper_b1(state))
        team: Tensor = (hidden * self.hyper_w2(state).abs()).sum(-1) + self.value(state).squeeze(-1)
        return team


class QMIX(QLearner):
    """The team's value rises with each agent's own, so that every agent may choose its action alone."""

    def __init__(
        self, config: QMIXConfig, spec: TaskSpec, seed: int, device: str = "cpu", replay_folder: Path | None = None
    ) -> None:
        self._sizes = config.mixing_embed, config.hypernet_embed
        self._mixer_seed = seed
        super().__init__(config, spec, seed, device, replay_folder)

    def mixer(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):  # torch's layers draw from the global stream
            torch.manual_seed(self._mixer_seed)
            return Mixer(len(self.spec.agents), state_size(self.spec), *self._sizes)
