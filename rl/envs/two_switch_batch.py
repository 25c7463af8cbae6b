"""Two-Switch as a batch: the compiled kernel behind the `BatchedTask` contract."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, SnapshotError
from ..task import IntArray, Step, splitmix64
from . import two_switch_kernel as kernel
from .two_switch_game import TwoSwitchGame, play
from .two_switch_map import FEATURE_NAMES, GOAL, OBS_SIZE, START_CELLS, WIDTH, pose_number, tables
from .two_switch_spec import N_MAX, two_switch_spec

_MASK = (1 << 64) - 1


class BatchedTwoSwitch:
    """`num_envs` games in one group "agents" (green, orange). A `BatchedTask`.

    The team reward is (events of the step) + 1 on success - 1/n_max. The arrays of a `Step` are reused by the next one.

    Args:
        num_envs: E.
        n_max: time limit of an episode in steps, then truncation.
        allow_agent_overlap: whether agents may share a cell.
    """

    def __init__(self, num_envs: int, n_max: int = N_MAX, allow_agent_overlap: bool = True) -> None:
        if num_envs < 1 or n_max < 1:
            raise ConfigError(f"num_envs and n_max must be at least 1, got {num_envs!r} and {n_max!r}; raise them")
        self.num_envs, self.n_max, self.allow_agent_overlap = num_envs, n_max, allow_agent_overlap
        self.spec = two_switch_spec(n_max, allow_agent_overlap)
        self._tables = tables()
        self._start_poses = np.array([pose_number(*cell, 0) for cell in START_CELLS], dtype=np.int64)
        self._state = np.zeros((num_envs, kernel.STATE_COLUMNS), dtype=np.int64)
        self._streams = np.zeros((num_envs, 2), dtype=np.uint64)
        self._ended = np.zeros((3, num_envs), dtype=np.bool_)
        self._step = self._new_step()
        self.reset(0)

    def _new_step(self) -> Step:
        obs, features = (self.num_envs, 2, OBS_SIZE), (self.num_envs, 2, len(FEATURE_NAMES))
        return Step(
            obs=[np.zeros(obs, dtype=np.float32)],
            features=[np.zeros(features, dtype=np.float32)],
            last_obs=[np.zeros(obs, dtype=np.float32)],
            last_features=[np.zeros(features, dtype=np.float32)],
            events=[np.zeros((self.num_envs, 2, 2), dtype=np.float32)],
            reward=np.zeros(self.num_envs, dtype=np.float32),
            terminated=self._ended[kernel.TERMINATED],
            truncated=self._ended[kernel.TRUNCATED],
            success=self._ended[kernel.SUCCESS],
        )

    def reset(self, base_seed: int) -> Step:
        """Start episode 0 in every environment."""
        self._state[:] = 0
        self._set_env_hashes(base_seed)
        kernel.start_all(self._state, self._streams, self._start_poses)
        return self.observe()

    def _set_env_hashes(self, base_seed: int) -> None:
        """`episode_seed` up to its last hash, once per environment."""
        base = splitmix64(base_seed & _MASK)
        self._streams[:, kernel.ENV_HASH] = [splitmix64(base ^ e) for e in range(self.num_envs)]

    def step(self, actions: list[IntArray]) -> Step:
        """actions: [1] [E, 2], each in 0..4.

        Raises:
            ValueError: wrong shape, or an action out of range (nothing has changed then).
        """
        joint = np.ascontiguousarray(actions[0], dtype=np.int64)
        if joint.shape != (self.num_envs, 2):
            raise ValueError(f"actions must have shape {(self.num_envs, 2)}, got {joint.shape}; give all [E, 2]")
        step, table = self._step, self._tables
        bad = kernel.step_all(
            joint,
            self._state,
            self._streams,
            table.next_pose,
            table.trigger,
            self._start_poses,
            table.obs,
            table.features,
            step.obs[0],
            step.features[0],
            step.last_obs[0],
            step.last_features[0],
            step.events[0],
            step.reward,
            self._ended,
            GOAL[1] * WIDTH + GOAL[0],
            self.n_max,
            self.allow_agent_overlap,
        )
        if bad >= 0:
            raise ValueError(f"actions must be in 0..4, environment {bad} got {joint[bad].tolist()!r}; fix the policy")
        return step

    def observe(self) -> Step:
        """The current views; reward, events and flags are zero."""
        step = self._step
        kernel.view_all(self._state, self._tables.obs, self._tables.features, step.obs[0], step.features[0])
        step.last_obs[0][:] = step.obs[0]
        step.last_features[0][:] = step.features[0]
        step.events[0][:] = 0
        step.reward[:] = 0
        self._ended[:] = False
        return step

    def reseed(self, base_seed: int) -> None:
        """New streams from now on: the order of acting in the running episodes, and the starts of those to come.

        Episode numbers go on, so episode n + 1 of environment e starts from `episode_seed(base_seed, e, n + 1)`.
        """
        self._set_env_hashes(base_seed)
        for e, episode in enumerate(self._state[:, kernel.EPISODE].tolist()):
            # A second hash: the running episode must not share the draws of a fresh one with its number.
            self._streams[e, kernel.STREAM] = splitmix64(splitmix64(int(self._streams[e, kernel.ENV_HASH]) ^ episode))

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """`state` int64 [E, 7] and `streams` uint64 [E, 2]."""
        return {"state": self._state.copy(), "streams": self._streams.copy()}

    def load_state_dict(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Continue exactly from `state_dict`.

        Raises:
            SnapshotError: arrays are missing, or of another task or number of environments.
        """
        for name, array in (("state", self._state), ("streams", self._streams)):
            if name not in state or state[name].shape != array.shape or state[name].dtype != array.dtype:
                got = f"{state[name].dtype} {state[name].shape}" if name in state else f"only {sorted(state)!r}"
                raise SnapshotError(
                    f"Two-Switch with {self.num_envs} environments needs {name!r} as {array.dtype} {array.shape},"
                    f" got {got}; load a snapshot of the same task and trainer.envs"
                )
        self._state[:] = state["state"]
        self._streams[:] = state["streams"]

    def episode_text(self, seed: int, actions: list[IntArray]) -> list[str]:
        """Play the episode that starts from reset seed `seed` with `actions` ([1] [T, 2]); a line of text a step."""
        game = TwoSwitchGame(seed, self.n_max, self.allow_agent_overlap)
        return play(game, [(int(green), int(orange)) for green, orange in actions[0]])

    def close(self) -> None:
        """Nothing to free."""
