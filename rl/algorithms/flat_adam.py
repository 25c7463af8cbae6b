"""Adam on all parameters of a module in one buffer, so that clipping and stepping are a few passes over one tensor."""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from ..task import Arrays, arrays_below

BETAS, EPS = (0.9, 0.999), 1e-5  # eps of the PPO and MAPPO codes; torch's own is 1e-8
Float = NDArray[np.float32]
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
        self.name = name
        self.lr, self.max_grad_norm, self.eps = lr, max_grad_norm, eps
        self.parameters = flat_parameters(module)
        self.gradient = torch.zeros_like(self.parameters)
        self.mean, self.square = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        self.steps = 0
        for parameter, window in zip(module.parameters(), _windows(self.gradient, module), strict=True):
            parameter.grad = window

    def zero_grad(self) -> None:
        self.gradient.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Clip the norm of the whole gradient and go one step.

        Raises:
            FloatingPointError: the norm is not finite, or the step's size is none of float32; nothing has changed.
        """
        beta1, beta2 = BETAS
        step_size = self.lr / (1 - beta1 ** (self.steps + 1))
        if step_size > LARGEST:
            raise FloatingPointError(f"a step of {self.name}")
        # both averages are corrected for their start at zero: the square's root here, the mean by the step size
        correction = (1 - beta2 ** (self.steps + 1)) ** -0.5
        buffers = self.parameters, self.gradient, self.mean, self.square
        if self.parameters.device.type == "cpu":
            parameters, gradient, mean, square = (x.numpy() for x in buffers)
            finite = clipped_step(
                parameters, gradient, mean, square,
                self.max_grad_norm, beta1, beta2, step_size, correction, self.eps,
            )  # fmt: skip
        else:
            finite = _clipped_step_in_torch(*buffers, self.max_grad_norm, step_size, correction, self.eps)
        if not finite:
            raise FloatingPointError(f"the gradient of {self.name}")
        self.steps += 1

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


# reassoc: a norm is a sum in any order, else it would be one number after the other
@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def clipped_step(
    parameters: Float, gradient: Float, mean: Float, square: Float, max_norm: float, beta1: float, beta2: float,
    step_size: float, correction: float, eps: float,
) -> bool:  # fmt: skip
    """Clip the gradient's norm and take a step, on arrays [n], all changed in place; two passes over them.

        m ← m + (1 − β₁)(g − m),  v ← β₂ v + (1 − β₂) g²,  θ ← θ − step_size · m / (√v · correction + ε)

    Returns:
        False, and nothing has changed, where the norm is not finite.
    """
    squares = np.float32(0.0)
    for i in range(gradient.size):
        squares += gradient[i] * gradient[i]
    norm = np.sqrt(squares)
    if not np.isfinite(norm):
        return False
    scale = np.float32(max_norm / norm if norm > max_norm else 1.0)
    rest1, rest2, beta = np.float32(1 - beta1), np.float32(1 - beta2), np.float32(beta2)
    size, correct, epsilon = np.float32(step_size), np.float32(correction), np.float32(eps)
    for i in range(gradient.size):
        g = gradient[i] * scale
        m = mean[i] + rest1 * (g - mean[i])
        v = beta * square[i] + rest2 * g * g
        gradient[i], mean[i], square[i] = g, m, v
        parameters[i] -= size * m / (np.sqrt(v) * correct + epsilon)
    return True


def _clipped_step_in_torch(
    parameters: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, max_norm: float, step_size: float,
    correction: float, eps: float,
) -> bool:  # fmt: skip
    """Do the same on another device than the CPU."""
    norm = float(torch.linalg.vector_norm(gradient))
    if not math.isfinite(norm):
        return False
    if norm > max_norm:
        gradient.mul_(max_norm / norm)
    mean.lerp_(gradient, 1 - BETAS[0])
    square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    parameters.addcdiv_(mean, square.sqrt().mul_(correction).add_(eps), value=-step_size)
    return True


def flat_parameters(module: nn.Module) -> Tensor:
    """Return one buffer of all parameters, on which they become windows; the one that they are windows on already."""
    flat = _buffer_of([p.detach() for p in module.parameters()])
    if flat is None:
        flat = torch.cat([p.detach().flatten() for p in module.parameters()])
        for parameter, window in zip(module.parameters(), _windows(flat, module), strict=True):
            parameter.data = window
    return flat


def flat_gradient(module: nn.Module) -> Tensor:
    """Return the buffer that the gradients of all parameters are windows on; `FlatAdam` has made it."""
    flat = _buffer_of([p.grad for p in module.parameters() if p.grad is not None])
    assert flat is not None
    return flat


def _windows(flat: Tensor, module: nn.Module) -> list[Tensor]:
    """Return windows on a buffer in the shapes of the module's parameters, one behind the other."""
    parameters = list(module.parameters())
    pieces = torch.split(flat, [p.numel() for p in parameters])
    return [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=True)]


def _buffer_of(tensors: list[Tensor]) -> Tensor | None:
    """Return the part of one buffer that these tensors fill, one behind the other; None where they do not."""
    first, at = tensors[0], tensors[0].data_ptr()
    for tensor in tensors:
        # neighbours by chance have memory of their own
        same = tensor.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not same or tensor.data_ptr() != at or not tensor.is_contiguous():
            return None
        at += tensor.numel() * tensor.element_size()
    return first.as_strided((sum(x.numel() for x in tensors),), (1,), first.storage_offset())


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
