"""From the config's word to the algorithm."""

from __future__ import annotations

from pathlib import Path

from ..config import TrainerConfig
from ..device import check_device
from ..task import TaskSpec
from .ippo import IPPO
from .learner import Learner
from .mappo import MAPPO
from .qmix import QMIX
from .vdn import VDN


def make_learner(trainer: TrainerConfig, spec: TaskSpec, seed: int, replay_folder: Path | None = None) -> Learner:
    """The learner of `trainer.algorithm` with fresh weights. `replay_folder`: where off-policy transitions go.

    Raises ConfigError where `trainer.device` is not there.
    """
    check_device(trainer.device)
    match trainer.algorithm:
        case "ippo":
            return IPPO(trainer.ippo, spec, seed, trainer.device)
        case "mappo":
            return MAPPO(trainer.mappo, spec, seed, trainer.device)
        case "vdn":
            return VDN(trainer.vdn, spec, seed, trainer.device, replay_folder)
        case "qmix":
            return QMIX(trainer.qmix, spec, seed, trainer.device, replay_folder)
