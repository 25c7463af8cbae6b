"""The table of learners, and the function that makes the one that the config names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ...errors import ConfigError
from ..processes import check_device
from ..task import TaskSpec
from .config import AlgorithmConfig, AlgorithmName, AlgorithmSections
from .ippo import IPPO
from .learner import Learner
from .liir import LIIR
from .mappo import MAPPO
from .qmix import QMIX
from .vdn import VDN

# Called with config, spec, seed and device, and where the algorithm is off-policy with the folder of its replay.
LEARNERS: Mapping[AlgorithmName, Callable[..., Learner]] = {
    "ippo": IPPO,
    "mappo": MAPPO,
    "liir": LIIR,
    "vdn": VDN,
    "qmix": QMIX,
}


def make_learner(
    algorithm: AlgorithmName,
    config: AlgorithmConfig,
    spec: TaskSpec,
    seed: int,
    device: str = "cpu",
    replay_folder: Path | None = None,
) -> Learner:
    """Make the learner that `trainer.algorithm` names, with fresh weights.

    Args:
        algorithm: the name in the config, a key of `trainer`.
        config: its hyper-parameters, of the class that belongs to the name.
        spec: the task whose agents it trains.
        seed: of the weights and of every random stream of the learner.
        device: where the networks live, as torch names it.
        replay_folder: where an off-policy learner keeps its transitions; a temporary folder where None.

    Raises:
        ConfigError: the device is not there, or the algorithm cannot choose the task's kind of actions.
    """
    check_device(device)
    if not config.continuous_actions and any(group.continuous for group in spec.groups):
        *most, last = (name for name, section in AlgorithmSections() if section.continuous_actions)
        raise ConfigError(
            f"trainer.algorithm {algorithm!r} values one choice after the other, but agents of {spec.name!r} choose "
            f"numbers of a Box; set it to {', '.join(most)} or {last}, or map the numbers to choices"
        )
    learner = LEARNERS[algorithm]
    if config.on_policy:
        return learner(config, spec, seed, device)
    return learner(config, spec, seed, device, replay_folder)
