"""A batch of environments that live in arrays and are stepped by one compiled call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from ....errors import ConfigError, SnapshotError
from ...task import Arrays, EpisodeText, FloatArray, Frame, IntArray, Step, TaskSpec, splitmix64
from .random_stream import ENV_HASH, STREAM

_MASK = (1 << 64) - 1
TERMINATED, TRUNCATED, SUCCESS = 0, 1, 2  # rows of `ended` [3, E]; kernels repeat them


class CompiledBatch(ABC):
    """A `BatchedTask` around kernels: seeds, shapes, snapshots, and the arrays of a step, which the next one reuses.

    The agents' rows follow each other through the spec's groups, which all have the same sizes.

    Args:
        spec: of the task.
        num_envs: E.
        state: the arrays [E, …] that the kernels keep, by name; snapshots hold them and the random streams.

    Raises:
        ConfigError: `num_envs` is below 1.
    """

    def __init__(self, spec: TaskSpec, num_envs: int, state: Arrays) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs must be at least 1, got {num_envs!r}; raise it")
        self.spec, self.num_envs = spec, num_envs
        self.streams = np.zeros((num_envs, 2), dtype=np.uint64)
        self._saved: Arrays = {**state, "streams": self.streams}
        self.ended = np.zeros((3, num_envs), dtype=np.bool_)
        # one array for all agents, [E, A, n]
        group = spec.groups[0]
        self.obs, self.last_obs = self._rows(group.obs_size), self._rows(group.obs_size)
        self.features, self.last_features = self._rows(len(group.features)), self._rows(len(group.features))
        self.events = self._rows(len(group.events))
        # views, so that what a kernel writes is in the step
        self._step = Step(
            obs=self._by_group(self.obs),
            features=self._by_group(self.features),
            last_obs=self._by_group(self.last_obs),
            last_features=self._by_group(self.last_features),
            events=self._by_group(self.events),
            reward=np.zeros(num_envs, dtype=np.float32),
            terminated=self.ended[TERMINATED],
            truncated=self.ended[TRUNCATED],
            success=self.ended[SUCCESS],
        )

    def _rows(self, size: int) -> FloatArray:
        return np.zeros((self.num_envs, len(self.spec.agents), size), dtype=np.float32)

    def _by_group(self, rows: FloatArray) -> list[FloatArray]:
        """Return views [g] [E, A_g, n] of rows [E, A, n]."""
        ends = np.cumsum([len(group.agents) for group in self.spec.groups]).tolist()
        return [rows[:, end - len(group.agents) : end] for group, end in zip(self.spec.groups, ends, strict=True)]

    # ------------------------------------------------------------ the game

    @property
    @abstractmethod
    def episodes(self) -> IntArray:
        """[E], the number of each environment's running episode, a view."""

    @abstractmethod
    def start_all(self) -> None:
        """Start the episode of its number in every environment, from its reset seed."""

    @abstractmethod
    def view_all(self) -> None:
        """Fill `obs` and `features` from the state."""

    @abstractmethod
    def step_all(self, actions: IntArray, reward: FloatArray) -> int:
        """Make a joint step of all environments, with auto-reset, and fill all arrays of the step.

        Args:
            actions: [E, A].
            reward: [E], of the team, to be filled.

        Returns:
            -1, or the first environment with an action out of range; nothing has been changed then.
        """

    # ------------------------------------------------------------ the batch

    def reset(self, base_seed: int) -> Step:
        """Start episode 0 in every environment."""
        self.episodes[:] = 0
        self._set_env_hashes(base_seed)
        self.start_all()
        return self.observe()

    def _set_env_hashes(self, base_seed: int) -> None:
        """Hash `episode_seed` up to its last step, once per environment."""
        # Python's integers have any size, so they are cut to 64 bits first
        base = splitmix64(base_seed & _MASK)
        self.streams[:, ENV_HASH] = [splitmix64(base ^ e) for e in range(self.num_envs)]

    def step(self, actions: list[IntArray]) -> Step:
        """Make one joint step of all environments. actions: [g] [E, A_g], each in 0..n_actions-1.

        Raises:
            ValueError: a shape is wrong, or an action out of range (nothing has changed then).
        """
        shapes = [(self.num_envs, len(group.agents)) for group in self.spec.groups]
        if (got := [x.shape for x in actions]) != shapes:
            raise ValueError(f"actions must have shapes {shapes}, got {got}; give one of each agent")
        # one row per environment, which kernels take as int64
        joint = np.ascontiguousarray(actions[0] if len(actions) == 1 else np.concatenate(actions, axis=1), np.int64)
        bad = self.step_all(joint, self._step.reward)
        if bad >= 0:
            last = self.spec.groups[0].n_actions - 1
            raise ValueError(
                f"actions must be in 0..{last}, environment {bad} got {joint[bad].tolist()!r}; fix the policy"
            )
        return self._step

    def observe(self) -> Step:
        """Return the current views; reward, events and flags are zero."""
        self.view_all()
        self.last_obs[:] = self.obs
        self.last_features[:] = self.features
        self.events[:] = 0
        self._step.reward[:] = 0
        self.ended[:] = False
        return self._step

    def reseed(self, base_seed: int) -> None:
        """Start new streams: for what is drawn in the running episodes, and the starts of those to come.

        Episode numbers go on, so episode n + 1 of environment e starts from `episode_seed(base_seed, e, n + 1)`.
        """
        self._set_env_hashes(base_seed)
        for e, episode in enumerate(self.episodes.tolist()):
            # a second hash: the running episode must not share the draws of a fresh one with its number
            self.streams[e, STREAM] = splitmix64(splitmix64(int(self.streams[e, ENV_HASH]) ^ episode))

    def state_dict(self) -> Arrays:
        """Return copies of the kernels' arrays and of the random streams."""
        return {name: array.copy() for name, array in self._saved.items()}

    def load_state_dict(self, state: Arrays, fresh: bool = False) -> None:  # noqa: ARG002
        """Continue exactly from `state_dict`; no episode has to be played again, so `fresh` changes nothing.

        Raises:
            SnapshotError: arrays are missing, or of another task or number of environments.
        """
        for name, array in self._saved.items():
            if name not in state or state[name].shape != array.shape or state[name].dtype != array.dtype:
                got = f"{state[name].dtype} {state[name].shape}" if name in state else f"only {sorted(state)!r}"
                raise SnapshotError(
                    f"{self.spec.name} with {self.num_envs} environments needs {name!r} as {array.dtype}"
                    f" {array.shape}, got {got}; load a snapshot of the same task and trainer.envs, "
                    "and of a version in which the task was compiled"
                )
        for name, array in self._saved.items():
            array[:] = state[name]

    @abstractmethod
    def episode_text(self, seed: int, actions: list[IntArray], pictures_of: Collection[int] = ()) -> EpisodeText:
        """Play the episode of reset seed `seed` with `actions`, [g] [T, A_g]; return it as text."""

    def episode_frames(
        self,
        seed: int,  # noqa: ARG002
        actions: list[IntArray],  # noqa: ARG002
        frames_of: Collection[int],  # noqa: ARG002
    ) -> dict[int, Frame]:
        """Return nothing: such a task is drawn as text only."""
        return {}

    def close(self) -> None:  # noqa: B027 nothing to be done is right for most
        """Do nothing: there is nothing to free. Safe to repeat."""


class DescribedBatch(CompiledBatch):
    """A compiled batch whose kernels' arrays can be put into words, so that no plain game is needed beside it.

    Args:
        spec, num_envs, state: see `CompiledBatch`.
        agent_ids: whether each observation ends with the agent's number, one-hot, which no kernel writes.

    Attributes:
        seen, last_seen: [E, A, n] views of `obs` and `last_obs` without that number.
        shares: [E, A] what each agent was paid in the last step; the team's reward is their sum.
        obs_bounds: (lowest, highest) values of an agent's observation, [O] each.
    """

    shares: NDArray[np.float64]
    obs_bounds: tuple[FloatArray, FloatArray]

    def __init__(self, spec: TaskSpec, num_envs: int, state: Arrays, agent_ids: bool) -> None:
        super().__init__(spec, num_envs, state)
        numbers = np.eye(len(spec.agents), len(spec.agents) if agent_ids else 0, dtype=np.float32)
        size = self.obs.shape[-1] - numbers.shape[-1]
        self.seen, self.last_seen = self.obs[..., :size], self.last_obs[..., :size]
        self.obs[..., size:] = self.last_obs[..., size:] = numbers

    def bounds_with_ids(self, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return bounds of an agent's observation, [O] each, from those without its number."""
        more = self.obs.shape[-1] - len(low)
        return np.append(low, np.zeros(more, np.float32)), np.append(high, np.ones(more, np.float32))

    @abstractmethod
    def alone(self) -> DescribedBatch:
        """Return a batch of one environment with the same settings, in which an episode that has ended stays so."""

    @abstractmethod
    def start_from_stream(self) -> None:
        """Start an episode in the first environment from its random stream as it is."""

    @abstractmethod
    def describe(self) -> str:
        """Return the state of the first environment in a line of text."""

    @abstractmethod
    def picture(self) -> str:
        """Return the state of the first environment as lines of text, the last of which says what the signs are."""

    def start(self, seed: int) -> None:
        """Start the episode of a reset seed in the first environment."""
        self.streams[0, STREAM] = seed
        self.start_from_stream()
        self.observe()

    def episode_text(self, seed: int, actions: list[IntArray], pictures_of: Collection[int] = ()) -> EpisodeText:
        one = self.alone()
        one.start(seed)
        lines, pictures = list[str](), dict[int, str]()
        if 0 in pictures_of:
            pictures[0] = one.picture()
        for number in range(1, len(actions[0]) + 1):
            joint = [x[number - 1 : number] for x in actions]
            lines.append(f"step {number}: {one._told(one.step(joint), joint)}")
            if number in pictures_of:
                pictures[number] = one.picture()
            if one.ended.any():
                break
        return EpisodeText(lines, pictures)

    def _told(self, step: Step, actions: list[IntArray]) -> str:
        """Return the line of a step of the first environment: who did what, the state after it, events, reward."""
        acts, events = [], []
        for g, group in enumerate(self.spec.groups):
            for i, agent in enumerate(group.agents):
                acts.append(f"{agent} {group.action_names[actions[g][0, i]]}")
                counts = zip(group.events, step.events[g][0, i], strict=True)
                events += [f"{agent} {event.name}" for event, count in counts if count]
        ends = {"success": step.success, "terminated": step.terminated, "time limit": step.truncated}
        end = next((f" | {word}" for word, flags in ends.items() if flags[0]), "")
        return (
            f"{', '.join(acts)} -> {self.describe()} | events: {', '.join(events) or 'none'}"
            f" | team reward {step.reward[0]:+.3f}{end}"
        )
