"""The compiled step of level-based foraging: E environments in one call, without allocation and without the GIL.

The rules are those of lbforaging 2.0 (`ForagingEnv.step`, `reset`), whose steps draw nothing: from the same state the
same actions lead to the same state. Two things are not upstream's. The random numbers of a reset are those of
`random_stream`. And where agents load several items in one step, they are asked in the order of their numbers, while
upstream takes them from a Python set, in the order of their addresses in memory.

Constants are repeated here: numba renews its cache on disk when this file changes, but not when an imported one does.

Arrays: players [E, A, 3] and foods [E, F, 3] of row, column and level, foods in reading order, of level 0 once loaded;
numbers [E, 4].
"""

from __future__ import annotations

from numba import njit

from ..compiled.random_stream import draw_below, start_stream

ROW, COL, LEVEL = 0, 1, 2
# Columns of `numbers`: sum of the levels of all items at the start, items left, steps made, number of the episode.
SPAWNED, LEFT, CLOCK, EPISODE = 0, 1, 2, 3
# Rows of `ended` [3, E].
TERMINATED, TRUNCATED, SUCCESS = 0, 1, 2
LOADED, FAILED = 0, 1  # columns of `events` [E, A, 2]
NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)
LOWEST_LEVEL, HIGHEST_LEVEL = 1, 2  # of agents
ATTEMPTS = 1000  # at cells for items, after which the rest is left out
# Columns of `rules` [7]. TOP_LEVEL is 0 where the three lowest levels of agents add up to it.
SIZE, SIGHT, COOP, TOP_LEVEL, N_MAX, AUTO_RESET, GRID = 0, 1, 2, 3, 4, 5, 6
AGENTS, ITEMS, FREE = 0, 1, 2  # layers of an image


@njit(nogil=True, cache=True, inline="always")
def item_at(e, row, col, foods):  # type: ignore[no-untyped-def]
    """Return the place in `foods` of the item that is left at a cell, -1 where there is none."""
    for f in range(foods.shape[1]):
        if foods[e, f, ROW] == row and foods[e, f, COL] == col and foods[e, f, LEVEL] > 0:
            return f
    return -1


@njit(nogil=True, cache=True, inline="always")
def item_beside(e, row, col, foods):  # type: ignore[no-untyped-def]
    """Return the item beside a cell that is loaded from there: the northern one before those south, west and east."""
    f = item_at(e, row - 1, col, foods)
    if f < 0:
        f = item_at(e, row + 1, col, foods)
    if f < 0:
        f = item_at(e, row, col - 1, foods)
    if f < 0:
        f = item_at(e, row, col + 1, foods)
    return f


@njit(nogil=True, cache=True, inline="always")
def is_beside(e, i, f, players, foods):  # type: ignore[no-untyped-def]
    """Return whether agent i stands in one of the four cells beside item f."""
    rows = abs(players[e, i, ROW] - foods[e, f, ROW])
    cols = abs(players[e, i, COL] - foods[e, f, COL])
    return rows + cols == 1


# ---------------------------------------------------------------- the start of an episode


@njit(nogil=True, cache=True)
def place(e, players, foods, numbers, streams, rules):  # type: ignore[no-untyped-def]
    """Draw agents and items of a new episode from the stream of environment e."""
    size = rules[SIZE]
    for i in range(players.shape[1]):
        free = False
        while not free:
            row, col = draw_below(streams, e, size), draw_below(streams, e, size)
            free = True
            for other in range(i):
                if players[e, other, ROW] == row and players[e, other, COL] == col:
                    free = False
        players[e, i, ROW], players[e, i, COL] = row, col
        players[e, i, LEVEL] = LOWEST_LEVEL + draw_below(streams, e, HIGHEST_LEVEL - LOWEST_LEVEL + 1)

    # the highest level of an item: given, or the three lowest of agents together
    top = rules[TOP_LEVEL]
    if top == 0:
        low_agents = 0
        for i in range(players.shape[1]):
            low_agents += players[e, i, LEVEL] == LOWEST_LEVEL
        taken = min(players.shape[1], 3)
        top = min(low_agents, taken) * LOWEST_LEVEL + max(taken - low_agents, 0) * HIGHEST_LEVEL

    for f in range(foods.shape[1]):
        for k in range(3):
            foods[e, f, k] = 0
    count, attempts = 0, 0
    while count < foods.shape[1] and attempts < ATTEMPTS:
        attempts += 1
        row, col = 1 + draw_below(streams, e, size - 2), 1 + draw_below(streams, e, size - 2)
        free = True
        for f in range(count):
            rows, cols = abs(foods[e, f, ROW] - row), abs(foods[e, f, COL] - col)
            # no other item in the nine cells around, or within two in the same row or column
            if max(rows, cols) <= 1 or (min(rows, cols) == 0 and max(rows, cols) <= 2):
                free = False
        for i in range(players.shape[1]):
            if players[e, i, ROW] == row and players[e, i, COL] == col:
                free = False
        if not free:
            continue
        level = top if rules[COOP] == 1 else 1 + draw_below(streams, e, top)
        # items are kept in reading order, in which agents observe them
        at = count
        while at > 0 and foods[e, at - 1, ROW] * size + foods[e, at - 1, COL] > row * size + col:
            for k in range(3):
                foods[e, at, k] = foods[e, at - 1, k]
            at -= 1
        foods[e, at, ROW], foods[e, at, COL], foods[e, at, LEVEL] = row, col, level
        count += 1

    numbers[e, SPAWNED], numbers[e, LEFT], numbers[e, CLOCK] = 0, count, 0
    for f in range(count):
        numbers[e, SPAWNED] += foods[e, f, LEVEL]


@njit(nogil=True, cache=True)
def start_all(players, foods, numbers, streams, rules):  # type: ignore[no-untyped-def]
    """Start the episode of its number in every environment."""
    for e in range(players.shape[0]):
        start_stream(streams, e, numbers[e, EPISODE])
        place(e, players, foods, numbers, streams, rules)


# ---------------------------------------------------------------- what agents see


@njit(nogil=True, cache=True, inline="always")
def write_lists(e, players, foods, rules, obs):  # type: ignore[no-untyped-def]
    """Fill row e of obs [E, A, 3 F + 3 A]: row, column and level of items and agents.

    Items in sight come in reading order, then this agent, then the others in sight; -1, -1, 0 where there is none.
    Cells count from the corner of the window, which the border cuts.
    """
    n_players, n_foods, sight = players.shape[1], foods.shape[1], rules[SIGHT]
    for i in range(n_players):
        row, col = players[e, i, ROW], players[e, i, COL]
        above, left = max(row - sight, 0), max(col - sight, 0)
        at = 0
        for f in range(n_foods):
            far = max(abs(foods[e, f, ROW] - row), abs(foods[e, f, COL] - col))
            if foods[e, f, LEVEL] > 0 and far <= sight:
                obs[e, i, at] = foods[e, f, ROW] - above
                obs[e, i, at + 1] = foods[e, f, COL] - left
                obs[e, i, at + 2] = foods[e, f, LEVEL]
                at += 3
        while at < 3 * n_foods:
            obs[e, i, at] = obs[e, i, at + 1] = -1
            obs[e, i, at + 2] = 0
            at += 3
        for turn in range(n_players):
            # this agent, then the others in order
            j = i if turn == 0 else turn - 1 if turn <= i else turn
            down, right = players[e, j, ROW] - above, players[e, j, COL] - left
            if min(down, right) >= 0 and max(down, right) <= 2 * sight:
                obs[e, i, at], obs[e, i, at + 1], obs[e, i, at + 2] = down, right, players[e, j, LEVEL]
                at += 3
        while at < obs.shape[2]:
            obs[e, i, at] = obs[e, i, at + 1] = -1
            obs[e, i, at + 2] = 0
            at += 3


@njit(nogil=True, cache=True, inline="always")
def write_images(e, players, foods, rules, obs):  # type: ignore[no-untyped-def]
    """Fill row e of obs [E, A, W · W · 3]: an image of the cells around each agent, row by row."""
    sight, size, width = rules[SIGHT], rules[SIZE], 2 * rules[SIGHT] + 1
    for i in range(players.shape[1]):
        above, left = players[e, i, ROW] - sight, players[e, i, COL] - sight
        obs[e, i] = 0.0
        for row in range(max(above, 0), min(above + width, size)):
            for col in range(max(left, 0), min(left + width, size)):
                obs[e, i, ((row - above) * width + col - left) * 3 + FREE] = 1.0
        for j in range(players.shape[1]):
            down, right = players[e, j, ROW] - above, players[e, j, COL] - left
            if min(down, right) >= 0 and max(down, right) < width:
                at = (down * width + right) * 3
                obs[e, i, at + AGENTS], obs[e, i, at + FREE] = players[e, j, LEVEL], 0.0
        for f in range(foods.shape[1]):
            down, right = foods[e, f, ROW] - above, foods[e, f, COL] - left
            if foods[e, f, LEVEL] > 0 and min(down, right) >= 0 and max(down, right) < width:
                at = (down * width + right) * 3
                obs[e, i, at + ITEMS], obs[e, i, at + FREE] = foods[e, f, LEVEL], 0.0


@njit(nogil=True, cache=True, inline="always")
def write_view(e, players, foods, numbers, rules, obs, features):  # type: ignore[no-untyped-def]
    """Fill rows e of obs [E, A, O] and features [E, A, 8]."""
    if rules[GRID] == 1:
        write_images(e, players, foods, rules, obs)
    else:
        write_lists(e, players, foods, rules, obs)
    n_players, n_foods = players.shape[1], foods.shape[1]
    for i in range(n_players):
        row, col = players[e, i, ROW], players[e, i, COL]

        # in the order of `spec`; of items that are equally near the first in reading order
        nearest, distance = -1, 0
        for f in range(n_foods):
            apart = abs(foods[e, f, ROW] - row) + abs(foods[e, f, COL] - col)
            if foods[e, f, LEVEL] > 0 and (nearest < 0 or apart < distance):
                nearest, distance = f, apart
        mate = 4 * rules[SIZE]
        beside = 0
        for j in range(n_players):
            if j != i:
                mate = min(mate, abs(players[e, j, ROW] - row) + abs(players[e, j, COL] - col))
            if nearest >= 0 and is_beside(e, j, nearest, players, foods):
                beside += players[e, j, LEVEL]
        features[e, i, 0] = max(distance - 1, 0)
        features[e, i, 1] = foods[e, nearest, LEVEL] if nearest >= 0 else 0
        features[e, i, 2] = beside
        features[e, i, 3] = numbers[e, LEFT]
        features[e, i, 4] = mate
        features[e, i, 5] = players[e, i, LEVEL]
        features[e, i, 6] = col
        features[e, i, 7] = row


@njit(nogil=True, cache=True)
def view_all(players, foods, numbers, rules, obs, features):  # type: ignore[no-untyped-def]
    """Fill obs and features of every environment."""
    for e in range(players.shape[0]):
        write_view(e, players, foods, numbers, rules, obs, features)


# ---------------------------------------------------------------- a step


@njit(nogil=True, cache=True, inline="always")
def move(e, actions, players, foods, rules, targets, loads):  # type: ignore[no-untyped-def]
    """Move the agents, and write into loads [A] which of them try to load an item beside them."""
    n_players, size = players.shape[1], rules[SIZE]
    for i in range(n_players):
        row, col, action = players[e, i, ROW], players[e, i, COL], actions[e, i]
        loads[i] = 1 if action == LOAD and item_beside(e, row, col, foods) >= 0 else 0
        to_row = row + (action == SOUTH) - (action == NORTH)
        to_col = col + (action == EAST) - (action == WEST)
        inside = 0 <= to_row < size and 0 <= to_col < size
        if not inside or item_at(e, to_row, to_col, foods) >= 0:
            to_row, to_col = row, col
        targets[i] = to_row * size + to_col
    # nobody enters a cell that another wants, too, or does not try to leave
    for i in range(n_players):
        wanted = 0
        for j in range(n_players):
            wanted += targets[j] == targets[i]
        if wanted == 1:
            players[e, i, ROW], players[e, i, COL] = targets[i] // size, targets[i] % size


@njit(nogil=True, cache=True, inline="always")
def load(e, players, foods, numbers, penalty, loads, shares, events):  # type: ignore[no-untyped-def]
    """Let those who try load the items beside them, and fill shares [E, A] and events [E, A, 2]."""
    n_players = players.shape[1]
    for i in range(n_players):
        shares[e, i] = 0.0
        events[e, i, LOADED] = 0.0
        events[e, i, FAILED] = loads[i]
    for i in range(n_players):
        if loads[i] == 0:
            continue
        f = item_beside(e, players[e, i, ROW], players[e, i, COL], foods)
        # all that are left and stand beside the same item load it together
        levels = 0
        for j in range(i, n_players):
            if loads[j] == 1 and is_beside(e, j, f, players, foods):
                levels += players[e, j, LEVEL]
        level = foods[e, f, LEVEL]
        enough = levels >= level
        for j in range(i, n_players):
            if loads[j] == 1 and is_beside(e, j, f, players, foods):
                loads[j] = 0
                if enough:
                    shares[e, j] = float(players[e, j, LEVEL] * level) / float(levels * numbers[e, SPAWNED])
                    events[e, j, LOADED], events[e, j, FAILED] = 1.0, 0.0
                else:
                    shares[e, j] -= penalty
        if enough:
            foods[e, f, LEVEL] = 0
            numbers[e, LEFT] -= 1


@njit(nogil=True, cache=True)
def first_bad_action(actions):  # type: ignore[no-untyped-def]
    """Return the index of the first environment with an action outside 0..5, -1 if there is none."""
    for e in range(actions.shape[0]):
        for i in range(actions.shape[1]):
            if actions[e, i] < NONE or actions[e, i] > LOAD:
                return e
    return -1


@njit(nogil=True, cache=True)
def step_all(  # type: ignore[no-untyped-def]
    actions,
    players,
    foods,
    numbers,
    streams,
    rules,
    penalty,
    targets,
    loads,
    obs,
    features,
    last_obs,
    last_features,
    events,
    shares,
    reward,
    ended,
):
    """Make one joint step of all environments, with auto-reset where `rules` ask for it.

    Shapes are actions [E, A], obs and last_obs [E, A, O], features and last_features [E, A, 8], events [E, A, 2],
    shares [E, A], reward [E], ended [3, E]; targets and loads [A] are room to work in. What is written: obs and
    features of the state to act from next, last_obs and last_features of s', before auto-reset.

    Returns -1, or the index of the first environment with an action out of range (nothing has been changed then).
    """
    bad = first_bad_action(actions)
    if bad >= 0:
        return bad
    for e in range(players.shape[0]):
        move(e, actions, players, foods, rules, targets, loads)
        load(e, players, foods, numbers, penalty, loads, shares, events)
        paid = 0.0
        for i in range(players.shape[1]):
            paid += shares[e, i]
        reward[e] = paid
        numbers[e, CLOCK] += 1
        # the last item in the last step terminates and does not truncate
        done = numbers[e, LEFT] == 0
        late = numbers[e, CLOCK] >= rules[N_MAX] and not done
        ended[TERMINATED, e] = ended[SUCCESS, e] = done
        ended[TRUNCATED, e] = late
        # s' first, then the state to act from next, which is s' itself where the episode goes on
        write_view(e, players, foods, numbers, rules, last_obs, last_features)
        if (done or late) and rules[AUTO_RESET] == 1:
            numbers[e, EPISODE] += 1
            start_stream(streams, e, numbers[e, EPISODE])
            place(e, players, foods, numbers, streams, rules)
            write_view(e, players, foods, numbers, rules, obs, features)
        else:
            obs[e] = last_obs[e]
            features[e] = last_features[e]
    return -1
