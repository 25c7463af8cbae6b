"""Who shares a network: all agents of a group, or nobody."""

from __future__ import annotations

from dataclasses import dataclass

from ..task import GroupSpec, TaskSpec


@dataclass(frozen=True)
class NetworkGroup:
    """Agents of one group that are samples of one policy: `agents` is a slice of the group's agent axis."""

    group: int
    agents: slice
    spec: GroupSpec

    @property
    def n_agents(self) -> int:
        return int(self.agents.stop) - int(self.agents.start)


def network_groups(spec: TaskSpec, share_parameters: bool) -> list[NetworkGroup]:
    """One part a group, or one an agent; in the order of groups and agents."""
    found: list[NetworkGroup] = []
    for g, group in enumerate(spec.groups):
        count = len(group.agents)
        width = count if share_parameters else 1
        found += [NetworkGroup(g, slice(first, first + width), group) for first in range(0, count, width)]
    return found
