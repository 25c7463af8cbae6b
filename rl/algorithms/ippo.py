"""Independent PPO (de Witt et al. 2020): every agent learns from its own reward with its own observation."""

from __future__ import annotations

from ..task import FloatArray, GroupSpec
from .critic_inputs import view_size
from .ppo import PPO


class IPPO(PPO):
    """The critic of agent i sees its view: what its actor sees, o_i, and where agents may leave, whether it has."""

    def critic_size(self, group: GroupSpec) -> int:
        return view_size(self.spec, group)

    def critic_inputs(self, views: list[FloatArray]) -> list[FloatArray]:
        return views
