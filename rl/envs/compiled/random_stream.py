"""Random numbers in kernels: one SplitMix64 stream per episode, started at the episode's reset seed.

Compiled kernels hold a copy of these functions: numba renews its cache on disk when the kernel's file changes, but not
when this one does. So nothing here may ever change; another stream needs another module.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Columns of `streams` [E, 2]: the state of the running episode's stream; the hash that episode seeds come from.
STREAM, ENV_HASH = 0, 1


@njit(nogil=True, cache=True, inline="always")
def mix(x):  # type: ignore[no-untyped-def]
    """Return `rl.task.splitmix64` of x, on unsigned 64-bit numbers."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True, inline="always")
def draw(streams, e):  # type: ignore[no-untyped-def]
    """Return the next 64-bit number of environment e's stream."""
    x = streams[e, STREAM]
    streams[e, STREAM] = x + np.uint64(0x9E3779B97F4A7C15)
    return mix(x)


@njit(nogil=True, cache=True, inline="always")
def draw_below(streams, e, n):  # type: ignore[no-untyped-def]
    """Return a whole number from 0 to n - 1, each as likely to one part in 2⁵⁰ where n is below 2¹⁴."""
    return np.int64(draw(streams, e) % np.uint64(n))


@njit(nogil=True, cache=True, inline="always")
def start_stream(streams, e, episode):  # type: ignore[no-untyped-def]
    """Start the stream of an episode at its reset seed, which is `rl.task.episode_seed`."""
    streams[e, STREAM] = mix(streams[e, ENV_HASH] ^ np.uint64(episode)) >> np.uint64(33)
