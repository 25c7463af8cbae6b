"""Multi-agent PPO (Yu et al. 2022): actors see their own observation, the central critic sees everybody's."""

from __future__ import annotations

from ..task import FloatArray, GroupSpec
from .critic_inputs import ego_first, state_size
from .ppo import PPO


class MAPPO(PPO):
    """The critic of agent i sees an agent-specific global state: its own view, then those of all others in order.

    Yu et al. (section 5.2) found such a state to be better than one that is the same for all agents; with i's own view
    first, agents that share a critic can be told apart.
    """

    def critic_size(self, group: GroupSpec) -> int:  # noqa: ARG002 the same for every group
        return state_size(self.spec)

    def critic_inputs(self, views: list[FloatArray]) -> list[FloatArray]:
        return ego_first(views)
