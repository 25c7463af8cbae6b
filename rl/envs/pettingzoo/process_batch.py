"""Slow PettingZoo environments, divided over processes.

Each process hosts a `PettingZooTask` over its slice of the batch, so that every episode is that of the same batch in
one process, bit for bit. Arrays go through shared memory, and only short messages through pipes.

A process that ends, or takes longer than `task.step_timeout_s` for a joint step of its environments, is killed and
started again. All of its environments begin their next episodes, and those that ran are lost (`Step.lost`); where it
ended between two steps, the next step tells so. An environment that raises, or gives something wrong, is restarted by
`PettingZooTask`, alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import numpy as np
import structlog

from ....errors import CosignalError, EnvironmentLost, SnapshotError
from ...task import ActionArray, EpisodeText, Frame, Step, new_step, unmoved
from ..config import TaskConfig
from .losses import MAX_LOSSES, MAX_LOST_EPISODES, log_loss
from .shared_memory import copy_rows
from .translator import check_actions, state_pairs
from .worker_host import Arrays, Request
from .worker_process import Answer, WorkerProcess, end_all

_MASK = (1 << 64) - 1


class ProcessTask:
    """A `BatchedTask` over environments in `config.workers` processes, or `num_envs` where those are fewer.

    Args:
        config: names the environment, and says how long a process may take.
        num_envs: E.

    Raises:
        ConfigError: the environment cannot be built or batched.
        OSError: a process ends while it starts, or does not start in time.
        EnvironmentLost: from any method that plays, when a process is lost MAX_LOSSES times in a row (MAX_LOST_EPISODES
            times without the end of an episode), or one of its environments is.
    """

    def __init__(self, config: TaskConfig, num_envs: int) -> None:
        self.num_envs, self._base_seed = num_envs, 0
        workers = min(config.workers, num_envs)
        # Slices of the batch, as equal as they can be.
        bounds = [num_envs * k // workers for k in range(workers + 1)]
        self._children = [WorkerProcess(config, slice(start, end)) for start, end in pairwise(bounds)]
        self._finalizer = weakref.finalize(self, end_all, self._children)  # at exit, too
        try:
            for child in self._children:
                child.launch()
            specs = [child.ready() for child in self._children]
            # All processes read the same spec.
            self.spec = specs[0]
            self._step = new_step(self.spec, num_envs)
            self._pairs = state_pairs(self._step)
            self.reset(0)
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------ playing

    def reset(self, base_seed: int) -> Step:
        """Start episode 0 in every environment."""
        self._base_seed = base_seed & _MASK
        for child in self._children:
            child.losses = child.fruitless = 0
            child.block.episodes[:] = 0
        self._ask_until_answered(self._children, {"do": "begin", "base_seed": self._base_seed})
        return self._copy_all()

    def _copy_all(self) -> Step:
        """Take over the state of all environments from their processes."""
        for child in self._children:
            copy_rows(child.block.step, self._step, child.rows)
            child.restarted = False
        return self.observe()

    def step(self, actions: list[ActionArray]) -> Step:
        """Make one joint step. actions: [g] [E, A_g], each in 0..n_actions-1; or [E, A_g, k], clipped to -1..1.

        Raises:
            ValueError: a shape is wrong, an action out of range or not finite (nothing has changed then).
        """
        check_actions(self.spec, self.num_envs, actions)
        # One that was restarted has lost this step already.
        running = [child for child in self._children if not child.restarted]
        for child in running:
            for ours, chosen in zip(child.block.actions, actions, strict=True):
                ours[:] = chosen[child.rows]
        self._ask(running, {"do": "step"})
        step = self._step
        assert step.lost is not None
        for child in self._children:
            rows = child.rows
            if not child.restarted:
                child.losses = 0
                copy_rows(child.block.step, step, rows)
                if ((step.terminated | step.truncated) > step.lost)[rows].any():
                    child.fruitless = 0
                continue
            # The process did not finish this step. Its environments are at the beginning of other episodes now, which
            # the block shows with reward, events and flags zero; s' is s.
            before = [now[rows].copy() for now, _ in self._pairs]
            copy_rows(child.block.step, step, rows)
            for (_, last), state in zip(self._pairs, before, strict=True):
                last[rows] = state
            step.lost[rows] = step.truncated[rows] = True
            child.restarted = False
        return step

    def observe(self) -> Step:
        """Return the current views; reward, events and flags are zero."""
        return unmoved(self._step, self._pairs)

    def reseed(self, base_seed: int) -> None:
        """Set new seeds for the episodes to come, see `PettingZooTask.reseed`."""
        self._base_seed = base_seed & _MASK
        self._ask_until_answered(self._children, {"do": "reseed", "base_seed": self._base_seed})

    # ------------------------------------------------------------ state

    def state_dict(self) -> Arrays:
        """Return the state that one `PettingZooTask` over all environments would give."""
        states = [arrays for _, arrays in self._ask_until_answered(self._children, {"do": "state"})]
        longest = max(state["actions"].shape[1] for state in states)
        for state in states:
            # The processes' episodes have different lengths.
            missing = longest - state["actions"].shape[1]
            state["actions"] = np.pad(state["actions"], ((0, 0), (0, missing), (0, 0)))
        return {
            name: array if name == "base_seed" else np.concatenate([state[name] for state in states])
            for name, array in states[0].items()
        }

    def load_state_dict(self, state: Arrays, fresh: bool = False) -> str | None:
        """Continue from the state of a `PettingZooTask`, or of any number of processes; episodes are played again.

        Where that comes out different in one process, or `fresh` asks for it, the next episodes begin in all of them.

        Returns:
            What was different, None where nothing was.

        Raises:
            SnapshotError: arrays are missing or of another task or number of environments.
        """
        lengths = state.get("lengths", np.zeros(0, np.int64))
        if len(lengths) != self.num_envs:
            raise SnapshotError(
                f"{self.spec.name!r} with {self.num_envs} environments needs a state of as many, got {len(lengths)};"
                " load a snapshot of the same task and trainer.envs"
            )
        self._base_seed = int(state["base_seed"][0])
        for child in self._children:
            child.losses = child.fruitless = 0

        def share(child: WorkerProcess) -> Arrays:
            return {name: x if name == "base_seed" else x[child.rows] for name, x in state.items()}

        def load(fresh: bool) -> str | None:
            request: Request = {"do": "load", "fresh": fresh}
            answers = self._ask_until_answered(self._children, request, share, steps=1 + int(lengths.max()))
            return next((reply["difference"] for reply, _ in answers if reply["difference"]), None)

        difference = load(fresh)
        if difference is not None:
            load(fresh=True)
        self._copy_all()
        return difference

    def episode_text(self, seed: int, actions: list[ActionArray], pictures_of: Collection[int] = ()) -> EpisodeText:
        """Play the episode of reset seed `seed` with `actions`, [g] [T, A_g] or [T, A_g, k]; return it as text."""
        reply, _ = self._ask_the_first({"do": "text", "seed": seed, "states": sorted(pictures_of)}, actions)
        # The keys of an object are texts in JSON.
        return EpisodeText(reply["lines"], {int(state): text for state, text in reply["pictures"].items()})

    def episode_frames(self, seed: int, actions: list[ActionArray], frames_of: Collection[int]) -> dict[int, Frame]:
        """Play the episode again, as `episode_text` does; return what its environment draws, by state."""
        _, frames = self._ask_the_first({"do": "frames", "seed": seed, "states": sorted(frames_of)}, actions)
        return {int(state): frame.astype(np.uint8, copy=False) for state, frame in frames.items()}

    def _ask_the_first(self, request: Request, actions: list[ActionArray]) -> Answer:
        arrays = {str(g): chosen for g, chosen in enumerate(actions)}
        [answer] = self._ask_until_answered(self._children[:1], request, lambda _: arrays, steps=1 + len(actions[0]))
        return answer

    # ------------------------------------------------------------ processes

    def _ask_until_answered(
        self,
        children: Sequence[WorkerProcess],
        request: Request,
        arrays: Callable[[WorkerProcess], Arrays] = lambda _: {},
        steps: int = 1,
    ) -> list[Answer]:
        """Return the answers of `children`; those that fail are started again and asked again."""
        answers: dict[WorkerProcess, Answer] = {}
        while missing := [child for child in children if child not in answers]:
            answers |= self._ask(missing, request, arrays, steps)
        return [answers[child] for child in children]

    def _ask(
        self,
        children: Sequence[WorkerProcess],
        request: Request,
        arrays: Callable[[WorkerProcess], Arrays] = lambda _: {},
        steps: int = 1,
    ) -> dict[WorkerProcess, Answer]:
        """Return the answers of those that do not fail; the others are started again.

        Raises:
            CosignalError: a process answered with it. It is raised when all have answered, so that no late answer meets
                the next question.
        """
        for child in children:
            child.ask(request, arrays(child), steps)
        replies = [(child, child.answer()) for child in children]
        for _, reply in replies:
            if isinstance(reply, CosignalError):
                raise reply
        answers = {}
        for child, reply in replies:
            if isinstance(reply, OSError):
                self._restart(child, reply)
            elif isinstance(reply, tuple):
                answers[child] = reply
                for env, error in reply[0]["losses"]:
                    log_loss(env, error)
        return answers

    def _restart(self, child: WorkerProcess, error: Exception) -> None:
        """Begin the next episodes with new environments, in a new process. A start that fails counts as a loss, too.

        Raises:
            EnvironmentLost: this is the loss number MAX_LOSSES in a row.
        """
        if not self._finalizer.alive:
            raise error  # closed
        child.restarted = True
        while True:
            child.kill()
            child.losses += 1
            child.fruitless += 1
            numbers = f"{child.rows.start}..{child.rows.stop - 1}"
            structlog.get_logger().warning("environments restarted", envs=numbers, error=str(error))
            if child.losses >= MAX_LOSSES or child.fruitless >= MAX_LOST_EPISODES:
                raise EnvironmentLost(
                    f"a process of environments may be lost {MAX_LOSSES - 1} times without a step between, or"
                    f" {MAX_LOST_EPISODES - 1} times without the end of an episode, that of {numbers} of"
                    f" {self.spec.name!r} was once more: {error}; mend the environment, or raise task.step_timeout_s"
                    f" ({child.config.step_timeout_s:g}) if it is slow"
                ) from error
            # Read before the new process shares another block.
            episodes = child.block.episodes + 1
            try:
                child.launch()
                child.ready()
                child.block.episodes[:] = episodes
                child.ask({"do": "begin", "base_seed": self._base_seed})
                answer = child.answer()
            except (OSError, CosignalError) as again:
                answer = again
            if isinstance(answer, tuple):
                return
            child.block.episodes[:] = episodes
            error = answer

    def close(self) -> None:
        """End the processes. Safe to repeat."""
        self._finalizer()
