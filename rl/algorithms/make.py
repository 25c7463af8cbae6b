"""From the config's word to the algorithm."""

from __future__ import annotations

from ..config import TrainerConfig
from ..task import TaskSpec
from .ippo import IPPO
from .learner import Learner
from .mappo import MAPPO


def make_learner(trainer: TrainerConfig, spec: TaskSpec, seed: int) -> Learner:
    """The learner of `trainer.algorithm` with fresh weights."""
    if trainer.algorithm == "mappo":
        return MAPPO(trainer.mappo, spec, seed, trainer.device)
    return IPPO(trainer.ippo, spec, seed, trainer.device)
