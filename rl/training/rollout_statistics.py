"""Statistics of a rollout that evidence is made of: idle agents and those that observe alike, what changes before a
reward, who gets things done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..experience.rollout import Rollout
from ..task import FloatArray, GroupSpec

LAG = 5  # steps before a reward over which features are compared
DECAY = 0.98  # a rollout: the last fifty or so count


def share_without_effect(rollout: Rollout, g: int, group: GroupSpec) -> float:
    """Return the share of living agents' steps, 0..1, that changed nothing about the agent itself.

    Nothing changed means none of its features but distances, which a mate's move changes too, or nothing that it
    observes where no feature says where it is.

    Args:
        rollout: the steps.
        g: index of the group.
        group: its declaration.
    """
    if any(feature.kind == "position" for feature in group.features):
        columns = [f for f, feature in enumerate(group.features) if feature.kind != "distance"]
        same = rollout.features[g][..., columns] == rollout.last_features[g][..., columns]
    else:
        same = rollout.obs[g] == rollout.last_obs[g]
    still = same.all(-1) if rollout.alive is None else same.all(-1)[rollout.alive[g]]
    return float(still.mean()) if still.size else 0.0  # a whole group may have left


def share_seeing_alike(rollout: Rollout, g: int) -> float:
    """Return the share of agents of group g, 0..1, that observe exactly what another one does, in the last step."""
    seen = rollout.obs[g][-1]  # [E, A_g, O_g]
    alike = (seen[:, :, None] == seen[:, None]).all(-1)  # [E, A_g, A_g]
    alike[:, np.arange(seen.shape[1]), np.arange(seen.shape[1])] = False
    if rollout.alive is not None:
        here = rollout.alive[g][-1] > 0
        alike = (alike & here[:, None])[here]
    return float(alike.any(-1).mean()) if alike.size else 0.0


def add_changes_before_reward(sums: Sequence[NDArray[np.float64]], rollout: Rollout) -> None:
    """Add how much each feature changed in the `LAG` steps up to each positive sparse reward, a mean over agents.

    Args:
        sums: [g] [2, F_g], decayed sums of the changes and decayed counts of rewards; changed in place.
        rollout: the steps.
    """
    steps = len(rollout.reward)
    if steps <= LAG:
        return
    # a change counts only where no episode ended in between
    ends = np.cumsum(np.vstack([np.zeros_like(rollout.done[:1]), rollout.done]), 0)
    crosses_end = ends[LAG:-1] > ends[: -LAG - 1]
    t, e = np.nonzero((rollout.reward[LAG:] > 0) & ~crosses_end)
    for group_sums, features in zip(sums, rollout.features, strict=True):
        group_sums *= DECAY
        if len(t):
            change = features[t + LAG, e] - features[t, e]  # [n, A, F]
            group_sums[0] += change.mean(1).sum(0)
            group_sums[1] += len(t)


def add_values_before_done(sums: Sequence[NDArray[np.float64]], rollout: Rollout, groups: Sequence[GroupSpec]) -> None:
    """Add the value of each feature in the last step before it had its declared `done`, of the agent with the smallest.

    Who gets a thing done is at it then, while the others may be anywhere.

    Args:
        sums: [g] [2, F_g], sums of the values and counts of the steps, of the whole run; changed in place.
        rollout: the steps.
        groups: of the task.
    """
    for g, group in enumerate(groups):
        alive = None if rollout.alive is None else rollout.alive[g]
        for f, done in ((f, feature.done) for f, feature in enumerate(group.features) if feature.done is not None):
            # The feature may be each agent's own or the team's: one agent for whom it changes is enough.
            before, after = rollout.features[g][..., f], rollout.last_features[g][..., f]
            changed = (before != done) & (after == done)
            if alive is not None:
                changed &= alive
            at = changed.any(-1)
            values = np.where(changed[at], before[at], np.inf).min(-1)
            sums[g][:, f] += values.sum(dtype=np.float64), len(values)


def mean_and_mean_abs(per_group: Sequence[FloatArray]) -> list[float]:
    """Return mean and mean absolute value over all agents and steps of [g] [..., A_g]."""
    values = np.concatenate([x.ravel() for x in per_group])
    return [float(values.mean()), float(np.abs(values).mean())]
