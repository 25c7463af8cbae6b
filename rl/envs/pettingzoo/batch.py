"""Any PettingZoo `ParallelEnv` as a batch: E instances, stepped one after the other in this process.

`layout` says how agents are grouped and where features, events and success come from.

An environment that raises, or gives what is none of its spaces, no finite number, or no dict where one must be, is
built anew, and its episode is lost (`Step.lost`); the next one has the next number. A reset that goes wrong is tried
again so, and nothing is lost that had been played. One that hangs, or takes its process with it, is not noticed here:
`process_batch` does that.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from ....errors import ConfigError, EnvironmentLost, SnapshotError
from ...task import ActionArray, EpisodeText, Frame, Step, episode_seed, new_step, unmoved
from ..adapter import Task, as_task, close_all
from ..config import TeamReward
from ..drawing import RenderMode, drawing_arguments, frame, text_picture
from . import calls
from .layout import read_layout
from .losses import MAX_LOSSES, MAX_LOST_EPISODES, RAISED, ends_us, in_words, log_loss
from .translator import (
    JointAction,
    Translator,
    check_actions,
    current_views,
    last_views,
    not_finite,
    row_of,
    state_pairs,
)

_MASK = (1 << 64) - 1
REPLAYS = 2  # tries to play an episode again, where the first one raises


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
            used, and once if `episode_frames` is; then with `render_mode`, where it takes that.
        num_envs: E.
        team_reward: how the agents' rewards become the team's.
        n_max: truncate after that many steps, on top of the environment's own limit; None for no such limit.
        first_env: number of the first environment, where others of the batch live elsewhere; reset seeds depend on it.
        on_loss: is called with the number of an environment that is built anew, and why.
        agent_ids: whether agents of a group observe which of them they are, see `declared.declared_layout`.

    Raises:
        ConfigError: the environment cannot be batched, see `layout.read_layout`.
        EnvironmentLost: from any method that plays, when an environment goes wrong MAX_LOSSES times in a row, or loses
            MAX_LOST_EPISODES in a row.
    """

    def __init__(
        self,
        factory: Callable[..., Any],
        num_envs: int,
        team_reward: TeamReward = "sum",
        n_max: int | None = None,
        first_env: int = 0,
        on_loss: Callable[[int, str], None] = log_loss,
        agent_ids: bool = False,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs must be at least 1, got {num_envs!r}; raise it")
        self.num_envs, self._factory, self._team_reward, self._n_max = num_envs, factory, team_reward, n_max
        self._first_env, self._on_loss = first_env, on_loss
        self.tasks: list[Task] = []
        self._spare: list[Task] = []
        self._drawing: dict[RenderMode, Task] = {}  # of `_spare`
        # Whoever forgets to close it: at the latest when it is collected, or at exit.
        self._finalizer = weakref.finalize(self, _close, self.tasks, self._spare)
        try:
            for _ in range(num_envs):
                self.tasks.append(as_task(factory()))
            # One environment in two places would be stepped twice.
            if len({id(task.env) for task in self.tasks}) != num_envs:
                raise ConfigError(
                    f"the factory must build a new environment at each call, {factory!r} gave the same one twice; "
                    "let it construct"
                )
            self._translator = Translator(read_layout(self.tasks[0], n_max, agent_ids))
            self.spec = self._translator.spec
            self.witness: Callable[[int, Task], None] | None = None
            self._base_seed = 0
            self._seeds = np.zeros(num_envs, dtype=np.int64)
            self.episodes = np.zeros(num_envs, dtype=np.int64)
            self._losses = np.zeros(num_envs, dtype=np.int64)  # in a row
            self._lost_episodes = np.zeros(num_envs, dtype=np.int64)  # in a row
            self._history: list[list[JointAction]] = [[] for _ in range(num_envs)]  # [e] [t], actions since the reset
            self._step = new_step(self.spec, num_envs)
            self._now, self._last = current_views(self._step), last_views(self._step)
            self._pairs = state_pairs(self._step)
            self.reset(0)
        except BaseException:
            self.close()
            raise

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
        self._losses[:] = self._lost_episodes[:] = 0
        for e, episode in enumerate(episodes):
            self._begin(e, episode)
        return self.observe()

    def _begin(self, e: int, episode: int) -> None:
        """Start an episode; where the reset goes wrong, try the next one, since this seed may be what does it."""
        while True:
            self.episodes[e] = episode
            self._seeds[e] = episode_seed(self._base_seed, self._first_env + e, episode)
            # A replay without actions is a reset.
            if self._replay(e, []):
                return
            episode += 1

    def _replay(self, e: int, history: list[JointAction]) -> bool:
        """Reset environment e with its seed, act as in `history`, and show where it stands.

        Returns False where something went wrong and the environment was rebuilt.
        """
        steps = 0
        try:
            task, translator = self.tasks[e], self._translator
            observations, infos = calls.reset(task, translator.agents, int(self._seeds[e]))
            # The features of the episode before are not taken over.
            for features in self._step.features:  # of an agent that is not there from the start
                features[e] = 0
            self._show(e, observations, infos)
            for row in history:
                steps += 1  # before what may go wrong
                chosen = translator.env_actions(task.env, row)
                observations, _, _, _, infos = calls.step(task, translator.agents, chosen)
                if self.spec.has_masks:  # the last features of an agent that leaves stay
                    self._show(e, observations, infos)
            self._history[e] = list(history)
            if history and not self.spec.has_masks:
                self._show(e, observations, infos)
            if wrong := not_finite(self.spec, row_of(self._now, e)):
                raise ConfigError(wrong[0])
        except RAISED as error:
            self._rebuild(e, error, steps)
            return False
        return True

    def _show(self, e: int, observations: calls.ByAgent, infos: calls.ByAgent) -> None:
        """Write the views of the state that environment e stands in."""
        task = self.tasks[e]
        self._translator.write_views(self._now, e, task, set(task.env.agents), observations, infos)

    def _rebuild(self, e: int, error: BaseException, steps: int) -> None:
        """Put a new instance in the place of one that went wrong in a step, or at the reset where `steps` is 0.

        Raises:
            EnvironmentLost: it went wrong too often.
            KeyboardInterrupt, Terminated: this process is told to end.
        """
        env = self._first_env + e
        place = f"in step {steps}" if steps else "at the reset"
        place = f" ({place} of the episode with reset seed {self._seeds[e]})"
        while True:
            if ends_us(error):
                raise error
            # Reported before it may be the last straw.
            self._on_loss(env, in_words(error) + place)
            self._losses[e] += 1
            limits = (
                (self._losses[e], MAX_LOSSES, "steps or resets"),
                (self._lost_episodes[e], MAX_LOST_EPISODES, "episodes"),
            )
            for losses, limit, what in limits:
                if losses >= limit:
                    raise EnvironmentLost(
                        f"an environment may go wrong in {limit - 1} {what} in a row, number {env} of"
                        f" {self.spec.name!r} did once more: {in_words(error)}{place}; mend it, or make its factory"
                        " give one that works"
                    ) from error
            close_all([self.tasks[e]])  # it may be in any state
            try:
                self.tasks[e] = as_task(self._factory())
            except RAISED as again:
                error, place = again, " (when it was built anew)"
            else:
                return

    # ------------------------------------------------------------ stepping

    def step(self, actions: list[ActionArray]) -> Step:
        """Make one joint step. actions: [g] [E, A_g], each in 0..n_actions-1; or [E, A_g, k], clipped to -1..1.

        Raises:
            ValueError: a shape is wrong, an action out of range or not finite (nothing has changed then).
        """
        check_actions(self.spec, self.num_envs, actions)
        # A copy: rows of it are kept in the history.
        joint = self._translator.joint_actions(actions)
        step = self._step
        assert step.lost is not None
        step.lost[:] = False
        ended = np.array([self._step_env(e, joint[e]) for e in range(self.num_envs)])
        # Of all environments at once, which takes no time; those that have lost their episode show s here.
        for e, wrong in not_finite(self.spec, self._last, step.events).items():
            ended[e] = True
            self._lose(e, ConfigError(wrong), len(self._history[e]))
        self._losses[~step.lost] = 0
        self._lost_episodes[ended & ~step.lost] = 0
        go_on = ~ended
        for now, last in self._pairs:
            now[go_on] = last[go_on]
        for e in np.flatnonzero(ended).tolist():
            self._begin(e, int(self.episodes[e]) + 1)
        return step

    def _step_env(self, e: int, row: JointAction) -> bool:
        """Step environment e; return whether its episode has ended, also because it was lost."""
        try:
            return self._play(e, row)
        except RAISED as error:
            self._lose(e, error, len(self._history[e]) + 1)
            return True

    def _lose(self, e: int, error: BaseException, steps: int) -> None:
        """Cut the episode of environment e before its last step: s' = s, and nothing happened."""
        step = self._step
        for now, last in self._pairs:
            last[e] = now[e]
        for array in (*step.events, step.reward, step.terminated, step.success):
            array[e] = 0
        step.truncated[e] = True
        assert step.lost is not None
        step.lost[e] = True
        self._lost_episodes[e] += 1
        self._rebuild(e, error, steps)

    def _play(self, e: int, row: JointAction) -> bool:
        """Make one step of environment e, without what follows an episode; return whether it has ended."""
        task, step, translator = self.tasks[e], self._step, self._translator
        env, acted = task.env, set(task.env.agents)
        moved = calls.step(task, translator.agents, translator.env_actions(env, row))
        for now, last in zip(step.features, step.last_features, strict=True):  # they stay for who is not there
            last[e] = now[e]
        if self.witness is not None:
            self.witness(e, task)
        translator.write_views(self._last, e, task, set(env.agents) or acted, moved.observations, moved.infos)
        translator.write_events(step.events, e, task, acted, moved.infos)
        step.reward[e] = translator.team_reward(moved.rewards, self._team_reward)
        terminated, truncated = calls.ending(task, moved, len(self._history[e]) + 1, self._n_max)
        step.terminated[e], step.truncated[e] = terminated, truncated
        ended = terminated or truncated
        step.success[e] = ended and self.spec.has_success and task.success(moved.infos)
        # Last: a step that goes wrong is none of the episode.
        self._history[e].append(row)
        return ended

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

    def load_state_dict(self, state: dict[str, NDArray[np.generic]], fresh: bool = False) -> str | None:
        """Reset every environment with its seed and play its actions again.

        Where that leads anywhere else than before in any environment, all of them begin their next episodes instead, as
        they do where the task is not deterministic, or `fresh` asks for it.

        Returns:
            What was different, None where nothing was, or where nothing was played again.

        Raises:
            SnapshotError: arrays are missing or of another task or number of environments.
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
        self._losses[:] = self._lost_episodes[:] = 0
        difference = None
        if self.spec.deterministic and not fresh:
            for e in range(self.num_envs):
                difference = difference or self._restore(e, state)
        if difference is not None or fresh or not self.spec.deterministic:
            self.begin(self._base_seed, (state["episodes"] + 1).tolist())
        if difference is None:
            return None
        return (
            f"replaying seed and actions must lead to the same observations, {self.spec.name!r} came out different:"
            f" {difference}; so forks and resumed runs begin fresh episodes; take all randomness from reset(seed), or"
            " set its attribute deterministic = False"
        )

    def _restore(self, e: int, state: dict[str, NDArray[np.generic]]) -> str | None:
        """Play the episode of environment e again; return what was different, None where nothing was."""
        self._seeds[e], self.episodes[e] = int(state["seeds"][e]), int(state["episodes"][e])
        # Without the padding.
        rows = state["actions"][e, : int(state["lengths"][e])]
        history = list(rows.astype(self._translator.row_dtype))
        where = f"in the episode with reset seed {self._seeds[e]}"
        # A new instance may get through.
        if not any(self._replay(e, history) for _ in range(REPLAYS)):
            return f"a reset or step went wrong {where}, which had {len(history)} steps"
        if not self.tasks[e].env.agents:
            return f"all agents had left by step {len(history)} {where}"
        # What was observed then must be observed again, bit for bit.
        for g, obs in enumerate(self._step.obs):
            before = np.asarray(state[f"obs_{g}"], dtype=np.float32)[e]
            if not np.array_equal(obs[e], before, equal_nan=True):
                i, k = np.argwhere((obs[e] != before) & ~(np.isnan(obs[e]) & np.isnan(before)))[0].tolist()
                return (
                    f"agent {self.spec.groups[g].agents[i]!r} observes {obs[e, i, k]} as number {k} after step"
                    f" {len(history)} {where}, it was {before[i, k]}"
                )
        return None

    def episode_text(self, seed: int, actions: list[ActionArray], pictures_of: Collection[int] = ()) -> EpisodeText:
        """Play the episode of reset seed `seed` with `actions`, [g] [T, A_g] or [T, A_g, k]; return it as text."""
        task = self._task_that_draws("ansi")
        lines, pictures = list[str](), dict[int, str]()
        for number, line in enumerate(self._lines(task, seed, actions)):
            if number:
                lines.append(line)
            if number in pictures_of and (picture := text_picture(task)):
                pictures[number] = picture
        return EpisodeText(lines, pictures)

    def episode_frames(self, seed: int, actions: list[ActionArray], frames_of: Collection[int]) -> dict[int, Frame]:
        """Play the episode again, as `episode_text` does; return what its environment draws, by state."""
        task, frames = self._task_that_draws("rgb_array"), dict[int, Frame]()
        for number, _ in enumerate(self._lines(task, seed, actions)):
            if number in frames_of or not number:
                drawn = frame(task)
                if drawn is None and not number:
                    return {}
                if drawn is not None and number in frames_of:
                    frames[number] = drawn
        return frames

    def _task_that_draws(self, mode: RenderMode) -> Task:
        """Return an instance of its own, so that the running episodes are not touched."""
        if mode not in self._drawing:
            metadata = getattr(self.tasks[0].env, "metadata", None) or {}
            can_draw = mode in (metadata.get("render_modes") or ())
            arguments = drawing_arguments(self._factory, mode) if can_draw else {}
            try:
                task = as_task(self._factory(**arguments))
            except RAISED as error:
                # It may not be able to draw here, for want of a screen or of a package.
                if ends_us(error) or not arguments:
                    raise
                structlog.get_logger().warning("environment does not draw", render_mode=mode, error=in_words(error))
                task = as_task(self._factory())
            self._drawing[mode] = task
            self._spare.append(task)
        return self._drawing[mode]

    def _lines(self, task: Task, seed: int, actions: list[ActionArray]) -> Iterator[str]:
        """Play in `task`: yield an empty line at the first state, and after each step that of the step."""
        env, known = task.env, self._translator.agents
        calls.reset(task, known, seed)
        yield ""
        for number, row in enumerate(self._translator.joint_actions(actions), start=1):
            acted = set(env.agents)
            moved = calls.step(task, known, self._translator.env_actions(env, row))
            acts, events, start = [], [], 0
            for group, layout in zip(self.spec.groups, self._translator.groups, strict=True):
                for agent in layout.ids:
                    end = start + layout.actions.width
                    acts.append(f"{agent} {group.action_text(row[start:end])}")
                    start = end
                    counts = self._translator.event_counts(task, acted, agent, moved.infos)
                    events += [f"{agent} {name}" for name in group.event_names() if counts.get(name, 0)]
            # The line of a step: who did what, the state after it, events, reward.
            state = task.describe()
            line = f"step {number}: {', '.join(acts)}{f' -> {state}' if state else ''}"
            reward = self._translator.team_reward(moved.rewards, self._team_reward)
            line += f" | events: {', '.join(events) or 'none'} | team reward {reward:+.3f}"
            terminated, truncated = calls.ending(task, moved, number, self._n_max)
            if terminated or truncated:
                succeeded = self.spec.has_success and task.success(moved.infos)
                ended = "success" if succeeded else "terminated" if terminated else "time limit"
                yield f"{line} | {ended}"
                return
            yield line

    def close(self) -> None:
        """Close every environment. Safe to repeat."""
        self._finalizer()


def _close(*tasks: list[Task]) -> None:
    """Close all tasks of some lists that change as long as their batch lives."""
    for some in tasks:
        close_all(some)
