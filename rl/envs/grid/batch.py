"""A grid game as a batch: the compiled kernel behind the `BatchedTask` contract."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from ....errors import ConfigError, SnapshotError
from ...task import EpisodeText, FloatArray, Frame, IntArray, Step, TaskSpec, splitmix64
from . import kernel
from .game import GridGame, play
from .map import Rules, Tables

_MASK = (1 << 64) - 1


class GridBatch:
    """A `BatchedTask` of grid games of two agents, whose rows follow each other through the spec's groups.

    The team reward is (events of the step) + 1 on success - 1/n_max, or by `rules.pays_events` 1 on success alone. The
    arrays of a `Step` are reused by the next one.

    Args:
        num_envs: E.
        n_max: time limit of an episode in steps.
        allow_agent_overlap: whether agents may share a cell.
        spec: of the game, with two agents in one or two groups.
        tables: what actions do and agents see.
        rules: what the tables leave open.
        new_game: builds the plain game from a reset seed, n_max and allow_agent_overlap, for `episode_text`.

    Raises:
        ConfigError: `num_envs` or `n_max` is below 1.
    """

    def __init__(
        self,
        num_envs: int,
        n_max: int,
        allow_agent_overlap: bool,
        spec: TaskSpec,
        tables: Tables,
        rules: Rules,
        new_game: Callable[[int, int, bool], GridGame],
    ) -> None:
        if num_envs < 1 or n_max < 1:
            raise ConfigError(f"num_envs and n_max must be at least 1, got {num_envs!r} and {n_max!r}; raise them")
        self.num_envs, self.n_max, self.allow_agent_overlap = num_envs, n_max, allow_agent_overlap
        self.spec, self._tables, self._new_game = spec, tables, new_game
        self._rules = rules.row(allow_agent_overlap)
        self._state = np.zeros((num_envs, kernel.STATE_COLUMNS), dtype=np.int64)
        self._streams = np.zeros((num_envs, 2), dtype=np.uint64)
        self._ended = np.zeros((3, num_envs), dtype=np.bool_)
        # One array for both agents, [E, 2, n].
        sizes = tables.obs.shape[-1], tables.features.shape[-1], len(spec.groups[0].events)
        self._obs, self._features, self._events = (self._rows(size) for size in sizes)
        self._last_obs, self._last_features = (self._rows(size) for size in sizes[:2])
        # Views, so that what the kernel writes is in the step.
        self._step = Step(
            obs=self._by_group(self._obs),
            features=self._by_group(self._features),
            last_obs=self._by_group(self._last_obs),
            last_features=self._by_group(self._last_features),
            events=self._by_group(self._events),
            reward=np.zeros(num_envs, dtype=np.float32),
            terminated=self._ended[kernel.TERMINATED],
            truncated=self._ended[kernel.TRUNCATED],
            success=self._ended[kernel.SUCCESS],
        )
        self.reset(0)

    def _rows(self, size: int) -> FloatArray:
        return np.zeros((self.num_envs, 2, size), dtype=np.float32)

    def _by_group(self, rows: FloatArray) -> list[FloatArray]:
        """Return views [g] [E, A_g, n] of rows [E, 2, n]."""
        # The agents' rows follow each other through the groups.
        ends = np.cumsum([len(group.agents) for group in self.spec.groups]).tolist()
        return [rows[:, end - len(group.agents) : end] for group, end in zip(self.spec.groups, ends, strict=True)]

    def reset(self, base_seed: int) -> Step:
        """Start episode 0 in every environment."""
        self._state[:] = 0
        self._set_env_hashes(base_seed)
        kernel.start_all(self._state, self._streams, self._tables.start_poses)
        return self.observe()

    def _set_env_hashes(self, base_seed: int) -> None:
        """Hash `episode_seed` up to its last step, once per environment."""
        # Python's integers have any size, so they are cut to 64 bits first.
        base = splitmix64(base_seed & _MASK)
        self._streams[:, kernel.ENV_HASH] = [splitmix64(base ^ e) for e in range(self.num_envs)]

    def step(self, actions: list[IntArray]) -> Step:
        """Make one joint step of all environments. actions: [g] [E, A_g], each in 0..4.

        Raises:
            ValueError: a shape is wrong, or an action out of range (nothing has changed then).
        """
        shapes = [(self.num_envs, len(group.agents)) for group in self.spec.groups]
        if (got := [x.shape for x in actions]) != shapes:
            raise ValueError(f"actions must have shapes {shapes}, got {got}; give one of each agent")
        # One row per environment, which the kernel takes as int64.
        joint = np.ascontiguousarray(actions[0] if len(actions) == 1 else np.concatenate(actions, axis=1), np.int64)
        step, table = self._step, self._tables
        bad = kernel.step_all(
            joint, self._state, self._streams,
            table.next_pose, table.trigger, table.start_poses, table.obs, table.features, self._rules, self.n_max,
            self._obs, self._features, self._last_obs, self._last_features, self._events, step.reward, self._ended,
        )  # fmt: skip
        # The kernel checks before it changes anything.
        if bad >= 0:
            raise ValueError(f"actions must be in 0..4, environment {bad} got {joint[bad].tolist()!r}; fix the policy")
        return step

    def observe(self) -> Step:
        """Return the current views; reward, events and flags are zero."""
        table = self._tables
        kernel.view_all(self._state, table.obs, table.features, self._rules, self._obs, self._features)
        self._last_obs[:] = self._obs
        self._last_features[:] = self._features
        self._events[:] = 0
        self._step.reward[:] = 0
        self._ended[:] = False
        return self._step

    def reseed(self, base_seed: int) -> None:
        """Start new streams: for the order of acting in the running episodes, and the starts of those to come.

        Episode numbers go on, so episode n + 1 of environment e starts from `episode_seed(base_seed, e, n + 1)`.
        """
        self._set_env_hashes(base_seed)
        for e, episode in enumerate(self._state[:, kernel.EPISODE].tolist()):
            # A second hash: the running episode must not share the draws of a fresh one with its number.
            self._streams[e, kernel.STREAM] = splitmix64(splitmix64(int(self._streams[e, kernel.ENV_HASH]) ^ episode))

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of `state` int64 [E, 7] and `streams` uint64 [E, 2], whose columns `kernel` names."""
        return {"state": self._state.copy(), "streams": self._streams.copy()}

    def load_state_dict(self, state: dict[str, NDArray[np.generic]], fresh: bool = False) -> None:  # noqa: ARG002
        """Continue exactly from `state_dict`; no episode has to be played again, so `fresh` changes nothing.

        Raises:
            SnapshotError: arrays are missing, or of another task or number of environments.
        """
        for name, array in (("state", self._state), ("streams", self._streams)):
            if name not in state or state[name].shape != array.shape or state[name].dtype != array.dtype:
                got = f"{state[name].dtype} {state[name].shape}" if name in state else f"only {sorted(state)!r}"
                raise SnapshotError(
                    f"{self.spec.name} with {self.num_envs} environments needs {name!r} as {array.dtype}"
                    f" {array.shape}, got {got}; load a snapshot of the same task and trainer.envs"
                )
        self._state[:] = state["state"]
        self._streams[:] = state["streams"]

    def episode_text(self, seed: int, actions: list[IntArray], pictures_of: Collection[int] = ()) -> EpisodeText:
        """Play the episode of reset seed `seed` with `actions` ([g] [T, A_g]) in the plain game; return it as text."""
        game = self._new_game(seed, self.n_max, self.allow_agent_overlap)
        return play(game, np.concatenate(actions, axis=1).tolist(), pictures_of)

    def episode_frames(
        self,
        seed: int,  # noqa: ARG002
        actions: list[IntArray],  # noqa: ARG002
        frames_of: Collection[int],  # noqa: ARG002
    ) -> dict[int, Frame]:
        """Return nothing: a grid is drawn as text only."""
        return {}

    def close(self) -> None:
        """Do nothing: there is nothing to free. Safe to repeat."""
