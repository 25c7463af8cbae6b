"""Where the networks live."""

from __future__ import annotations

from ..errors import ConfigError


def check_device(device: str) -> None:
    """Raises ConfigError where torch cannot use the device. Imports torch only for another than the CPU."""
    if device == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            f"trainer.device: must be one that torch {torch.__version__} can use, got {device!r}; set it to cpu, or "
            "install a CUDA build of torch on a machine with a GPU"
        )
