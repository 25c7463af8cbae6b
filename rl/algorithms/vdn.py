"""Value decomposition networks (Sunehag et al. 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from .q_learning import QLearner


class Sum(nn.Module):
    """Q_tot = Σ_i Q_i; knows no state."""

    def forward(self, q: Tensor, state: Tensor) -> Tensor:  # noqa: ARG002 a mixer is given it
        return q.sum(-1)


class VDN(QLearner):
    """The team's value is the sum of the agents' own."""

    def mixer(self) -> nn.Module:
        return Sum()
