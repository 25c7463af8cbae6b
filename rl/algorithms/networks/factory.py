"""The network that the config names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ....errors import ConfigError
from ...task import GroupSpec
from ..config import NetworkName
from .cnn import CNN
from .gru import GRU
from .mlp import MLP

Network = MLP | CNN | GRU


def make_network(
    name: NetworkName,
    group: GroupSpec,
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    last_gain: float,
    generator: torch.Generator,
    activation: Callable[[Tensor], Tensor] = torch.tanh,
    views: int = 1,
) -> Network:
    """Make a network with fresh weights.

    Args:
        name: of the kind; `auto` is a `cnn` for agents that observe an image, else an `mlp`.
        group: the agents that it serves.
        inputs: numbers of its input.
        hidden: units of its hidden layers, behind the convolutions of a `cnn`.
        outputs: numbers that it gives.
        last_gain: scale of the last layer's first weights.
        generator: of the weights.
        activation: between linear layers; a `cnn` has ReLU.
        views: how many agents' views the input holds, all of the same size.

    Raises:
        ConfigError: it cannot be made for these agents.
    """
    if name == "gru":
        return GRU(inputs, hidden, outputs, last_gain, generator, activation)
    if name == "mlp" or (name == "auto" and group.image is None):
        return MLP(inputs, hidden, outputs, last_gain, generator, activation)
    if group.image is None:
        raise ConfigError(
            f"network 'cnn' needs agents that observe an image, a Box of height × width × channels; those of group"
            f" {group.name!r} observe {group.obs_size} numbers; set it to 'mlp' or 'gru'"
        )
    return CNN(group.image, views, inputs, hidden, outputs, last_gain, generator)
