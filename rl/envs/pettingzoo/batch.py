"""Any PettingZoo `ParallelEnv` as a batch: E instances, stepped one after the other in this process.

`pettingzoo_layout` says how agents are grouped and where features, events and success come from.

An environment that raises anything but a ConfigError is built anew, and its episode is lost (`Step.lost`); the next one
has the next number. A reset that raises is tried again so, and nothing is lost that had been played. One that hangs, or
takes its process with it, is not noticed here: `process_task` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from ....errors import ConfigError, CosignalError, EnvironmentLost, SnapshotError
from ...task import ActionArray, BoolArray, FloatArray, Step, TaskSpec, episode_seed, new_step, unmoved
from ..adapter import Task, as_task
from .layout import GroupLayout, read_layout

Views = tuple[list[FloatArray], list[FloatArray], list[BoolArray], list[BoolArray]]  # obs … alive, as in `Step`
Row = NDArray[np.generic]  # one joint action, agents side by side: choices as int64, or float64 where any is a Box

_MASK = (1 << 64) - 1
MAX_LOSSES = 10  # in a row, without a finished step between them


def log_loss(env: int, words: str) -> None:
    """Environment number `env` of the batch is restarted, and why."""
    structlog.get_logger().warning("environment restarted", env=env, error=words)


class PettingZooTask:
    """A `BatchedTask` over `ParallelEnv` instances.

    The team reward is the sum or mean of the rewards of *all* agents (a dead agent's is 0). An agent that dies before
    the episode ends keeps its place: it observes zeros, its features stay as they were, its mask allows its first
    action only, and its actions are ignored. The episode ends when no agent is left; if an agent left by truncation in
    that last step it counts as truncated, else as terminated.

    Args:
        factory: builds one environment, or a `Task` around one; called E times, and once more if `episode_text` is
            used.
        num_envs: E.
        team_reward: how the agents' rewards become the team's.
        n_max: truncate after that many steps, on top of the environment's own limit; None for no such limit.
        first_env: number of the first environment, where others of the batch live elsewhere; reset seeds depend on it.
        on_loss: is told the number of an environment that raised, and what.
        agent_ids: whether agents of a group observe which of them they are, see `pettingzoo_layout.read_layout`.

    Raises:
        ConfigError: the environment cannot be batched, see `pettingzoo_layout.read_layout`.
        EnvironmentLost: from any method that plays, when an environment raises MAX_LOSSES times in a row.
    """

    def __init__(
        self,
        factory: Callable[[], Any],
        num_envs: int,
        team_reward: Literal["sum", "mean"] = "sum",
        n_max: int | None = None,
        first_env: int = 0,
        on_loss: Callable[[int, str], None] = log_loss,
        agent_ids: bool = False,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs must be at least 1, got {num_envs!r}; raise it")
        self.num_envs, self._factory, self._team_reward, self._n_max = num_envs, factory, team_reward, n_max
        self._first_env, self._on_loss = first_env, on_loss
        self._tasks = [as_task(factory()) for _ in range(num_envs)]
        if len({id(task.env) for task in self._tasks}) != num_envs:
            raise ConfigError(
                f"the factory must build a new environment at each call, {factory!r} gave the same one twice; "
                "let it construct"
            )
        layout = read_layout(self._tasks[0], n_max, agent_ids)
        self.spec, self._groups = layout.spec, layout.groups
        self._ids = [agent for group in self._groups for agent in group.ids]
        self._row_dtype = np.float64 if any(group.continuous for group in self.spec.groups) else np.int64
        self._event_names = {name for group in self._groups for name in group.events}
        self.witness: Callable[[int, Task], None] | None = None  # is shown environment e in s', before it is reset
        self._spare: Task | None = None
        self._base_seed = 0
        self._seeds = np.zeros(num_envs, dtype=np.int64)
        self._episodes = np.zeros(num_envs, dtype=np.int64)
        self._losses = [0] * num_envs  # [e] in a row
        self._history: list[list[Row]] = [[] for _ in range(num_envs)]  # [e] [t], actions since the reset
        self._step = new_step(self.spec, num_envs)
        self._now, self._last = self._views()
        self._pairs = self._paired()  # (array of s, the same of s')
        self.reset(0)

    def _views(self) -> tuple[Views, Views]:
        """What is written of s and of s'; no masks where the spec has none."""
        step = self._step
        now = step.obs, step.features, step.masks or [], step.alive or []
        return now, (step.last_obs, step.last_features, step.last_masks or [], step.last_alive or [])

    def _paired(self) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        now: list[NDArray[Any]] = [array for view in self._now for array in view]
        last: list[NDArray[Any]] = [array for view in self._last for array in view]
        return list(zip(now, last, strict=True))

    @property
    def tasks(self) -> Sequence[Task]:
        """[E]: what follows each environment."""
        return self._tasks

    @property
    def agent_ids(self) -> list[list[Any]]:
        """[g] [A_g]: the environments' own names of the agents."""
        return [list(group.ids) for group in self._groups]

    @property
    def episodes(self) -> NDArray[np.int64]:
        """[E]: numbers of the running episodes."""
        return self._episodes

    def reset(self, base_seed: int) -> Step:
        """Start episode 0 in every environment."""
        return self.begin(base_seed, [0] * self.num_envs)

    def begin(self, base_seed: int, episodes: Sequence[int]) -> Step:
        """Start episode number `episodes[e]` in environment e."""
        self._base_seed = base_seed & _MASK
        for e, episode in enumerate(episodes):
            self._begin(e, episode)
        return self.observe()

    def _begin(self, e: int, episode: int) -> None:
        """Where the reset raises, the next episode is tried: this seed may be what does it."""
        while True:
            self._episodes[e] = episode
            self._seeds[e] = episode_seed(self._base_seed, self._first_env + e, episode)
            if self._replayed(e, []):
                return
            episode += 1

    def _replayed(self, e: int, history: list[Row]) -> bool:
        """`_replay`; where the environment raises it is rebuilt, and the answer is False."""
        try:
            self._replay(e, history)
        except CosignalError:
            raise
        except Exception as error:  # noqa: BLE001 other people's code
            self._rebuild(e, error)
            return False
        return True

    def _rebuild(self, e: int, error: Exception) -> None:
        """A new instance in the place of one that raised."""
        env, words = self._first_env + e, f"{type(error).__name__}: {error}"
        self._on_loss(env, words)
        self._losses[e] += 1
        if self._losses[e] >= MAX_LOSSES:
            raise EnvironmentLost(
                f"an environment may raise in {MAX_LOSSES - 1} steps or resets in a row, number {env} of"
                f" {self.spec.name!r} did once more: {words}; mend it, or make its factory give one that works"
            ) from error
        with suppress(Exception):  # it may be in any state
            self._tasks[e].env.close()
        self._tasks[e] = as_task(self._factory())

    def _replay(self, e: int, history: list[Row]) -> None:
        """Reset environment e with its seed, act as in `history`, and show where it stands."""
        env = self._tasks[e].env
        observations, infos = env.reset(seed=int(self._seeds[e]))
        for features in self._step.features:  # of an agent that is not there from the start
            features[e] = 0
        self._write_views(self._now, e, set(env.agents), observations, infos)
        for row in history:
            observations, _, _, _, infos = env.step(self._env_actions(env, row))
            if self.spec.has_masks:  # of somebody who leaves the last features stay
                self._write_views(self._now, e, set(env.agents), observations, infos)
        self._history[e] = list(history)
        if history and not self.spec.has_masks:
            self._write_views(self._now, e, set(env.agents), observations, infos)

    def _env_actions(self, env: Any, row: Row) -> dict[Any, Any]:
        """Actions of the agents that are alive, in their own spaces."""
        live, found, start, numbers = set(env.agents), {}, 0, row.tolist()
        for group in self._groups:
            for agent in group.ids:
                end = start + group.actions.width
                if agent in live:
                    found[agent] = group.actions.action(numbers[start:end])
                start = end
        return found

    def step(self, actions: list[ActionArray]) -> Step:
        """actions: [g] [E, A_g], each in 0..n_actions-1; or [E, A_g, k], clipped to -1..1.

        Raises:
            ValueError: wrong shape, or an action out of range (nothing has changed then).
            ConfigError: the environment does not give a feature that it declares, an observation is not of its space's
                shape, or something is not a finite number.
        """
        check_actions(self.spec, self.num_envs, actions)
        joint = self._rows(actions)
        assert self._step.lost is not None
        self._step.lost[:] = False
        for e in range(self.num_envs):
            self._step_env(e, joint[e])
        self._check_numbers()
        return self._step

    def _check_numbers(self) -> None:
        """What is not a finite number would spoil every weight without a word."""
        step = self._step
        told = {"observes": step.last_obs, "has features": step.last_features}
        for what, arrays in told.items():
            for g, array in enumerate(arrays):
                if not np.isfinite(array).all():
                    e, i, k = np.argwhere(~np.isfinite(array))[0].tolist()
                    raise ConfigError(
                        f"numbers must be finite, agent {self.spec.groups[g].agents[i]!r} of {self.spec.name!r} {what}"
                        f" {array[e, i].tolist()!r} in step {len(self._history[e])} of the episode with reset seed"
                        f" {self._seeds[e]} (number {k} is not); mend the environment"
                    )
        if not np.isfinite(step.reward).all():
            raise ConfigError(
                f"rewards must be finite numbers, {self.spec.name!r} paid {step.reward.tolist()!r} in {self.num_envs}"
                " environments; mend the environment"
            )

    def _rows(self, actions: list[ActionArray]) -> NDArray[np.generic]:
        """[g] [N, A_g] or [N, A_g, k] → [N, …], a copy."""
        flat = [x.reshape(len(x), -1) for x in actions]
        return np.concatenate(flat, axis=1).astype(self._row_dtype)

    def _step_env(self, e: int, row: Row) -> None:
        try:
            ended = self._play(e, row)
        except CosignalError:
            raise
        except Exception as error:  # noqa: BLE001 other people's code
            self._lose(e)
            self._rebuild(e, error)
            ended = True
        else:
            self._losses[e] = 0
        if ended:
            self._begin(e, int(self._episodes[e]) + 1)
        else:
            for now, last in self._pairs:
                now[e] = last[e]

    def _lose(self, e: int) -> None:
        """The step that an environment did not finish."""
        step = self._step
        for now, last in self._pairs:
            last[e] = now[e]
        for array in (*step.events, step.reward, step.terminated, step.success):
            array[e] = 0
        step.truncated[e] = True
        assert step.lost is not None
        step.lost[e] = True

    def _play(self, e: int, row: Row) -> bool:
        """One step of environment e, without what follows an episode; whether it has ended."""
        task, step = self._tasks[e], self._step
        env, acted = task.env, set(task.env.agents)
        observations, rewards, terminations, truncations, infos = env.step(self._env_actions(env, row))
        self._history[e].append(row)
        for now, last in zip(step.features, step.last_features, strict=True):  # they stay for who is not there
            last[e] = now[e]
        if self.witness is not None:
            self.witness(e, task)
        self._write_views(self._last, e, set(env.agents) or acted, observations, infos)
        self._write_events(e, acted, infos)
        step.reward[e] = self._team_total(rewards)
        terminated, truncated = self._ending(env, len(self._history[e]), terminations, truncations)
        step.terminated[e], step.truncated[e] = terminated, truncated
        ended = terminated or truncated
        step.success[e] = ended and self.spec.has_success and task.success(infos)
        return ended

    def _team_total(self, rewards: dict[Any, float]) -> float:
        total = sum(float(rewards.get(agent, 0.0)) for agent in self._ids)
        return total / len(self._ids) if self._team_reward == "mean" else total

    def _ending(
        self, env: Any, steps: int, terminations: dict[Any, bool], truncations: dict[Any, bool]
    ) -> tuple[bool, bool]:
        """(terminated, truncated) of the whole episode after `steps` steps; at most one is true."""
        gone = {agent for flags in (terminations, truncations) for agent, flag in flags.items() if flag}
        if set(env.agents) - gone:
            return False, self._n_max is not None and steps >= self._n_max
        by_limit = any(flag and not terminations.get(agent) for agent, flag in truncations.items())
        return not by_limit, by_limit

    def _write_views(
        self, views: Views, e: int, going: set[Any], observations: dict[Any, Any], infos: dict[Any, Any]
    ) -> None:
        """`going`: who acts next, or in the last state of an episode who acted in its last step."""
        obs, features, masks, alive = views
        env = self._tasks[e].env
        for g, group in enumerate(self._groups):
            for i, agent in enumerate(group.ids):
                there = agent in going and agent in observations
                if self.spec.has_masks:
                    alive[g][e, i] = there
                    masks[g][e, i] = self._mask(env, group, agent, observations, infos) if there else group.first_only
                if there:
                    size, row = len(group.observations.bounds), group.observations.flat(observations[agent])
                    if np.shape(row) != (size,):
                        raise ConfigError(
                            f"an observation must have the shape of its space, agent {agent!r} of {self.spec.name!r}"
                            f" observes {np.shape(row)}, its space says {(size,)}; correct one of them"
                        )
                    obs[g][e, i, :size] = row
                    obs[g][e, i, size:] = group.identity[i]
                    features[g][e, i] = self._feature_row(group, e, agent, obs[g][e, i, :size], infos)
                else:
                    self._check_leaving(agent)
                    obs[g][e, i] = 0

    def _check_leaving(self, agent: Any) -> None:
        if not self.spec.has_masks:
            raise ConfigError(
                f"{self.spec.name!r} has declared has_masks = False, which says that nobody leaves before the others;"
                f" agent {agent!r} did; take the declaration out"
            )

    def _mask(
        self, env: Any, group: GroupLayout, agent: Any, observations: dict[Any, Any], infos: dict[Any, Any]
    ) -> BoolArray | bool:
        """True where all is allowed."""
        n = group.actions.n
        mask = group.observations.mask(observations[agent], infos.get(agent, {}))
        if mask is None:
            return True
        if mask.shape == (n,) and not mask.any() and agent not in env.agents:  # it has just ended, and acts no more
            return group.first_only
        if mask.shape != (n,):
            raise ConfigError(
                f"an action mask must have an entry for each of {n} actions, {self.spec.name!r} gave agent {agent!r}"
                f" {mask.astype(int).tolist()!r}; correct it in the environment"
            )
        if n and not mask.any():
            raise ConfigError(
                f"an action mask must allow at least one of {n} actions, {self.spec.name!r} gave agent {agent!r}"
                f" {mask.astype(int).tolist()!r}; correct it in the environment"
            )
        return mask

    def _feature_row(self, group: GroupLayout, e: int, agent: Any, obs: FloatArray, infos: dict[Any, Any]) -> Any:
        if not group.declared:
            return np.minimum(np.maximum(obs, group.low), group.high) if group.clipped else obs
        try:
            values = self._tasks[e].features(agent, infos.get(agent, {}))
            return [values[name] for name in group.features]
        except KeyError as error:
            raise ConfigError(
                f"the features of feature_specs must be there at reset and at each step, in infos[agent]['features'] or"
                f" from features() of a Task; {self.spec.name!r} gave agent {agent!r} no {error}; add it there"
            ) from error

    def _write_events(self, e: int, acted: set[Any], infos: dict[Any, Any]) -> None:
        for events, group in zip(self._step.events, self._groups, strict=True):
            for i, agent in enumerate(group.ids if group.events else ()):
                counts = self._counts(self._tasks[e], acted, agent, infos)
                events[e, i] = [counts.get(name, 0) for name in group.events]

    def _counts(self, task: Task, acted: set[Any], agent: Any, infos: dict[Any, Any]) -> Mapping[str, int]:
        """Events of one agent in the last step; none of who did not act in it."""
        if agent not in acted:
            return {}
        try:
            counts = task.events(agent, infos.get(agent, {}))
        except KeyError as error:
            raise ConfigError(
                f"the events of a task must be there after each step of an agent, {self.spec.name!r} gave agent"
                f" {agent!r} no {error}; add it in the environment, or leave it out of what events() returns"
            ) from error
        if not counts.keys() <= self._event_names:
            raise ConfigError(
                f"events must be named in event_specs, {self.spec.name!r} gave agent {agent!r}"
                f" {sorted(counts.keys() - self._event_names)!r}; correct the name, or declare it"
            )
        return counts

    def observe(self) -> Step:
        """The current views; reward, events and flags are zero."""
        return unmoved(self._step, self._pairs)

    def reseed(self, base_seed: int) -> None:
        """New seeds for the episodes to come. The running episodes go on as they are: their random numbers belong to
        the environments, which cannot be reseeded without a reset."""
        self._base_seed = base_seed & _MASK

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """base_seed uint64 [1], seeds and episodes and lengths int64 [E], actions [E, L, …] (padded with 0),
        and what is observed now, obs_0, obs_1, … (one per group), by which a restore is checked."""
        lengths = np.array([len(history) for history in self._history], dtype=np.int64)
        width = sum(group.actions.width * len(group.ids) for group in self._groups)
        actions = np.zeros((self.num_envs, int(lengths.max()), width), dtype=self._row_dtype)
        for e, history in enumerate(self._history):
            if history:
                actions[e, : len(history)] = history
        state: dict[str, NDArray[np.generic]] = {
            "base_seed": np.array([self._base_seed], dtype=np.uint64),
            "seeds": self._seeds.copy(),
            "episodes": self._episodes.copy(),
            "lengths": lengths,
            "actions": actions,
        }
        state.update({f"obs_{g}": obs.copy() for g, obs in enumerate(self._step.obs)})
        return state

    def load_state_dict(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Reset every environment with its seed and play its actions again, on a new instance where one raises. A task
        that is not deterministic starts a fresh episode in every environment instead.

        Raises:
            SnapshotError: arrays are missing or of another task or number of environments, or the replay differs.
        """
        self._check_state(state)
        self._base_seed = int(state["base_seed"][0])
        for e in range(self.num_envs):
            self._seeds[e], self._episodes[e] = int(state["seeds"][e]), int(state["episodes"][e])
            if self.spec.deterministic:
                history = list(state["actions"][e, : int(state["lengths"][e])].astype(self._row_dtype))
                while not self._replayed(e, history):
                    pass  # a new instance may get through
            else:
                self._begin(e, int(self._episodes[e]) + 1)
        if self.spec.deterministic:
            self._check_replay(state)

    def _check_state(self, state: dict[str, NDArray[np.generic]]) -> None:
        shapes = {f"obs_{g}": obs.shape for g, obs in enumerate(self._step.obs)}
        shapes |= dict.fromkeys(("seeds", "episodes", "lengths"), (self.num_envs,)) | {"base_seed": (1,)}
        for name, shape in shapes.items():
            if "actions" not in state or name not in state or state[name].shape != shape:
                got = state[name].shape if name in state else f"only {sorted(state)!r}"
                raise SnapshotError(
                    f"{self.spec.name!r} with {self.num_envs} environments needs 'actions' and {name!r} {shape},"
                    f" got {got}; load a snapshot of the same task and trainer.envs"
                )

    def _check_replay(self, state: dict[str, NDArray[np.generic]]) -> None:
        for g, obs in enumerate(self._step.obs):
            if not np.array_equal(obs, np.asarray(state[f"obs_{g}"], dtype=np.float32), equal_nan=True):
                raise SnapshotError(
                    f"replaying seed and actions must lead to the same observations, {self.spec.name!r} came out"
                    " different; take all randomness from reset(seed), or set its attribute deterministic = False"
                )

    def episode_text(self, seed: int, actions: list[ActionArray]) -> list[str]:
        """Play the episode that starts from reset seed `seed` with `actions` ([g] [T, A_g] or [T, A_g, k]); a line of
        text a step."""
        if self._spare is None:
            self._spare = as_task(self._factory())
        env = self._spare.env
        lines: list[str] = []
        env.reset(seed=seed)
        for row in self._rows(actions):
            acted = set(env.agents)
            _, rewards, terminations, truncations, infos = env.step(self._env_actions(env, row))
            terminated, truncated = self._ending(env, len(lines) + 1, terminations, truncations)
            line = f"step {len(lines) + 1}: {self._happenings(self._spare, acted, row, rewards, infos)}"
            if terminated or truncated:
                succeeded = self.spec.has_success and self._spare.success(infos)
                ended = "success" if succeeded else "terminated" if terminated else "time limit"
                return [*lines, f"{line} | {ended}"]
            lines.append(line)
        return lines

    def _happenings(
        self, task: Task, acted: set[Any], row: Row, rewards: dict[Any, float], infos: dict[Any, Any]
    ) -> str:
        acts, events, start = [], [], 0
        for group, layout in zip(self.spec.groups, self._groups, strict=True):
            for agent in layout.ids:
                acts.append(f"{agent} {group.action_text(row[start : start + layout.actions.width])}")
                start += layout.actions.width
                counts = self._counts(task, acted, agent, infos)
                events += [f"{agent} {name}" for name in group.event_names() if counts.get(name, 0)]
        described = task.describe()
        state = f" -> {described}" if described else ""
        happened = ", ".join(events) or "none"
        return f"{', '.join(acts)}{state} | events: {happened} | team reward {self._team_total(rewards):+.3f}"

    def close(self) -> None:
        """Close every environment."""
        for task in [*self._tasks, *([] if self._spare is None else [self._spare])]:
            task.env.close()


def check_actions(spec: TaskSpec, num_envs: int, actions: list[ActionArray]) -> None:
    """Raises ValueError where actions have a wrong shape, or a choice is out of range."""
    for group, chosen in zip(spec.groups, actions, strict=True):
        shape = (num_envs, len(group.agents), *group.action_shape)
        if chosen.shape != shape:
            raise ValueError(f"actions of group {group.name!r} must have shape {shape}, got {chosen.shape}")
        if group.continuous:
            continue
        if chosen.min() < 0 or chosen.max() >= group.n_actions:
            raise ValueError(
                f"actions of group {group.name!r} must be in 0..{group.n_actions - 1},"
                f" got {chosen.min()}..{chosen.max()}; fix the policy"
            )
