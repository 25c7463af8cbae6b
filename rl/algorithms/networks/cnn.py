"""A small convolutional network for observations that are images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .mlp import MLP

CHANNELS = (16, 32)
KERNEL, STRIDE = 3, 2


class CNN(nn.Module):
    """Two convolutions (3 × 3, stride 2, 16 and 32 channels, ReLU), then linear layers with ReLU between them.

    Its input is flat: [..., views · (H · W · C + numbers)]. Each view is an image, row by row, with some numbers behind
    (the agent's number, whether it is there); the convolutions are the same for every view. A central critic sees
    several views. Weights are orthogonal (gain √2, of the outputs `last_gain`), biases zero.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        views: int,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        last_gain: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        height, width, channels = image
        self.image, self.pixels, self.inputs = image, height * width * channels, inputs
        self.width = inputs // views
        self.convolutions = [
            nn.Conv2d(n_in, n_out, KERNEL, STRIDE, padding=1)
            for n_in, n_out in zip((channels, *CHANNELS), CHANNELS, strict=False)
        ]
        self.layers = nn.ModuleList(self.convolutions)
        for layer in self.convolutions:
            nn.init.orthogonal_(layer.weight, 2**0.5, generator=generator)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            height, width = -(-height // STRIDE), -(-width // STRIDE)
        numbers = self.width - self.pixels
        seen = views * (height * width * CHANNELS[-1] + numbers)
        self.linear = MLP(seen, hidden, outputs, last_gain, generator, torch.relu)

    @property
    def head(self) -> nn.Linear:
        return self.linear.head

    def forward(self, x: Tensor) -> Tensor:
        views = x.reshape(-1, self.width)
        pixels = views[:, : self.pixels].reshape(-1, *self.image).permute(0, 3, 1, 2)
        for layer in self.convolutions:
            pixels = torch.relu(layer(pixels))
        seen = torch.cat([pixels.flatten(1), views[:, self.pixels :]], -1)
        outputs: Tensor = self.linear(seen.reshape(*x.shape[:-1], -1))
        return outputs
