"""Parameter sharing: a network is shared by all agents of a group, or by nobody."""

from __future__ import annotations

from dataclasses import dataclass

from ..task import GroupSpec, TaskSpec


@dataclass(frozen=True)
class NetworkGroup:
    """Agents of one group that are samples of one policy."""

    group: int  # index into `TaskSpec.groups`
    agents: slice  # of the group's agent axis
    spec: GroupSpec

    @property
    def n_agents(self) -> int:
        return int(self.agents.stop) - int(self.agents.start)

    @property
    def name(self) -> str:
        """Who they are, for errors."""
        if self.n_agents == len(self.spec.agents):
            return f"group {self.spec.name!r}"
        return f"agent {', '.join(map(repr, self.spec.agents[self.agents]))}"


def network_groups(spec: TaskSpec, share_parameters: bool) -> list[NetworkGroup]:
    """Return one entry a group, or one an agent; in the order of groups and agents."""
    networks: list[NetworkGroup] = []
    for g, group in enumerate(spec.groups):
        n_agents = len(group.agents)
        width = n_agents if share_parameters else 1
        networks += [NetworkGroup(g, slice(first, first + width), group) for first in range(0, n_agents, width)]
    return networks
