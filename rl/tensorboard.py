"""TensorBoard events of a run, over main steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SCALARS = {
    "train_return": "sparse/train_return",
    "train_success": "sparse/train_success",
    "evaluation_return": "sparse/evaluation_return",
    "evaluation_success": "sparse/evaluation_success",
    "signal_version": "signal/version",
    "shaped_share": "signal/shaped_share",
    "entropy": "policy/entropy",
    "policy_loss": "loss/policy",
    "value_loss": "loss/value",
    "episodes_lost": "task/episodes_lost",
    "td_loss": "loss/td",
    "q_mean": "policy/q_mean",
    "epsilon": "policy/epsilon",
}


class Board:
    """Writes scalars; steps after `start` that a crashed process wrote are purged."""

    def __init__(self, directory: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(
            str(directory), purge_step=start + 1 if start else None, max_queue=500, flush_secs=10
        )

    def add(self, steps_main: int, data: dict[str, Any]) -> None:
        for key, tag in SCALARS.items():
            value = data.get(key)
            values = value if isinstance(value, list) else [value]
            for g, x in enumerate(values):
                if x is not None:
                    self._writer.add_scalar(tag if len(values) == 1 else f"{tag}/{g}", x, steps_main)

    def close(self) -> None:
        self._writer.close()
