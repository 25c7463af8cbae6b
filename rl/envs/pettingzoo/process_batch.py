"""Slow PettingZoo environments, divided over processes.

Each process hosts a `PettingZooTask` over its slice of the batch, so that every episode is that of the same batch in
one process, bit for bit. Arrays go through shared memory, and only short messages through pipes.

A process that ends, or takes longer than `task.step_timeout_s` for a joint step of its environments, is killed and
started again. All of its environments begin their next episodes, and those that ran are lost (`Step.lost`); where it
ended between two steps, the next step tells so. An environment that raises is restarted by `PettingZooTask`, alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from ....errors import CosignalError, EnvironmentLost, SnapshotError
from ...task import ActionArray, Step, new_step, unmoved
from ..config import TaskConfig
from .batch import MAX_LOSSES, check_actions, log_loss
from .shared_memory import copy_rows
from .worker_host import Arrays
from .worker_process import Child, Reply, end_all

_MASK = (1 << 64) - 1


def _nothing(_: Child) -> Arrays:
    return {}


class ProcessTask:
    """A `BatchedTask` over environments in `config.workers` processes, or `num_envs` where those are fewer.

    Raises:
        ConfigError: the environment cannot be built or batched.
        OSError: a process ends while it starts, or does not start in time.
        EnvironmentLost: from any method that plays, when a process is lost MAX_LOSSES times in a row, or one of its
            environments is.
    """

    def __init__(self, config: TaskConfig, num_envs: int) -> None:
        self.num_envs, self._base_seed = num_envs, 0
        workers = min(config.workers, num_envs)
        bounds = [num_envs * k // workers for k in range(workers + 1)]
        self._children = [Child(config, slice(start, end)) for start, end in pairwise(bounds)]
        self._finalizer = weakref.finalize(self, end_all, self._children)  # at exit, too
        try:
            for child in self._children:
                child.launch()
            specs = [child.ready() for child in self._children]
            self.spec = specs[0]
            self._step = new_step(self.spec, num_envs)
            self.reset(0)
        except BaseException:
            self.close()
            raise

    @property
    def _pairs(self) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """(array of s, the same of s')."""
        names = [field.name for field in fields(self._step) if field.name.startswith("last_")]
        return [
            pair
            for last in names
            if getattr(self._step, last) is not None
            for pair in zip(getattr(self._step, last.removeprefix("last_")), getattr(self._step, last), strict=True)
        ]

    # ------------------------------------------------------------ playing

    def reset(self, base_seed: int) -> Step:
        """Start episode 0 in every environment."""
        self._base_seed = base_seed & _MASK
        for child in self._children:
            child.block.episodes[:] = 0
        self._told("begin", base_seed=self._base_seed)
        return self._fresh()

    def _fresh(self) -> Step:
        """All environments as they are in their processes."""
        for child in self._children:
            copy_rows(child.block.step, self._step, child.rows)
            child.restarted = False
        return self.observe()

    def step(self, actions: list[ActionArray]) -> Step:
        """actions: [g] [E, A_g], each in 0..n_actions-1; or [E, A_g, k], clipped to -1..1.

        Raises:
            ValueError: wrong shape, or an action out of range (nothing has changed then).
            ConfigError: the environment does not give a feature that it declares.
        """
        check_actions(self.spec, self.num_envs, actions)
        stepped = [child for child in self._children if not child.restarted]
        for child in stepped:
            for mine, chosen in zip(child.block.actions, actions, strict=True):
                mine[:] = chosen[child.rows]
        self._ask(stepped, "step")
        for child in self._children:
            if child.restarted:
                self._lose(child)
            else:
                child.losses = 0
                copy_rows(child.block.step, self._step, child.rows)
        return self._step

    def _lose(self, child: Child) -> None:
        """The step that a process did not finish; its environments stand at the beginning of other episodes now."""
        step, rows = self._step, child.rows
        before = [now[rows].copy() for now, _ in self._pairs]
        copy_rows(child.block.step, step, rows)  # of `begin`: reward, events and flags are zero
        for (_, last), state in zip(self._pairs, before, strict=True):
            last[rows] = state
        assert step.lost is not None
        step.lost[rows] = step.truncated[rows] = True
        child.restarted = False

    def observe(self) -> Step:
        """The current views; reward, events and flags are zero."""
        return unmoved(self._step, self._pairs)

    def reseed(self, base_seed: int) -> None:
        """New seeds for the episodes to come, see `PettingZooTask.reseed`."""
        self._base_seed = base_seed & _MASK
        self._told("reseed", base_seed=self._base_seed)

    # ------------------------------------------------------------ state

    def state_dict(self) -> Arrays:
        """As one `PettingZooTask` over all environments would give it."""
        states = [payload for _, payload in self._told("state")]
        longest = max(state["actions"].shape[1] for state in states)
        for state in states:
            missing = longest - state["actions"].shape[1]
            state["actions"] = np.pad(state["actions"], ((0, 0), (0, missing), (0, 0)))
        return {
            name: array if name == "base_seed" else np.concatenate([state[name] for state in states])
            for name, array in states[0].items()
        }

    def load_state_dict(self, state: Arrays) -> None:
        """Of a `PettingZooTask`, or of any number of processes. Environments play their episodes again.

        Raises:
            SnapshotError: arrays are missing or of another task or number of environments, or the replay differs.
        """
        lengths = state.get("lengths", np.zeros(0, np.int64))
        if len(lengths) != self.num_envs:
            raise SnapshotError(
                f"{self.spec.name!r} with {self.num_envs} environments needs a state of as many, got {len(lengths)};"
                " load a snapshot of the same task and trainer.envs"
            )
        self._base_seed = int(state["base_seed"][0])

        def share(child: Child) -> Arrays:
            return {name: x if name == "base_seed" else x[child.rows] for name, x in state.items()}

        self._told("load", share, steps=1 + int(lengths.max()))
        self._fresh()

    def episode_text(self, seed: int, actions: list[ActionArray]) -> list[str]:
        """Play the episode that starts from reset seed `seed` with `actions` ([g] [T, A_g] or [T, A_g, k]); a line of
        text a step."""
        played = {str(g): chosen for g, chosen in enumerate(actions)}
        reply, _ = self._told("text", lambda _: played, first_only=True, steps=1 + len(actions[0]), seed=seed)[0]
        lines: list[str] = reply["lines"]
        return lines

    # ------------------------------------------------------------ processes

    def _told(
        self, do: str, payload: Callable[[Child], Arrays] = _nothing, first_only: bool = False, **more: Any
    ) -> list[Reply]:
        """Replies of all processes, or of the first one. Those that fail are started again and asked again."""
        children = self._children[:1] if first_only else self._children
        found: dict[Child, Reply] = {}
        while missing := [child for child in children if child not in found]:
            found |= self._ask(missing, do, payload, **more)
        return [found[child] for child in children]

    def _ask(
        self, children: Sequence[Child], do: str, payload: Callable[[Child], Arrays] = _nothing, **more: Any
    ) -> dict[Child, Reply]:
        """Replies of those that do not fail; the others are started again. A CosignalError is raised when all have
        answered, so that no late answer meets the next question."""
        for child in children:
            child.ask(do, payload=payload(child), **more)
        answers = [(child, child.answer()) for child in children]
        for _, answer in answers:
            if isinstance(answer, CosignalError):
                raise answer
        found = {}
        for child, answer in answers:
            if isinstance(answer, OSError):
                self._restart(child, answer)
            elif isinstance(answer, tuple):
                found[child] = answer
                for env, words in answer[0]["losses"]:
                    log_loss(env, words)
        return found

    def _restart(self, child: Child, error: Exception) -> None:
        """New environments that begin the next episodes, in a new process. A start that fails counts as a loss, too."""
        if not self._finalizer.alive:
            raise error  # closed
        child.restarted = True
        while True:
            child.kill()
            child.losses += 1
            numbers = f"{child.rows.start}..{child.rows.stop - 1}"
            structlog.get_logger().warning("environments restarted", envs=numbers, error=str(error))
            if child.losses >= MAX_LOSSES:
                raise EnvironmentLost(
                    f"a process of environments may be lost {MAX_LOSSES - 1} times in a row, that of {numbers} of"
                    f" {self.spec.name!r} was once more: {error}; mend the environment, or raise task.step_timeout_s"
                    f" ({child.config.step_timeout_s:g}) if it is slow"
                ) from error
            episodes = child.block.episodes + 1
            try:
                child.launch()
                child.ready()
                child.block.episodes[:] = episodes
                child.ask("begin", base_seed=self._base_seed)
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
