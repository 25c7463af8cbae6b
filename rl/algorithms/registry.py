"""From the config's word to the algorithm."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigError
from ..config import TrainerConfig
from ..processes import check_device
from ..task import TaskSpec
from .ippo import IPPO
from .learner import Learner
from .liir import LIIR
from .mappo import MAPPO
from .qmix import QMIX
from .vdn import VDN


def make_learner(trainer: TrainerConfig, spec: TaskSpec, seed: int, replay_folder: Path | None = None) -> Learner:
    """The learner of `trainer.algorithm` with fresh weights. `replay_folder`: where off-policy transitions go.

    Raises ConfigError where `trainer.device` is not there, or the algorithm cannot choose the task's kind of actions.
    """
    if trainer.algorithm in ("vdn", "qmix") and any(group.continuous for group in spec.groups):
        raise ConfigError(
            f"trainer.algorithm {trainer.algorithm!r} values one choice after the other, but agents of"
            f" {spec.name!r} choose numbers of a Box; set it to ippo, mappo or liir, or map the numbers to choices"
        )
    check_device(trainer.device)
    match trainer.algorithm:
        case "ippo":
            return IPPO(trainer.ippo, spec, seed, trainer.device)
        case "mappo":
            return MAPPO(trainer.mappo, spec, seed, trainer.device)
        case "liir":
            return LIIR(trainer.liir, spec, seed, trainer.device)
        case "vdn":
            return VDN(trainer.vdn, spec, seed, trainer.device, replay_folder)
        case "qmix":
            return QMIX(trainer.qmix, spec, seed, trainer.device, replay_folder)
