"""Any PettingZoo `ParallelEnv` as a batch: E instances, stepped one after the other in this process.

`layout` says how agents are grouped and where features, events and success come from.

An environment that raises anything but a ConfigError is built anew, and its episode is lost (`Step.lost`); the next one
has the next number. A reset that raises is tried again so, and nothing is lost that had been played. One that hangs, or
takes its process with it, is not noticed here: `process_batch` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from ....errors import ConfigError, CosignalError, EnvironmentLost, SnapshotError
from ...task import ActionArray, Step, episode_seed, new_step, unmoved
from ..adapter import Task, as_task
from .layout import read_layout
from .translator import JointAction, Translator, check_actions, current_views, last_views, state_pairs

_MASK = (1 << 64) - 1
MAX_LOSSES = 10  # in a row, without a finished step between them


def log_loss(env: int, error: str) -> None:
    """Write to the log that environment number `env` of the batch is restarted, and why."""
    structlog.get_logger().warning("environment restarted", env=env, error=error)


class PettingZooTask:
    """A `BatchedTask` over `ParallelEnv` instances.

    The team reward is the sum or mean of the rewards of *all* agents (a dead agent's is 0). An agent that dies before
    the episode ends keeps its place: it observes zeros, its features stay as they were, its mask allows its first
    action only, and its actions are ignored. The episode ends when no agent is left; if an agent left by truncation in
    that last step it counts as truncated, else as terminated.

    Attributes:
        tasks: [E], the `Task` of each environment.
        episodes: [E], numbers of the running episodes.
        witness: is called with the number of an environment and its task in s', before it is reset; None for nobody.

    Args:
        factory: builds one environment, or a `Task` around one; called E times, and once more if `episode_text` is
            used.
        num_envs: E.
        team_reward: how the agents' rewards become the team's.
        n_max: truncate after that many steps, on top of the environment's own limit; None for no such limit.
        first_env: number of the first environment, where others of the batch live elsewhere; reset seeds depend on it.
        on_loss: is called with the number of an environment that raised, and its error.
        agent_ids: whether agents of a group observe which of them they are, see `layout.read_layout`.

    Raises:
        ConfigError: the environment cannot be batched, see `layout.read_layout`.
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
        self.tasks = [as_task(factory()) for _ in range(num_envs)]
        # One environment in two places would be stepped twice.
        if len({id(task.env) for task in self.tasks}) != num_envs:
            raise ConfigError(
                f"the factory must build a new environment at each call, {factory!r} gave the same one twice; "
                "let it construct"
            )
        self._translator = Translator(read_layout(self.tasks[0], n_max, agent_ids))
        self.spec = self._translator.spec
        self.witness: Callable[[int, Task], None] | None = None
        self._spare: Task | None = None
        self._base_seed = 0
        self._seeds = np.zeros(num_envs, dtype=np.int64)
        self.episodes = np.zeros(num_envs, dtype=np.int64)
        self._losses = [0] * num_envs  # [e] in a row
        self._history: list[list[JointAction]] = [[] for _ in range(num_envs)]  # [e] [t], actions since the reset
        self._step = new_step(self.spec, num_envs)
        self._now, self._last = current_views(self._step), last_views(self._step)
        self._pairs = state_pairs(self._step)
        self.reset(0)

    @property
    def agent_ids(self) -> list[list[Any]]:
        """[g] [A_g]: the environments' own names of the agents."""
        return [list(group.ids) for group in self._translator.groups]

    # ------------------------------------------------------------ starting episodes

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
        """Start an episode; where the reset raises, try the next one, since this seed may be what does it."""
        while True:
            self.episodes[e] = episode
            self._seeds[e] = episode_seed(self._base_seed, self._first_env + e, episode)
            # A replay without actions is a reset.
            if self._replay(e, []):
                return
            episode += 1

    def _replay(self, e: int, history: list[JointAction]) -> bool:
        """Reset environment e with its seed, act as in `history`, and show where it stands.

        Returns False where the environment raised and was rebuilt.
        """
        try:
            env = self.tasks[e].env
            observations, infos = env.reset(seed=int(self._seeds[e]))
            # The features of the episode before are not taken over.
            for features in self._step.features:  # of an agent that is not there from the start
                features[e] = 0
            self._show(e, observations, infos)
            for row in history:
                observations, _, _, _, infos = env.step(self._translator.env_actions(env, row))
                if self.spec.has_masks:  # the last features of an agent that leaves stay
                    self._show(e, observations, infos)
            self._history[e] = list(history)
            if history and not self.spec.has_masks:
                self._show(e, observations, infos)
        except CosignalError:
            raise
        except Exception as error:  # noqa: BLE001 other people's code
            self._rebuild(e, error)
            return False
        return True

    def _show(self, e: int, observations: dict[Any, Any], infos: dict[Any, Any]) -> None:
        """Write the views of the state that environment e stands in."""
        task = self.tasks[e]
        self._translator.write_views(self._now, e, task, set(task.env.agents), observations, infos)

    def _rebuild(self, e: int, error: Exception) -> None:
        """Put a new instance in the place of one that raised.

        Raises:
            EnvironmentLost: this is the loss number MAX_LOSSES in a row.
        """
        env, message = self._first_env + e, f"{type(error).__name__}: {error}"
        # Reported before it may be the last straw.
        self._on_loss(env, message)
        self._losses[e] += 1
        if self._losses[e] >= MAX_LOSSES:
            raise EnvironmentLost(
                f"an environment may raise in {MAX_LOSSES - 1} steps or resets in a row, number {env} of"
                f" {self.spec.name!r} did once more: {message}; mend it, or make its factory give one that works"
            ) from error
        with suppress(Exception):  # it may be in any state
            self.tasks[e].env.close()
        self.tasks[e] = as_task(self._factory())

    # ------------------------------------------------------------ stepping

    def step(self, actions: list[ActionArray]) -> Step:
        """Make one joint step. actions: [g] [E, A_g], each in 0..n_actions-1; or [E, A_g, k], clipped to -1..1.

        Raises:
            ValueError: a shape is wrong, or an action out of range (nothing has changed then).
            ConfigError: the environment does not give a feature that it declares, an observation is not of its space's
                shape, or something is not a finite number.
        """
        check_actions(self.spec, self.num_envs, actions)
        # A copy: rows of it are kept in the history.
        joint = self._translator.joint_actions(actions)
        assert self._step.lost is not None
        self._step.lost[:] = False
        for e in range(self.num_envs):
            if self._step_env(e, joint[e]):
                self._begin(e, int(self.episodes[e]) + 1)
            else:
                for now, last in self._pairs:
                    now[e] = last[e]
        # Last, so that the error can name the place.
        self._check_numbers()
        return self._step

    def _step_env(self, e: int, row: JointAction) -> bool:
        """Step environment e; return whether its episode has ended, also because it raised."""
        try:
            ended = self._play(e, row)
        except CosignalError:
            raise
        except Exception as error:  # noqa: BLE001 other people's code
            # The step that it did not finish: s' = s, and nothing happened.
            step = self._step
            for now, last in self._pairs:
                last[e] = now[e]
            for array in (*step.events, step.reward, step.terminated, step.success):
                array[e] = 0
            step.truncated[e] = True
            assert step.lost is not None
            step.lost[e] = True
            self._rebuild(e, error)
            return True
        self._losses[e] = 0
        return ended

    def _play(self, e: int, row: JointAction) -> bool:
        """Make one step of environment e, without what follows an episode; return whether it has ended."""
        task, step = self.tasks[e], self._step
        env, acted = task.env, set(task.env.agents)
        observations, rewards, terminations, truncations, infos = env.step(self._translator.env_actions(env, row))
        self._history[e].append(row)
        for now, last in zip(step.features, step.last_features, strict=True):  # they stay for who is not there
            last[e] = now[e]
        if self.witness is not None:
            self.witness(e, task)
        self._translator.write_views(self._last, e, task, set(env.agents) or acted, observations, infos)
        self._translator.write_events(step.events, e, task, acted, infos)
        step.reward[e] = self._team_total(rewards)
        terminated, truncated = self._ending(env, len(self._history[e]), terminations, truncations)
        step.terminated[e], step.truncated[e] = terminated, truncated
        ended = terminated or truncated
        step.success[e] = ended and self.spec.has_success and task.success(infos)
        return ended

    def _team_total(self, rewards: dict[Any, float]) -> float:
        ids = self._translator.ids
        total = sum(float(rewards.get(agent, 0.0)) for agent in ids)
        return total / len(ids) if self._team_reward == "mean" else total

    def _ending(
        self, env: Any, steps: int, terminations: dict[Any, bool], truncations: dict[Any, bool]
    ) -> tuple[bool, bool]:
        """Return (terminated, truncated) of the whole episode after `steps` steps; at most one is true."""
        gone = {agent for flags in (terminations, truncations) for agent, flag in flags.items() if flag}
        if set(env.agents) - gone:
            return False, self._n_max is not None and steps >= self._n_max
        # Nobody is left: the last ones left by a limit, or the episode is over.
        by_limit = any(flag and not terminations.get(agent) for agent, flag in truncations.items())
        return not by_limit, by_limit

    def _check_numbers(self) -> None:
        """Raise ConfigError for what is not a finite number: it would spoil every weight without a word."""
        step = self._step
        for verb, arrays in (("observes", step.last_obs), ("has features", step.last_features)):
            for g, array in enumerate(arrays):
                if not np.isfinite(array).all():
                    e, i, k = np.argwhere(~np.isfinite(array))[0].tolist()
                    raise ConfigError(
                        f"numbers must be finite, agent {self.spec.groups[g].agents[i]!r} of {self.spec.name!r} {verb}"
                        f" {array[e, i].tolist()!r} in step {len(self._history[e])} of the episode with reset seed"
                        f" {self._seeds[e]} (number {k} is not); mend the environment"
                    )
        if not np.isfinite(step.reward).all():
            raise ConfigError(
                f"rewards must be finite numbers, {self.spec.name!r} paid {step.reward.tolist()!r} in {self.num_envs}"
                " environments; mend the environment"
            )

    def observe(self) -> Step:
        """Return the current views; reward, events and flags are zero."""
        return unmoved(self._step, self._pairs)

    def reseed(self, base_seed: int) -> None:
        """Set new seeds for the episodes to come.

        The running episodes go on as they are: their random numbers belong to the environments, which cannot be
        reseeded without a reset.
        """
        self._base_seed = base_seed & _MASK

    # ------------------------------------------------------------ state

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return base_seed uint64 [1], seeds, episodes and lengths int64 [E], actions [E, L, …] (padded with 0).

        What is observed now is there too, obs_0, obs_1, … (one per group): a restore is checked by it.
        """
        # An environment cannot be copied, so its episode is kept as its seed and its actions.
        lengths = np.array([len(history) for history in self._history], dtype=np.int64)
        shape = self.num_envs, int(lengths.max()), self._translator.row_width
        actions = np.zeros(shape, dtype=self._translator.row_dtype)
        for e, history in enumerate(self._history):
            if history:
                actions[e, : len(history)] = history
        state: dict[str, NDArray[np.generic]] = {
            "base_seed": np.array([self._base_seed], dtype=np.uint64),
            "seeds": self._seeds.copy(),
            "episodes": self.episodes.copy(),
            "lengths": lengths,
            "actions": actions,
        }
        state.update({f"obs_{g}": obs.copy() for g, obs in enumerate(self._step.obs)})
        return state

    def load_state_dict(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Reset every environment with its seed and play its actions again, on a new instance where one raises.

        A task that is not deterministic starts a fresh episode in every environment instead.

        Raises:
            SnapshotError: arrays are missing or of another task or number of environments, or the replay differs.
        """
        shapes = {f"obs_{g}": obs.shape for g, obs in enumerate(self._step.obs)}
        shapes |= dict.fromkeys(("seeds", "episodes", "lengths"), (self.num_envs,)) | {"base_seed": (1,)}
        # Checked as a whole before anything changes.
        for name, shape in shapes.items():
            if "actions" not in state or name not in state or state[name].shape != shape:
                got = state[name].shape if name in state else f"only {sorted(state)!r}"
                raise SnapshotError(
                    f"{self.spec.name!r} with {self.num_envs} environments needs 'actions' and {name!r} {shape},"
                    f" got {got}; load a snapshot of the same task and trainer.envs"
                )
        self._base_seed = int(state["base_seed"][0])
        for e in range(self.num_envs):
            self._seeds[e], self.episodes[e] = int(state["seeds"][e]), int(state["episodes"][e])
            if self.spec.deterministic:
                # Without the padding.
                rows = state["actions"][e, : int(state["lengths"][e])]
                history = list(rows.astype(self._translator.row_dtype))
                while not self._replay(e, history):
                    pass  # a new instance may get through
            else:
                self._begin(e, int(self.episodes[e]) + 1)
        # What was observed then must be observed again, bit for bit.
        for g, obs in enumerate(self._step.obs if self.spec.deterministic else ()):
            if not np.array_equal(obs, np.asarray(state[f"obs_{g}"], dtype=np.float32), equal_nan=True):
                raise SnapshotError(
                    f"replaying seed and actions must lead to the same observations, {self.spec.name!r} came out"
                    " different; take all randomness from reset(seed), or set its attribute deterministic = False"
                )

    def episode_text(self, seed: int, actions: list[ActionArray]) -> list[str]:
        """Play the episode of reset seed `seed` with `actions`, [g] [T, A_g] or [T, A_g, k]; return a line per step."""
        # An instance of its own, so that the running episodes are not touched.
        if self._spare is None:
            self._spare = as_task(self._factory())
        task, env = self._spare, self._spare.env
        lines: list[str] = []
        env.reset(seed=seed)
        for number, row in enumerate(self._translator.joint_actions(actions), start=1):
            acted = set(env.agents)
            _, rewards, terminations, truncations, infos = env.step(self._translator.env_actions(env, row))
            acts, events, start = [], [], 0
            for group, layout in zip(self.spec.groups, self._translator.groups, strict=True):
                for agent in layout.ids:
                    end = start + layout.actions.width
                    acts.append(f"{agent} {group.action_text(row[start:end])}")
                    start = end
                    counts = self._translator.event_counts(task, acted, agent, infos)
                    events += [f"{agent} {name}" for name in group.event_names() if counts.get(name, 0)]
            # The line of a step: who did what, the state after it, events, reward.
            state = task.describe()
            line = f"step {number}: {', '.join(acts)}{f' -> {state}' if state else ''}"
            line += f" | events: {', '.join(events) or 'none'} | team reward {self._team_total(rewards):+.3f}"
            terminated, truncated = self._ending(env, number, terminations, truncations)
            if terminated or truncated:
                succeeded = self.spec.has_success and task.success(infos)
                ended = "success" if succeeded else "terminated" if terminated else "time limit"
                return [*lines, f"{line} | {ended}"]
            lines.append(line)
        return lines

    def close(self) -> None:
        """Close every environment."""
        for task in [*self.tasks, *([] if self._spare is None else [self._spare])]:
            task.env.close()
