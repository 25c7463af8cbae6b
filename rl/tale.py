"""Steps of a rollout as text, for a model's eyes: who did what, what happened, what it paid."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from .rollout import Rollout
from .task import TaskSpec

MOMENTS = 6
LONGEST = 30  # lines of an episode


class Tale(TypedDict):
    key_moments: list[str]
    episode: list[str]


def tell(rollout: Rollout, spec: TaskSpec) -> Tale:
    """The last steps that paid, and the newest episode that ended in the rollout (its last lines)."""
    paid = np.argwhere(rollout.reward > 0)[-MOMENTS:]
    moments = [_line(rollout, spec, int(t), int(env)) for t, env in paid]
    return {
        "key_moments": moments or [f"no step of the last {rollout.steps} was rewarded"],
        "episode": _last_episode(rollout, spec),
    }


def _last_episode(rollout: Rollout, spec: TaskSpec) -> list[str]:
    ends = np.argwhere(rollout.done > 0)
    if not len(ends):
        return []
    end, env = (int(x) for x in ends[-1])
    earlier = np.flatnonzero(rollout.done[:end, env])
    start = int(earlier[-1]) + 1 if len(earlier) else 0
    return [_line(rollout, spec, t, env) for t in range(max(start, end - LONGEST + 1), end + 1)]


def _line(rollout: Rollout, spec: TaskSpec, t: int, env: int) -> str:
    said = []
    for g, group in enumerate(spec.groups):
        for i, agent in enumerate(group.agents):
            name = group.action_text(rollout.actions[g][t, env, i])
            events = [event.name for v, event in enumerate(group.events) if rollout.events[g][t, env, i, v] > 0]
            said.append(f"{agent}: {name}" + (f" [{', '.join(events)}]" if events else ""))
    ending = " terminated" if rollout.terminated[t, env] else " cut by the time limit" if rollout.done[t, env] else ""
    if rollout.lost is not None and rollout.lost[t, env]:
        ending = " cut since the environment crashed"
    return f"{'; '.join(said)}; reward {rollout.reward[t, env]:+.3f}{ending}"
