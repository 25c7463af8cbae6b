"""Adam on all parameters of a module in one buffer, so that clipping and stepping are a few passes over one tensor."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..task import Arrays, arrays_below

BETAS, EPS = (0.9, 0.999), 1e-5  # eps of the PPO and MAPPO codes; torch's own is 1e-8
LARGEST = torch.finfo(torch.float32).max


class FlatAdam:
    """Adam (Kingma, Ba 2015, algorithm 1) with a clipped gradient norm, on all parameters of `module` at once.

    Parameters and gradients of the module become views of one buffer each: whatever writes a gradient writes into it.
    torch's own Adam does the same, and takes four times as long for networks of this size; it is the oracle of a test.

    Attributes:
        name: of what is trained, for errors.
    """

    def __init__(
        self, module: nn.Module, lr: float, max_grad_norm: float, eps: float = EPS, name: str = "the networks"
    ) -> None:
        parameters = list(module.parameters())
        self.name = name
        self.lr, self.max_grad_norm, self.eps = lr, max_grad_norm, eps
        self.parameters = torch.cat([p.detach().flatten() for p in parameters])
        self.gradient = torch.zeros_like(self.parameters)
        self.mean, self.square = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        self.steps = 0
        # the module's tensors become windows on the two buffers
        start = 0
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.data = self.parameters[start:end].view_as(parameter)
            parameter.grad = self.gradient[start:end].view_as(parameter)
            start = end

    def zero_grad(self) -> None:
        self.gradient.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Clip the norm of the whole gradient and go one step.

        Raises:
            FloatingPointError: the norm is not finite, or the step's size is none of float32; nothing has changed.
        """
        norm = float(torch.linalg.vector_norm(self.gradient))
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient of {self.name}")
        if norm > self.max_grad_norm:
            self.gradient.mul_(self.max_grad_norm / norm)
        beta1, beta2 = BETAS
        step_size = self.lr / (1 - beta1 ** (self.steps + 1))
        if step_size > LARGEST:
            raise FloatingPointError(f"a step of {self.name}")
        self.steps += 1
        # moving averages of the gradient and of its square
        self.mean.lerp_(self.gradient, 1 - beta1)
        self.square.mul_(beta2).addcmul_(self.gradient, self.gradient, value=1 - beta2)
        # both are corrected for their start at zero: the square's root here, the mean by the step size
        root = self.square.sqrt().mul_((1 - beta2**self.steps) ** -0.5).add_(self.eps)
        self.parameters.addcdiv_(self.mean, root, value=-step_size)

    def check_finite(self) -> None:
        """Raise FloatingPointError where the norm of the weights, or of Adam's moments, is not finite."""
        for what, values in (("the weights", self.parameters), ("Adam's moments", self.square)):
            if not math.isfinite(float(torch.linalg.vector_norm(values))):
                raise FloatingPointError(f"{what} of {self.name}")

    def state_dict(self) -> Arrays:
        """Return the moments and the number of steps, copied."""
        return {"mean": _copied(self.mean), "square": _copied(self.square), "steps": np.array([self.steps])}

    @torch.no_grad()
    def load_state_dict(self, state: Arrays) -> None:
        self.mean.copy_(torch.from_numpy(np.asarray(state["mean"])))
        self.square.copy_(torch.from_numpy(np.asarray(state["square"])))
        self.steps = int(state["steps"][0])


def module_weights(module: nn.Module) -> Arrays:
    """Return every parameter by its name, copied."""
    return {name: _copied(parameter) for name, parameter in module.named_parameters()}


@torch.no_grad()
def load_weights(module: nn.Module, state: Arrays) -> None:
    """Write weights into the parameters where they are.

    Raises:
        KeyError: a parameter is missing.
        RuntimeError: one does not fit.
    """
    for name, parameter in module.named_parameters():
        parameter.copy_(torch.from_numpy(np.asarray(state[name])))


def trained_state(prefix: str, module: nn.Module, optimiser: FlatAdam) -> Arrays:
    """Return weights and moments by name, copied; every name begins with the prefix."""
    state = {f"{prefix}{name}": value for name, value in module_weights(module).items()}
    return state | {f"{prefix}adam.{name}": value for name, value in optimiser.state_dict().items()}


def load_trained_state(prefix: str, module: nn.Module, optimiser: FlatAdam, state: Arrays) -> None:
    """Write what `trained_state` returned into module and optimiser; other arrays of `state` are left alone."""
    mine = arrays_below(prefix, state)
    load_weights(module, mine)
    optimiser.load_state_dict(arrays_below("adam.", mine))


def _copied(tensor: Tensor) -> NDArray[np.generic]:
    array: NDArray[np.generic] = tensor.detach().cpu().numpy().copy()
    return array
