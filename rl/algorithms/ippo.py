"""Independent PPO (de Witt et al. 2020): every agent learns from its own reward with its own observation."""

from __future__ import annotations

from ..task import FloatArray, GroupSpec
from .ppo import PPO


class IPPO(PPO):
    """The critic of agent i sees what its actor sees, o_i."""

    def critic_size(self, group: GroupSpec) -> int:
        return group.obs_size

    def critic_inputs(self, obs: list[FloatArray]) -> list[FloatArray]:
        return obs
