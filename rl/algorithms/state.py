"""The global state: what all agents observe, side by side."""

from __future__ import annotations

import numpy as np

from ..task import FloatArray, TaskSpec


def state_size(spec: TaskSpec) -> int:
    """Σ_g A_g · O_g."""
    return sum(len(group.agents) * group.obs_size for group in spec.groups)


def global_state(obs: list[FloatArray]) -> FloatArray:
    """[g] [..., A_g, O_g] → [..., S], in the order of groups and agents."""
    return np.concatenate([x.reshape(*x.shape[:-2], -1) for x in obs], axis=-1)


def ego_first(obs: list[FloatArray]) -> list[FloatArray]:
    """[g] [..., A_g, O_g] → [g] [..., A_g, S]: each agent's own observation, then those of all others in order."""
    state = global_state(obs)
    found, start = [], 0
    for x in obs:
        n_agents, width = x.shape[-2:]
        views = np.empty((*x.shape[:-1], state.shape[-1]), np.float32)
        for a in range(n_agents):
            own = slice(start + a * width, start + (a + 1) * width)
            views[..., a, :width] = state[..., own]
            views[..., a, width : own.stop] = state[..., : own.start]
            views[..., a, own.stop :] = state[..., own.stop :]
        found.append(views)
        start += n_agents * width
    return found
