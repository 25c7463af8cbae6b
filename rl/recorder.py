"""A bounded sample of the run's transitions: what scales are frozen on and proposals are checked against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .episodes import EpisodeTracker
from .rollout import Rollout
from .signals.recorded import Recorded
from .task import GroupSpec, TaskSpec

CAPACITY = 4096  # transitions kept
PER_UPDATE = 32  # taken from each rollout, so that the sample reaches 128 updates back
LAG = 5  # steps between the two states of a pair
PAIRS = 256  # kept with a reward, and as many without
PAIRS_PER_UPDATE = 16  # of either kind
KINDS = ("rewarded", "plain")

Arrays = dict[str, NDArray[np.generic]]


class TransitionRecorder:
    """Rings of transitions and of pairs of states, drawn with random streams of their own, so that recording never
    changes training. `with_obs`: what agents observe is kept too, which learned terms are computed from."""

    def __init__(self, spec: TaskSpec, with_obs: bool = False) -> None:
        self.spec = spec
        self.views = ("features", "obs") if with_obs else ("features",)
        self.count = 0
        self.ring: dict[str, NDArray[np.float32]] = {"terminated": np.zeros(CAPACITY, np.float32)}
        for g, group in enumerate(spec.groups):
            agents = len(group.agents)
            self.ring[f"events.{g}"] = np.zeros((CAPACITY, agents, len(group.events)), np.float32)
            for view in self.views:
                for name in (view, f"last_{view}"):
                    self.ring[f"{name}.{g}"] = np.zeros((CAPACITY, agents, _width(group, view)), np.float32)
        self.paired = dict.fromkeys(KINDS, 0)
        self.pairs: dict[str, NDArray[np.float32]] = {
            f"{kind}_{end}{_SUFFIX[view]}.{g}": np.zeros((PAIRS, len(group.agents), _width(group, view)), np.float32)
            for kind in KINDS
            for end in ("from", "to")
            for view in self.views
            for g, group in enumerate(spec.groups)
        }

    def add(self, rollout: Rollout) -> None:
        self._add_pairs(rollout)
        steps, envs = rollout.reward.shape
        rng = np.random.default_rng(self.count)
        chosen = rng.choice(steps * envs, size=min(PER_UPDATE, steps * envs), replace=False)
        if rollout.lost is not None:
            chosen = chosen[rollout.lost.ravel()[chosen] == 0]
        t, e = np.divmod(chosen, envs)
        slots = (self.count + np.arange(len(chosen))) % CAPACITY
        self.ring["terminated"][slots] = rollout.terminated[t, e]
        for g in range(len(self.spec.groups)):
            self.ring[f"events.{g}"][slots] = rollout.events[g][t, e]
            for view in self.views:
                for name in (view, f"last_{view}"):
                    self.ring[f"{name}.{g}"][slots] = getattr(rollout, name)[g][t, e]
        self.count += len(chosen)

    def _add_pairs(self, rollout: Rollout) -> None:
        """Ways to a reward, and as many ways without one from the same rollout, so that both show the same policy."""
        rng = np.random.default_rng([self.count, LAG])
        most = PAIRS_PER_UPDATE
        for kind, found in zip(KINDS, ways(rollout), strict=True):
            t, e = np.nonzero(found)
            chosen = rng.choice(len(t), size=min(most, len(t)), replace=False) if len(t) else np.zeros(0, np.int64)
            t, e, most = t[chosen], e[chosen], len(chosen)
            slots = (self.paired[kind] + np.arange(len(chosen))) % PAIRS
            for view in self.views:
                for g, seen in enumerate(getattr(rollout, view)):
                    self.pairs[f"{kind}_from{_SUFFIX[view]}.{g}"][slots] = seen[t, e]
                    self.pairs[f"{kind}_to{_SUFFIX[view]}.{g}"][slots] = seen[t + LAG, e]
            self.paired[kind] += len(chosen)

    def recorded(self, episodes: EpisodeTracker) -> Recorded:
        """The sample with the last non-terminal states of recent episodes."""
        kept = slice(0, min(self.count, CAPACITY))
        groups = range(len(self.spec.groups))
        kept_pairs = {kind: min(self.paired[kind], PAIRS) for kind in KINDS}
        pairs = {
            f"{kind}_{end}{_SUFFIX[view]}": [
                self.pairs[f"{kind}_{end}{_SUFFIX[view]}.{g}"][: kept_pairs[kind]] for g in groups
            ]
            for kind in KINDS
            for end in ("from", "to")
            for view in self.views
        }
        with_obs = (
            {
                "obs": [self.ring[f"obs.{g}"][kept] for g in groups],
                "last_obs": [self.ring[f"last_obs.{g}"][kept] for g in groups],
                "end_obs": [episodes.recent(f"last_obs.{g}").astype(np.float32) for g in groups],
            }
            if "obs" in self.views
            else {}
        )
        return Recorded(
            features=[self.ring[f"features.{g}"][kept] for g in groups],
            last_features=[self.ring[f"last_features.{g}"][kept] for g in groups],
            events=[self.ring[f"events.{g}"][kept] for g in groups],
            terminated=self.ring["terminated"][kept],
            end_features=[episodes.recent(f"last_state.{g}").astype(np.float32) for g in groups],
            end_success=episodes.recent("successes").astype(np.float32),
            **pairs,
            **with_obs,
        )

    def state_dict(self) -> Arrays:
        counts = {"count": np.array([self.count]), "paired": np.array([self.paired[kind] for kind in KINDS])}
        return {**{k: v.copy() for k, v in (self.ring | self.pairs).items()}, **counts}

    def load_state_dict(self, state: Arrays) -> None:
        for key in self.ring:
            self.ring[key] = state[key].copy()  # type: ignore[assignment]
        self.count = int(state["count"][0])
        paired = state.get("paired", np.zeros(len(KINDS), np.int64))  # snapshots of older versions have none
        self.paired = {kind: int(number) for kind, number in zip(KINDS, paired, strict=True)}
        for key in self.pairs:
            self.pairs[key] = state[key].copy() if key in state else np.zeros_like(self.pairs[key])  # type: ignore[assignment]


_SUFFIX = {"features": "", "obs": "_obs"}


def _width(group: GroupSpec, view: str) -> int:
    return group.obs_size if view == "obs" else len(group.features)


def ways(rollout: Rollout) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where a pair may start: [T − LAG, E] each, with a reward at its end, and without one on its way.

    Both states are of one episode. A pair ends in the state from which the next step brings a positive team reward:
    what a distance to the next goal does once a goal is reached is no part of the way to it.
    """
    length = len(rollout.reward) - LAG
    if length <= 0:
        none = np.zeros((0, rollout.reward.shape[1]), np.bool_)
        return none, none
    positive = rollout.reward > 0
    whole = ~_any_within(rollout.done > 0, LAG)[:length]
    return whole & positive[LAG:], whole & ~_any_within(positive, LAG + 1)[:length]


def _any_within(flags: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """[T, E] → [T − width + 1, E]: true where any of the `width` rows from here on is."""
    return np.asarray(np.lib.stride_tricks.sliding_window_view(flags, width, axis=0).any(axis=-1))
