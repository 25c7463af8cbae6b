"""What agents did, counted, for histories and for a model's eyes."""

from __future__ import annotations

import math

import numpy as np

from .task import ActionArray, BoolArray, GroupSpec

THIRDS = ("low", "middle", "high")  # of the range of a number


def action_labels(group: GroupSpec) -> tuple[str, ...]:
    """Names of what `action_shares` counts: choices, or the thirds of each number."""
    if group.continuous:
        return tuple(f"number {k} {third}" for k in range(len(group.action_bounds)) for third in THIRDS)
    return group.action_names or tuple(str(choice) for choice in range(group.n_actions))


def action_shares(group: GroupSpec, actions: ActionArray, alive: BoolArray | None) -> list[float]:
    """Share of each choice, or for each number the shares of the thirds of its range, which sum to one. `actions`
    [..., A_g] or [..., A_g, k] in -1..1, of those `alive` [..., A_g]."""
    chosen = actions.reshape(-1, *group.action_shape) if alive is None else actions[alive]
    if not group.continuous:
        return _shares(chosen, group.n_actions)
    thirds = np.digitize(chosen, (-1 / 3, 1 / 3))
    return [share for k in range(len(group.action_bounds)) for share in _shares(thirds[:, k], len(THIRDS))]


def _shares(choices: ActionArray, number: int) -> list[float]:
    found: list[float] = (np.bincount(choices, minlength=number) / max(len(choices), 1)).tolist()
    return found


def entropy_at_start(group: GroupSpec, log_std_init: float = 0.0) -> float:
    """Of a policy that knows nothing, in nats: uniform over the choices, or normal with the first standard deviation
    (an entropy of numbers may grow above that, and fall below zero)."""
    if group.continuous:
        return len(group.action_bounds) * (log_std_init + 0.5 * math.log(2 * math.pi * math.e))
    return math.log(group.n_actions)
