"""Value decomposition networks (Sunehag et al. 2018): the team's value is the sum of the agents' values."""

from __future__ import annotations

from torch import Tensor, nn

from .q_learning import QLearner


class SumMixer(nn.Module):
    """Q_tot = Σ_i Q_i, whatever the global state is."""

    def forward(self, q: Tensor, state: Tensor) -> Tensor:  # noqa: ARG002 every mixer is called with it
        return q.sum(-1)


class VDN(QLearner):
    """Each agent may choose its own best action, since the sum is largest where every term is."""

    def make_mixer(self) -> nn.Module:
        return SumMixer()
