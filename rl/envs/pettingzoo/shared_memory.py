"""The arrays of a `Step`, and actions, in memory that two processes share.

The memory has no name: nothing can be left in /dev/shm whoever is killed when, and the size of that folder (64 MB in
many containers) is no limit. A process that is started gets it as an open file.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...task import ActionArray, Step, TaskSpec, new_step

ALIGNMENT = 64  # bytes, a cache line


def new_memory() -> int:
    """The descriptor of an empty file without a name; whoever maps it gives it a size."""
    if sys.platform == "linux":
        return os.memfd_create("cosignal")
    else:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


class Block:
    """`step` and `actions` ([g] [N, A_g] or [N, A_g, k]) of N environments and their `episodes` [N], in `memory`.

    Both processes make one of the same memory and spec, and see each other's writes at once: only one may write at a
    time, which their messages see to.
    """

    def __init__(self, memory: int, spec: TaskSpec, num_envs: int) -> None:
        template = new_step(spec, num_envs)
        actions: list[ActionArray] = [
            np.zeros((num_envs, len(group.agents), *group.action_shape), group.action_dtype) for group in spec.groups
        ]
        episodes = np.zeros(num_envs, np.int64)
        arrays = [*flat(template), *actions, episodes]
        views = iter(_mapped(memory, arrays))
        self.step = _filled(template, views)
        self.actions: list[ActionArray] = [next(views) for _ in actions]
        self.episodes: NDArray[np.int64] = next(views)


def flat(step: Step) -> list[NDArray[Any]]:
    """All arrays of a step, in the order of its fields; those that are None are left out."""
    values = [getattr(step, field.name) for field in fields(step)]
    return [array for value in values if value is not None for array in (value if isinstance(value, list) else [value])]


def copy_rows(source: Step, target: Step, rows: slice) -> None:
    """All of `source`, some environments, into those rows of `target`."""
    for theirs, ours in zip(flat(source), flat(target), strict=True):
        ours[rows] = theirs


def _filled(template: Step, arrays: Iterator[NDArray[Any]]) -> Step:
    """A step of the same fields with these arrays."""

    def taken(value: Any) -> Any:
        if value is None:
            return None
        return [next(arrays) for _ in value] if isinstance(value, list) else next(arrays)

    return Step(**{field.name: taken(getattr(template, field.name)) for field in fields(template)})


def _mapped(memory: int, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Arrays of the same shapes, one behind the other in the memory."""
    sizes = [-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays]
    starts = np.cumsum([0, *sizes]).tolist()
    length = starts[-1] + ALIGNMENT  # an empty array at the end begins inside, too
    os.ftruncate(memory, length)
    shared = mmap.mmap(memory, length)
    return [
        np.ndarray(array.shape, array.dtype, shared, start) for array, start in zip(arrays, starts[:-1], strict=True)
    ]
