"""Feed-forward networks of linear layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class MLP(nn.Module):
    """[..., inputs] → [..., outputs]; tanh between layers. Orthogonal weights (gain √2, last `last_gain`), zero biases.

    The initialisation is the one of "What Matters In On-Policy RL?" (Andrychowicz et al. 2021) and of the official
    MAPPO code: a small last gain makes the first policy almost uniform.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        last_gain: float,
        generator: torch.Generator,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
    ) -> None:
        super().__init__()
        self.activation, self.inputs = activation, inputs
        sizes = [inputs, *hidden, outputs]
        # one list for Python, the other so that torch names the weights
        self.linears = [nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes)]
        self.layers = nn.ModuleList(self.linears)
        for layer in self.linears:
            is_last = layer is self.linears[-1]
            nn.init.orthogonal_(layer.weight, last_gain if is_last else 2**0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self.linears[-1]

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.linears
        for layer in hidden:
            x = self.activation(linear(x, layer.weight, layer.bias))
        return linear(x, last.weight, last.bias)
