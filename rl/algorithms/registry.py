"""From the word in the config to the algorithm. A new algorithm is a file of its own and an entry here and in `config`."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigError
from ..processes import check_device
from ..task import TaskSpec
from .config import IPPOConfig, LIIRConfig, MAPPOConfig, QMIXConfig, VDNConfig
from .ippo import IPPO
from .learner import Learner
from .liir import LIIR
from .mappo import MAPPO
from .qmix import QMIX
from .vdn import VDN


def make_learner(
    algorithm: str,
    config: IPPOConfig | VDNConfig,
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
        replay_folder: where an off-policy learner keeps its transitions; in memory alone where None.

    Raises:
        ConfigError: the device is not there, or the algorithm cannot choose the task's kind of actions.
    """
    check_device(device)
    match config:
        case QMIXConfig() | VDNConfig() if any(group.continuous for group in spec.groups):
            raise ConfigError(
                f"trainer.algorithm {algorithm!r} values one choice after the other, but agents of"
                f" {spec.name!r} choose numbers of a Box; set it to ippo, mappo or liir, or map the numbers to choices"
            )
        case QMIXConfig():
            return QMIX(config, spec, seed, device, replay_folder)
        case VDNConfig():
            return VDN(config, spec, seed, device, replay_folder)
        case LIIRConfig():
            return LIIR(config, spec, seed, device)
        case MAPPOConfig():
            return MAPPO(config, spec, seed, device)
        case IPPOConfig():
            return IPPO(config, spec, seed, device)
