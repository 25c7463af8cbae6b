"""The inputs of networks: an agent's view, and the global state, which is all agents' views side by side.

A view is the observation. Where agents may leave before the others, another number says whether the agent is still
there: of one that has gone only zeros are left, and without that number its value would be that of any living agent
who observes zeros (Yu et al. 2022 tell the dead apart likewise, section 5.4).
"""

from __future__ import annotations

import numpy as np

from ..task import BoolArray, FloatArray, GroupSpec, TaskSpec


def view_size(spec: TaskSpec, group: GroupSpec) -> int:
    """Return O_g, and one more where agents may leave."""
    return group.obs_size + spec.has_masks


def agent_views(spec: TaskSpec, obs: list[FloatArray], alive: list[BoolArray] | None = None) -> list[FloatArray]:
    """Append to observations who is there.

    Args:
        spec: the task.
        obs: [g] [..., A_g, O_g].
        alive: [g] [..., A_g], false for an agent that has left; None where all are there.

    Returns:
        [g] [..., A_g, view_size].
    """
    # where nobody can leave, the number would always be 1
    if not spec.has_masks:
        return obs
    present = [np.ones(x.shape[:-1], np.bool_) for x in obs] if alive is None else alive
    return [np.concatenate([x, y[..., None]], -1, dtype=np.float32) for x, y in zip(obs, present, strict=True)]


def state_size(spec: TaskSpec) -> int:
    """Return S = Σ_g A_g · view_size."""
    return sum(len(group.agents) * view_size(spec, group) for group in spec.groups)


def global_state(views: list[FloatArray]) -> FloatArray:
    """Join views [g] [..., A_g, V_g] to [..., S], in the order of groups and agents."""
    return np.concatenate([x.reshape(*x.shape[:-2], -1) for x in views], axis=-1)


def ego_first(views: list[FloatArray]) -> list[FloatArray]:
    """Give every agent the global state with its own view first, then those of all others in order.

    Views [g] [..., A_g, V_g] → [g] [..., A_g, S].
    """
    state = global_state(views)
    states, start = [], 0  # `start`: where the views of the group begin in the global state
    for x in views:
        n_agents, width = x.shape[-2:]
        arranged = np.empty((*x.shape[:-1], state.shape[-1]), np.float32)
        for a in range(n_agents):
            # the agent's own part moves to the front, and what was before it one place back
            ego = slice(start + a * width, start + (a + 1) * width)
            arranged[..., a, :width] = state[..., ego]
            arranged[..., a, width : ego.stop] = state[..., : ego.start]
            arranged[..., a, ego.stop :] = state[..., ego.stop :]
        states.append(arranged)
        start += n_agents * width
    return states
