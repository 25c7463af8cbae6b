"""Parameter sharing: a network is shared by all agents of a group, or by nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..experience.rnn_states import RNNStates
from ..task import Arrays, FloatArray, GroupSpec, TaskSpec, arrays_below


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


def network_before(new: NetworkGroup, old: Sequence[NetworkGroup]) -> int:
    """Return which of the old networks served the agents of a new one."""
    return next(n for n, x in enumerate(old) if x.group == new.group and x.agents.stop >= new.agents.stop)


def states_by_network(state: Arrays, old: Sequence[NetworkGroup], new: Sequence[NetworkGroup]) -> Arrays:
    """Return a learner's state where other networks serve the same agents: each is a copy of the one before.

    Args:
        state: arrays of network n begin with "n.", those of no network otherwise.
        old: the networks so far.
        new: those from now on; none serves agents of several old ones.
    """
    of_networks = {f"{n}." for n in range(len(old))}
    states = {name: x for name, x in state.items() if not name.startswith(tuple(of_networks))}
    for n, members in enumerate(new):
        states |= {
            f"{n}.{name}": x.copy() for name, x in arrays_below(f"{network_before(members, old)}.", state).items()
        }
    return states


def rnn_states_by_network(states: RNNStates, old: Sequence[NetworkGroup], new: Sequence[NetworkGroup]) -> RNNStates:
    """Return what recurrent networks remember, where others serve the same agents from now on."""

    def of(arrays: list[FloatArray]) -> list[FloatArray]:
        """[n] [E, A_n, H] of the old networks → of the new ones; algorithms by values have no critics."""
        if not arrays:
            return []
        parts = []
        for members in new:
            before = network_before(members, old)
            first = old[before].agents.start
            mine = slice(members.agents.start - first, members.agents.stop - first)
            parts.append(arrays[before][:, mine].copy())
        return parts

    return RNNStates(of(states.actor), of(states.critic))
