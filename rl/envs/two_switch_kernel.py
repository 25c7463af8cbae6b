"""The compiled step of Two-Switch: E environments in one call, without allocation and without the GIL.

Only look-ups and copies: what an action does and what an agent sees are rows of `two_switch_map.Tables`. Random numbers
are one SplitMix64 stream per episode, started at the episode's reset seed, so that the plain Python game
(`two_switch_game.TwoSwitchGame`) draws the same ones: four at reset (cell of green, cell of orange, heading of green,
heading of orange) and one at each step (who acts first).
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Columns of `state` [E, 7]; green's and orange's numbers lie side by side.
POSE, OWN, FLAGS, CLOCK, EPISODE = 0, 2, 4, 5, 6
STATE_COLUMNS = 7
# Columns of `streams` [E, 2]: the state of the running episode's stream; the hash that episode seeds come from.
STREAM, ENV_HASH = 0, 1
# Rows of `ended` [3, E].
TERMINATED, TRUNCATED, SUCCESS = 0, 1, 2
SWITCH_TRIGGERED, GOAL_REACHED = 0, 1  # columns of `events` [E, 2, 2]
# Equal to those of `two_switch_map` (a test compares). They are repeated here because numba's cache on disk is renewed
# when this file changes, but not when an imported one does.
ALL_TRIGGERED, WIDTH, N_ACTIONS = 3, 9, 5
DIST_MATE, OWN_TRIGGERED = 5, 10  # the features that no row of the tables holds


@njit(nogil=True, cache=True, inline="always")
def mix(x):  # type: ignore[no-untyped-def]
    """`rl.task.splitmix64`, on unsigned 64-bit numbers."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True, inline="always")
def draw(streams, e):  # type: ignore[no-untyped-def]
    """The next 64-bit number of environment e's stream."""
    x = streams[e, STREAM]
    streams[e, STREAM] = x + np.uint64(0x9E3779B97F4A7C15)
    return mix(x)


@njit(nogil=True, cache=True)
def start_episode(e, state, streams, start_poses):  # type: ignore[no-untyped-def]
    """Reset environment e to the start of episode `state[e, EPISODE]`. start_poses: [cells], heading 0."""
    streams[e, STREAM] = mix(streams[e, ENV_HASH] ^ np.uint64(state[e, EPISODE])) >> np.uint64(33)
    cells = np.uint64(len(start_poses))
    green = np.int64(draw(streams, e) % cells)
    orange = np.int64(draw(streams, e) % (cells - np.uint64(1)))
    if orange >= green:
        orange += 1
    state[e, POSE] = start_poses[green] + np.int64(draw(streams, e) >> np.uint64(62))
    state[e, POSE + 1] = start_poses[orange] + np.int64(draw(streams, e) >> np.uint64(62))
    state[e, OWN] = state[e, OWN + 1] = 0
    state[e, FLAGS] = state[e, CLOCK] = 0


@njit(nogil=True, cache=True, inline="always")
def write_view(e, state, obs_table, feature_table, obs, features):  # type: ignore[no-untyped-def]
    """Fill rows e of obs [E, 2, 20] and features [E, 2, 12] from the state."""
    flags = state[e, FLAGS]
    cell_0, cell_1 = state[e, POSE] >> 2, state[e, POSE + 1] >> 2
    apart = abs(cell_0 // WIDTH - cell_1 // WIDTH) + abs(cell_0 % WIDTH - cell_1 % WIDTH)
    for i in range(2):
        pose, mate = state[e, POSE + i], state[e, POSE + 1 - i]
        for k in range(6):
            obs[e, i, k] = obs_table[flags, pose, k]
            obs[e, i, 6 + k] = obs_table[flags, mate, k]
        for k in range(12, 20):
            obs[e, i, k] = obs_table[flags, pose, k]
        for k in range(12):
            features[e, i, k] = feature_table[flags, pose, k]
        features[e, i, DIST_MATE] = apart
        features[e, i, OWN_TRIGGERED] = state[e, OWN + i]


@njit(nogil=True, cache=True, inline="always")
def act(e, first, actions, state, next_pose, trigger, goal_cell, overlap, events):  # type: ignore[no-untyped-def]
    """Both agents act, `first` before the other; fills events and returns how many happened and whether one is home."""
    count = 0
    home = False
    events[e, 0, 0] = events[e, 0, 1] = events[e, 1, 0] = events[e, 1, 1] = 0.0
    for turn in range(2):
        i = first if turn == 0 else 1 - first
        action, pose = actions[e, i], state[e, POSE + i]
        flags = state[e, FLAGS]
        bit = trigger[pose, action] & ~flags
        if bit != 0:
            state[e, FLAGS] = flags | bit
            state[e, OWN + i] += 1
            events[e, i, SWITCH_TRIGGERED] = 1.0
            count += 1
        target = next_pose[np.int64(flags == ALL_TRIGGERED), pose, action]
        if not overlap and target >> 2 != pose >> 2 and target >> 2 == state[e, POSE + 1 - i] >> 2:
            target = pose
        state[e, POSE + i] = target
        if target >> 2 == goal_cell and not home:
            home = True
            events[e, i, GOAL_REACHED] = 1.0
            count += 1
    return count, home


@njit(nogil=True, cache=True)
def first_bad_action(actions):  # type: ignore[no-untyped-def]
    """Index of the first environment with an action outside 0..4, -1 if there is none."""
    for e in range(actions.shape[0]):
        for i in range(2):
            if actions[e, i] < 0 or actions[e, i] >= N_ACTIONS:
                return e
    return -1


@njit(nogil=True, cache=True)
def step_all(  # type: ignore[no-untyped-def]
    actions,
    state,
    streams,
    next_pose,
    trigger,
    start_poses,
    obs_table,
    feature_table,
    obs,
    features,
    last_obs,
    last_features,
    events,
    reward,
    ended,
    goal_cell,
    n_max,
    overlap,
):
    """One joint step of all environments with auto-reset; see `two_switch_batch` for shapes.

    Returns -1, or the index of the first environment with an action out of range (nothing has been changed then).
    """
    bad = first_bad_action(actions)
    if bad >= 0:
        return bad
    for e in range(state.shape[0]):
        first = np.int64(draw(streams, e) >> np.uint64(63))
        count, home = act(e, first, actions, state, next_pose, trigger, goal_cell, overlap, events)
        state[e, CLOCK] += 1
        late = state[e, CLOCK] >= n_max and not home
        reward[e] = count + np.int64(home) - 1.0 / n_max
        ended[TERMINATED, e] = ended[SUCCESS, e] = home
        ended[TRUNCATED, e] = late
        write_view(e, state, obs_table, feature_table, last_obs, last_features)
        if home or late:
            state[e, EPISODE] += 1
            start_episode(e, state, streams, start_poses)
            write_view(e, state, obs_table, feature_table, obs, features)
        else:
            obs[e] = last_obs[e]
            features[e] = last_features[e]
    return -1


@njit(nogil=True, cache=True)
def start_all(state, streams, start_poses):  # type: ignore[no-untyped-def]
    """Start episode `state[:, EPISODE]` in every environment."""
    for e in range(state.shape[0]):
        start_episode(e, state, streams, start_poses)


@njit(nogil=True, cache=True)
def view_all(state, obs_table, feature_table, obs, features):  # type: ignore[no-untyped-def]
    """Fill obs and features of every environment from the state."""
    for e in range(state.shape[0]):
        write_view(e, state, obs_table, feature_table, obs, features)
