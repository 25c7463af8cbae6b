"""A recurrent network: what an agent saw earlier in its episode goes on in its state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .gru_scan import GRUScan


class GRU(nn.Module):
    """All but the last of the hidden layers, a gated recurrent unit as wide as that (Cho et al. 2014), linear outputs.

    That is the order of EPyMARL's `rnn_agent` (one layer before the unit) and of the official MAPPO code. Weights are
    orthogonal (gain √2, of the unit 1, of the outputs `last_gain`), biases zero.

    Attributes:
        state_size: H, numbers of the recurrent state.
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
        self.activation, self.inputs, self.state_size = activation, inputs, hidden[-1]
        sizes = [inputs, *hidden[:-1]]
        self.linears = [nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes)]
        self.layers = nn.ModuleList(self.linears)
        self.cell = nn.GRUCell(sizes[-1], self.state_size)
        self.head = nn.Linear(self.state_size, outputs)
        for layer in self.linears:
            nn.init.orthogonal_(layer.weight, 2**0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        for weight in (self.cell.weight_ih, self.cell.weight_hh):
            nn.init.orthogonal_(weight, generator=generator)
        for bias in (self.cell.bias_ih, self.cell.bias_hh):
            nn.init.zeros_(bias)
        nn.init.orthogonal_(self.head.weight, last_gain, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step: x [..., inputs], state [..., H] → outputs [..., outputs], next state [..., H]."""
        cell = self.cell
        state = gru_step(self._before(x), linear(state, cell.weight_hh, cell.bias_hh), state)
        return linear(state, self.head.weight, self.head.bias), state

    def unroll(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Go through sequences, with backpropagation through time.

        Args:
            x: [T, N, inputs].
            state: [N, H] before the first step.
            first: [T, N], 1 where an episode begins at the step, whose state is zero.

        Returns:
            Outputs [T, N, outputs], and the states after each step, [T, N, H].
        """
        # what does not depend on the state is one product for all steps
        from_inputs, cell = self._before(x), self.cell
        scan = GRUScan.apply if x.device.type == "cpu" and x.dtype == torch.float32 else gru_loop
        states = scan(from_inputs, state, first, cell.weight_hh, cell.bias_hh)
        return linear(states, self.head.weight, self.head.bias), states

    def _before(self, x: Tensor) -> Tensor:
        """Return what inputs [..., inputs] give to the gates, [..., 3H]."""
        for layer in self.linears:
            x = self.activation(linear(x, layer.weight, layer.bias))
        return linear(x, self.cell.weight_ih, self.cell.bias_ih)


def gru_loop(x: Tensor, state: Tensor, first: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return what `GRUScan` gives, by autograd: for other devices, and its oracle."""
    states = list[Tensor]()
    for from_inputs, carried in zip(x, (1 - first)[..., None], strict=True):
        state = state * carried
        state = gru_step(from_inputs, linear(state, weight, bias), state)
        states.append(state)
    return torch.stack(states)


def gru_step(from_inputs: Tensor, from_state: Tensor, state: Tensor) -> Tensor:
    """Return the next state of a gated recurrent unit, as `torch.nn.GRUCell` does.

        r = σ(x_r + h_r),  z = σ(x_z + h_z),  n = tanh(x_n + r ∘ h_n),  h′ = n + z ∘ (h − n)

    Args:
        from_inputs: [..., 3H] x_r, x_z and x_n.
        from_state: [..., 3H] h_r, h_z and h_n.
        state: [..., H] h.
    """
    width = state.shape[-1]
    r, z = torch.sigmoid(from_inputs[..., : 2 * width] + from_state[..., : 2 * width]).chunk(2, -1)
    n = torch.tanh(torch.addcmul(from_inputs[..., 2 * width :], r, from_state[..., 2 * width :]))
    return torch.lerp(n, state, z)
