"""The compiled step of a grid game of two agents: E environments in one call, without allocation and without the GIL.

There are only look-ups and copies: what an action does and what an agent sees are rows of `map.Tables`. Random numbers
are one SplitMix64 stream per episode, started at the episode's reset seed, so that the plain Python game
(`game.GridGame`) draws the same ones: four at reset (cell of the first agent, cell of the second, heading of the first,
heading of the second) and one at each step (who acts first).

Constants are repeated here: numba renews its cache on disk when this file changes, but not when an imported one does.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..compiled.random_stream import draw, start_stream

# Columns of `state` [E, 7]; the two agents' numbers lie side by side. OWN: number of things that the agent has handled.
POSE, OWN, FLAGS, CLOCK, EPISODE = 0, 2, 4, 5, 6
STATE_COLUMNS = 7
# Rows of `ended` [3, E].
TERMINATED, TRUNCATED, SUCCESS = 0, 1, 2
HANDLED, GOAL_REACHED = 0, 1  # columns of `events` [E, 2, V]; the second only where there is a goal
POSE_SIZE = 6  # numbers of one pose in an observation: the agent's own first, then its mate's
N_ACTIONS = 5
# Columns of `rules` [7]: what a game adds to its tables. -1 where it has no goal cell, or does not end with all flags.
WIDTH, DIST_MATE, OWN_HANDLED, GOAL_CELL, ALL_FLAGS, OVERLAP, PAYS_EVENTS = 0, 1, 2, 3, 4, 5, 6


@njit(nogil=True, cache=True)
def start_episode(e, state, streams, start_poses):  # type: ignore[no-untyped-def]
    """Reset environment e to the start of episode `state[e, EPISODE]`; start_poses are [cells], heading 0."""
    start_stream(streams, e, state[e, EPISODE])
    # Two different cells, then the headings.
    cells = np.uint64(len(start_poses))
    first = np.int64(draw(streams, e) % cells)
    second = np.int64(draw(streams, e) % (cells - np.uint64(1)))
    if second >= first:
        second += 1
    state[e, POSE] = start_poses[first] + np.int64(draw(streams, e) >> np.uint64(62))
    state[e, POSE + 1] = start_poses[second] + np.int64(draw(streams, e) >> np.uint64(62))
    state[e, OWN] = state[e, OWN + 1] = 0
    state[e, FLAGS] = state[e, CLOCK] = 0


@njit(nogil=True, cache=True, inline="always")
def write_view(e, state, obs_table, feature_table, rules, obs, features):  # type: ignore[no-untyped-def]
    """Fill rows e of obs [E, 2, O] and features [E, 2, K] from the state."""
    flags, width = state[e, FLAGS], rules[WIDTH]
    cell_0, cell_1 = state[e, POSE] >> 2, state[e, POSE + 1] >> 2
    # Manhattan distance of the two cells.
    apart = abs(cell_0 // width - cell_1 // width) + abs(cell_0 % width - cell_1 % width)
    for i in range(2):
        # The mate's pose is what the mate sees of itself: the first numbers of its own row.
        pose, mate = state[e, POSE + i], state[e, POSE + 1 - i]
        for k in range(POSE_SIZE):
            obs[e, i, k] = obs_table[i, flags, pose, k]
            obs[e, i, POSE_SIZE + k] = obs_table[i, flags, mate, k]
        for k in range(2 * POSE_SIZE, obs.shape[2]):
            obs[e, i, k] = obs_table[i, flags, pose, k]
        for k in range(features.shape[2]):
            features[e, i, k] = feature_table[i, flags, pose, k]
        features[e, i, rules[DIST_MATE]] = apart
        features[e, i, rules[OWN_HANDLED]] = state[e, OWN + i]


@njit(nogil=True, cache=True, inline="always")
def act(e, first, actions, state, next_pose, trigger, rules, events):  # type: ignore[no-untyped-def]
    """Let both agents act, `first` before the other, and fill events.

    Returns the number of events and whether an agent is on the goal cell.
    """
    count = 0
    home = False
    for i in range(2):
        for v in range(events.shape[2]):
            events[e, i, v] = 0.0
    for turn in range(2):
        i = first if turn == 0 else 1 - first
        action, pose = actions[e, i], state[e, POSE + i]
        flags = state[e, FLAGS]
        # What has been handled gives nothing more.
        bit = trigger[i, pose, action] & ~flags
        if bit != 0:
            state[e, FLAGS] = flags | bit
            state[e, OWN + i] += 1
            events[e, i, HANDLED] = 1.0
            count += 1
        # An action either handles or moves, so the flags from before will do.
        target = next_pose[flags, pose, action]
        # A mate in the way blocks, where agents may not share a cell.
        blocked = rules[OVERLAP] == 0 and target >> 2 != pose >> 2 and target >> 2 == state[e, POSE + 1 - i] >> 2
        if blocked:
            target = pose
        state[e, POSE + i] = target
        # Arriving together is credited once, to who acts first.
        if target >> 2 == rules[GOAL_CELL] and not home:
            home = True
            events[e, i, GOAL_REACHED] = 1.0
            count += 1
    return count, home


@njit(nogil=True, cache=True)
def first_bad_action(actions):  # type: ignore[no-untyped-def]
    """Return the index of the first environment with an action outside 0..4, -1 if there is none."""
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
    rules,
    n_max,
    obs,
    features,
    last_obs,
    last_features,
    events,
    reward,
    ended,
):
    """Make one joint step of all environments, with auto-reset.

    Shapes are actions [E, 2], obs and last_obs [E, 2, O], features and last_features [E, 2, K], events [E, 2, V],
    reward [E], ended [3, E]; tables are those of `map.Tables`, state, streams and rules those at the top. What is
    written: obs and features of the state to act from next, last_obs and last_features of s', before auto-reset.

    Returns -1, or the index of the first environment with an action out of range (nothing has been changed then).
    """
    bad = first_bad_action(actions)
    if bad >= 0:
        return bad
    for e in range(state.shape[0]):
        first = np.int64(draw(streams, e) >> np.uint64(63))
        count, home = act(e, first, actions, state, next_pose, trigger, rules, events)
        done = home or state[e, FLAGS] == rules[ALL_FLAGS]
        state[e, CLOCK] += 1
        # The goal on the last step terminates and does not truncate.
        late = state[e, CLOCK] >= n_max and not done
        reward[e] = np.int64(done)
        if rules[PAYS_EVENTS] == 1:
            reward[e] = count + np.int64(done) - 1.0 / n_max
        ended[TERMINATED, e] = ended[SUCCESS, e] = done
        ended[TRUNCATED, e] = late
        # s' first, then the state to act from next, which is s' itself where the episode goes on.
        write_view(e, state, obs_table, feature_table, rules, last_obs, last_features)
        if done or late:
            state[e, EPISODE] += 1
            start_episode(e, state, streams, start_poses)
            write_view(e, state, obs_table, feature_table, rules, obs, features)
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
def view_all(state, obs_table, feature_table, rules, obs, features):  # type: ignore[no-untyped-def]
    """Fill obs and features of every environment from the state."""
    for e in range(state.shape[0]):
        write_view(e, state, obs_table, feature_table, rules, obs, features)
