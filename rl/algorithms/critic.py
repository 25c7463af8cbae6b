"""A critic that is trained apart from any actor."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import IPPOConfig
from .flat import Arrays, FlatAdam, load_trained, state_of
from .losses import value_loss
from .networks import MLP
from .value_norm import ValueNorm


class Critic:
    """Critic inputs [..., S] → values [...]; learned, normalised and clipped as PPO's own critic."""

    def __init__(self, inputs: int, config: IPPOConfig, generator: torch.Generator, device: torch.device) -> None:
        self.config = config
        self.network = MLP(inputs, config.hidden, 1, 1.0, generator).to(device)
        self.optimiser = FlatAdam(self.network, config.lr, config.max_grad_norm)
        self.norm = ValueNorm() if config.value_norm else None

    @torch.no_grad()
    def values(self, inputs: Tensor) -> Tensor:
        values: Tensor = self.network(inputs).squeeze(-1)
        return values if self.norm is None else self.norm.denormalised(values)

    def fit(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        """`epochs` × `minibatches` gradient steps on inputs [N, S] and targets [N], N at least 1; their mean loss."""
        if self.norm is not None:
            self.norm.add(targets)
            targets = self.norm.normalised(targets)
        number, total = min(self.config.minibatches, len(targets)), 0.0
        for _ in range(self.config.epochs):
            order = torch.randperm(len(targets), generator=generator).to(targets.device)
            for rows in order.tensor_split(number):
                self.optimiser.zero_grad()
                loss = value_loss(self.network(inputs[rows]).squeeze(-1), targets[rows])
                (self.config.value_coef * loss).backward()  # type: ignore[no-untyped-call]
                self.optimiser.step()
                total += loss.item()
        return total / (self.config.epochs * number)

    def state_dict(self, prefix: str) -> Arrays:
        state = state_of(prefix, self.network, self.optimiser)
        return state if self.norm is None else state | {f"{prefix}value_norm": self.norm.state()}

    def load_state_dict(self, prefix: str, state: Arrays) -> None:
        load_trained(prefix, self.network, self.optimiser, state)
        if self.norm is not None:
            self.norm.load_state(state[f"{prefix}value_norm"])
