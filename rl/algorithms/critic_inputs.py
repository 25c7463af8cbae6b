"""What networks see: an agent's view, and the global state, which is all agents' views side by side.

A view is the observation. Where agents may leave before the others, another number says whether the agent is still
there: of one that has gone only zeros are left, and without that number its value would be that of any living agent
who observes zeros (Yu et al. 2022 tell the dead apart likewise, section 5.4).
"""

from __future__ import annotations

import numpy as np

from ..task import BoolArray, FloatArray, GroupSpec, TaskSpec


def view_size(spec: TaskSpec, group: GroupSpec) -> int:
    """O_g, and one more where agents may leave."""
    return group.obs_size + spec.has_masks


def views(spec: TaskSpec, obs: list[FloatArray], alive: list[BoolArray] | None = None) -> list[FloatArray]:
    """[g] [..., A_g, O_g], and [..., A_g] of who is there (None: all are) → [g] [..., A_g, view_size]."""
    if not spec.has_masks:
        return obs
    flags = [np.ones(x.shape[:-1], np.bool_) for x in obs] if alive is None else alive
    return [np.concatenate([x, y[..., None]], -1, dtype=np.float32) for x, y in zip(obs, flags, strict=True)]


def state_size(spec: TaskSpec) -> int:
    """S = Σ_g A_g · view_size."""
    return sum(len(group.agents) * view_size(spec, group) for group in spec.groups)


def global_state(seen: list[FloatArray]) -> FloatArray:
    """Views [g] [..., A_g, V_g] → [..., S], in the order of groups and agents."""
    return np.concatenate([x.reshape(*x.shape[:-2], -1) for x in seen], axis=-1)


def ego_first(seen: list[FloatArray]) -> list[FloatArray]:
    """Views [g] [..., A_g, V_g] → [g] [..., A_g, S]: each agent's own, then those of all others in order."""
    state = global_state(seen)
    found, start = [], 0
    for x in seen:
        n_agents, width = x.shape[-2:]
        arranged = np.empty((*x.shape[:-1], state.shape[-1]), np.float32)
        for a in range(n_agents):
            own = slice(start + a * width, start + (a + 1) * width)
            arranged[..., a, :width] = state[..., own]
            arranged[..., a, width : own.stop] = state[..., : own.start]
            arranged[..., a, own.stop :] = state[..., own.stop :]
        found.append(arranged)
        start += n_agents * width
    return found
