"""The arrays of a `Step`, and actions, in memory that two processes share.

The memory has no name: nothing can be left in /dev/shm whoever is killed when, and the size of that folder (64 MB in
many containers) is no limit. A process that is started gets it as an open file.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...task import ActionArray, Step, TaskSpec, new_step

ALIGNMENT = 64  # bytes, a cache line


def new_memory() -> int:
    """Return the descriptor of an empty file without a name; whoever maps it gives it a size."""
    # Elsewhere a file that is deleted while it is open does as well.
    if sys.platform == "linux":
        return os.memfd_create("cosignal")
    else:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


class Block:
    """The arrays that a parent and one worker process share.

    Both processes make one of the same memory and spec, and see each other's writes at once: only one may write at a
    time, which their messages see to.

    Args:
        memory: descriptor from `new_memory`.
        spec: of the task.
        num_envs: N, environments of the worker.

    Attributes:
        step: of the N environments.
        actions: [g] [N, A_g] or [N, A_g, k].
        episodes: [N], numbers of the running episodes.
    """

    def __init__(self, memory: int, spec: TaskSpec, num_envs: int) -> None:
        template = new_step(spec, num_envs)
        actions: list[ActionArray] = [
            np.zeros((num_envs, len(group.agents), *group.action_shape), group.action_dtype) for group in spec.groups
        ]
        episodes = np.zeros(num_envs, np.int64)
        # In one order, by which both processes lay them out.
        arrays = iter(_mapped(memory, [*flat(template), *actions, episodes]))

        def taken(value: Any) -> Any:
            """Return mapped arrays in the place of a field's; None stays None."""
            if value is None:
                return None
            return [next(arrays) for _ in value] if isinstance(value, list) else next(arrays)

        self.step = Step(**{field.name: taken(getattr(template, field.name)) for field in fields(template)})
        self.actions: list[ActionArray] = [next(arrays) for _ in actions]
        self.episodes: NDArray[np.int64] = next(arrays)


def flat(step: Step) -> list[NDArray[Any]]:
    """Return all arrays of a step, in the order of its fields; those that are None are left out."""
    values = [getattr(step, field.name) for field in fields(step)]
    return [array for value in values if value is not None for array in (value if isinstance(value, list) else [value])]


def copy_rows(source: Step, target: Step, rows: slice) -> None:
    """Copy all of `source`, some environments, into those rows of `target`."""
    for theirs, ours in zip(flat(source), flat(target), strict=True):
        ours[rows] = theirs


def _mapped(memory: int, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return arrays of the same shapes, one behind the other in the memory."""
    # Rounded up, so that two arrays share no cache line.
    sizes = [-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays]
    starts = np.cumsum([0, *sizes]).tolist()
    length = starts[-1] + ALIGNMENT  # an empty array at the end begins inside, too
    os.ftruncate(memory, length)
    shared = mmap.mmap(memory, length)
    return [
        np.ndarray(array.shape, array.dtype, shared, start) for array, start in zip(arrays, starts[:-1], strict=True)
    ]
