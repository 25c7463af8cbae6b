"""The compiled step of the robotic warehouse: E environments in one call, without allocation and without the GIL.

The rules are those of rware 2.0 (`Warehouse.step`, `reset`). Two things are not upstream's. The random numbers of a
reset, and of the shelf that is requested after a delivery, are those of `random_stream`. And where equally long queues
of agents want the same free cell, that of the lower number moves, while upstream takes the first that networkx comes
to, in the order of a Python set.

Constants are repeated here: numba renews its cache on disk when this file changes, but not when an imported one does.

Arrays: robots [E, A, 4] of column, row, heading and carried shelf; shelves [E, S, 2] of column and row; queue [E, R] of
requested shelves; shelf_at and robot_at [E, H, W], the number of the shelf or agent in a cell and one more, 0 where
there is none; numbers [E, 2]; places [S, 2] and goals [2, 2] of column and row; ways [H, W], 1 where no shelf has its
place.
"""

from __future__ import annotations

from numba import njit

from ..compiled.random_stream import draw_below, start_stream

X, Y, HEADING, CARRIED = 0, 1, 2, 3
NOTHING = -1  # carried
CLOCK, EPISODE = 0, 1  # columns of `numbers`
UP, DOWN, LEFTWARDS, RIGHTWARDS = 0, 1, 2, 3  # headings
NONE, FORWARD, LEFT, RIGHT, LOAD = 0, 1, 2, 3, 4  # actions
# Rows of `ended` [3, E].
TERMINATED, TRUNCATED, SUCCESS = 0, 1, 2
DELIVERED, REQUESTED_LIFTED, LIFTED, PUT_DOWN = 0, 1, 2, 3  # columns of `events` [E, A, 4]
OF_AGENT, OF_CELL = 8, 7  # numbers of a flattened observation about the agent, and about each cell around it
FLATTENED, IMAGE, IMAGE_DICT = 0, 1, 2  # types of observation
SHELVES, REQUESTS, AGENTS, GOALS, FREE = 0, 1, 2, 3, 4  # layers of an image
LAYERS, NUMBERS = 5, 6  # of an image, and about the agent before it


@njit(nogil=True, cache=True, inline="always")
def is_requested(e, shelf, queue):  # type: ignore[no-untyped-def]
    """Return whether a shelf is requested."""
    for r in range(queue.shape[1]):  # noqa: SIM110 numba compiles no generators
        if queue[e, r] == shelf:
            return True
    return False


@njit(nogil=True, cache=True, inline="always")
def is_carried(e, shelf, robots):  # type: ignore[no-untyped-def]
    """Return whether an agent carries a shelf."""
    for i in range(robots.shape[1]):  # noqa: SIM110 numba compiles no generators
        if robots[e, i, CARRIED] == shelf:
            return True
    return False


@njit(nogil=True, cache=True, inline="always")
def draw_unrequested(e, requested, shelves, queue, streams):  # type: ignore[no-untyped-def]
    """Draw one of the shelves that are none of the first `requested` of the queue, each as likely."""
    shelf = draw_below(streams, e, shelves.shape[1])
    again = True
    while again:
        again = False
        for r in range(requested):
            if queue[e, r] == shelf:
                again = True
        if again:
            shelf = draw_below(streams, e, shelves.shape[1])
    return shelf


# ---------------------------------------------------------------- the start of an episode


@njit(nogil=True, cache=True)
def place(e, robots, shelves, queue, shelf_at, robot_at, numbers, streams, places):  # type: ignore[no-untyped-def]
    """Put all shelves on their places, and draw agents and requests from the stream of environment e."""
    height, width = shelf_at.shape[1], shelf_at.shape[2]
    shelf_at[e] = 0
    robot_at[e] = 0
    for s in range(shelves.shape[1]):
        shelves[e, s, X], shelves[e, s, Y] = places[s, X], places[s, Y]
        shelf_at[e, places[s, Y], places[s, X]] = s + 1
    for i in range(robots.shape[1]):
        x, y = draw_below(streams, e, width), draw_below(streams, e, height)
        while robot_at[e, y, x] > 0:
            x, y = draw_below(streams, e, width), draw_below(streams, e, height)
        robot_at[e, y, x] = i + 1
        robots[e, i, X], robots[e, i, Y] = x, y
        robots[e, i, HEADING], robots[e, i, CARRIED] = draw_below(streams, e, 4), NOTHING
    for r in range(queue.shape[1]):
        queue[e, r] = draw_unrequested(e, r, shelves, queue, streams)
    numbers[e, CLOCK] = 0


@njit(nogil=True, cache=True)
def start_all(robots, shelves, queue, shelf_at, robot_at, numbers, streams, places):  # type: ignore[no-untyped-def]
    """Start the episode of its number in every environment."""
    for e in range(robots.shape[0]):
        start_stream(streams, e, numbers[e, EPISODE])
        place(e, robots, shelves, queue, shelf_at, robot_at, numbers, streams, places)


# ---------------------------------------------------------------- what agents see


@njit(nogil=True, cache=True, inline="always")
def write_flattened(e, robots, queue, shelf_at, robot_at, ways, obs):  # type: ignore[no-untyped-def]
    """Fill row e of obs [E, A, 71]: the agent itself, then the nine cells around it, row by row.

    A cell without an agent reads "faces up".
    """
    height, width = shelf_at.shape[1], shelf_at.shape[2]
    for i in range(robots.shape[1]):
        x, y = robots[e, i, X], robots[e, i, Y]
        obs[e, i] = 0.0
        obs[e, i, 0], obs[e, i, 1], obs[e, i, 2] = x, y, robots[e, i, CARRIED] != NOTHING
        obs[e, i, 3 + robots[e, i, HEADING]] = 1.0
        obs[e, i, 7] = ways[y, x]
        at = OF_AGENT
        for row in range(y - 1, y + 2):
            for col in range(x - 1, x + 2):
                inside = 0 <= row < height and 0 <= col < width
                if inside and robot_at[e, row, col] > 0:
                    obs[e, i, at] = 1.0
                    obs[e, i, at + 1 + robots[e, robot_at[e, row, col] - 1, HEADING]] = 1.0
                else:
                    obs[e, i, at + 1 + UP] = 1.0
                if inside and shelf_at[e, row, col] > 0:
                    obs[e, i, at + 5] = 1.0
                    obs[e, i, at + 6] = is_requested(e, shelf_at[e, row, col] - 1, queue)
                at += OF_CELL


@njit(nogil=True, cache=True, inline="always")
def write_images(  # type: ignore[no-untyped-def]
    e, robots, queue, shelf_at, robot_at, ways, goals, sees, obs
):
    """Fill row e of obs [E, A, 45 or 51]: an image of the nine cells around each agent, of an IMAGE_DICT behind six
    numbers: heading (one-hot), whether the agent is on a way, whether it carries a shelf."""
    height, width = shelf_at.shape[1], shelf_at.shape[2]
    for i in range(robots.shape[1]):
        x, y, heading = robots[e, i, X], robots[e, i, Y], robots[e, i, HEADING]
        obs[e, i] = 0.0
        at = 0
        if sees[0] == IMAGE_DICT:
            obs[e, i, heading], obs[e, i, 4] = 1.0, ways[y, x]
            obs[e, i, 5] = robots[e, i, CARRIED] != NOTHING
            at = NUMBERS
        for down in range(-1, 2):
            for right in range(-1, 2):
                # the cell that is shown there: what lies ahead of the agent comes to the top
                row, col = y + down, x + right
                if sees[1] == 1 and heading == DOWN:
                    row, col = y - down, x - right
                elif sees[1] == 1 and heading == LEFTWARDS:
                    row, col = y - right, x + down
                elif sees[1] == 1 and heading == RIGHTWARDS:
                    row, col = y + right, x - down
                if 0 <= row < height and 0 <= col < width:
                    shelf = shelf_at[e, row, col]
                    obs[e, i, at + SHELVES] = shelf > 0
                    obs[e, i, at + REQUESTS] = shelf > 0 and is_requested(e, shelf - 1, queue)
                    obs[e, i, at + AGENTS] = robot_at[e, row, col] > 0
                    obs[e, i, at + FREE] = robot_at[e, row, col] == 0
                    for g in range(goals.shape[0]):
                        if goals[g, X] == col and goals[g, Y] == row:
                            obs[e, i, at + GOALS] = 1.0
                at += LAYERS


@njit(nogil=True, cache=True, inline="always")
def write_view(  # type: ignore[no-untyped-def]
    e, robots, shelves, queue, shelf_at, robot_at, ways, goals, sees, obs, features
):
    """Fill rows e of obs [E, A, O] and features [E, A, 9]; sees [2]: type of observation, and whether it turns."""
    if sees[0] == FLATTENED:
        write_flattened(e, robots, queue, shelf_at, robot_at, ways, obs)
    else:
        write_images(e, robots, queue, shelf_at, robot_at, ways, goals, sees, obs)
    height, width = shelf_at.shape[1], shelf_at.shape[2]
    for i in range(robots.shape[1]):
        x, y = robots[e, i, X], robots[e, i, Y]
        heading, shelf = robots[e, i, HEADING], robots[e, i, CARRIED]

        # in the order of `spec`
        nearest = -1
        for r in range(queue.shape[1]):
            wanted = queue[e, r]
            if not is_carried(e, wanted, robots):
                apart = abs(shelves[e, wanted, X] - x) + abs(shelves[e, wanted, Y] - y)
                if nearest < 0 or apart < nearest:
                    nearest = apart
        to_goal = height + width
        for g in range(goals.shape[0]):
            to_goal = min(to_goal, abs(goals[g, X] - x) + abs(goals[g, Y] - y))
        features[e, i, 0] = shelf != NOTHING
        features[e, i, 1] = shelf != NOTHING and is_requested(e, shelf, queue)
        features[e, i, 2] = nearest == 0
        features[e, i, 3] = ways[y, x] == 0
        features[e, i, 4] = max(nearest, 0)
        features[e, i, 5] = to_goal
        features[e, i, 6] = x
        features[e, i, 7] = y
        features[e, i, 8] = heading


@njit(nogil=True, cache=True)
def view_all(  # type: ignore[no-untyped-def]
    robots, shelves, queue, shelf_at, robot_at, ways, goals, sees, obs, features
):
    """Fill obs and features of every environment."""
    for e in range(robots.shape[0]):
        write_view(e, robots, shelves, queue, shelf_at, robot_at, ways, goals, sees, obs, features)


# ---------------------------------------------------------------- a step


@njit(nogil=True, cache=True, inline="always")
def choose_movers(e, actions, robots, shelf_at, robot_at, targets, ahead, depth, moves):  # type: ignore[no-untyped-def]
    """Write into moves [A] who goes forward, and into targets [A, 2] where to.

    Everybody points at one cell. Who points at a free cell, or at somebody who moves, may move, but of all who want the
    same cell only the one with the longest queue behind itself. Three or more in a ring turn, two cannot swap.

    ahead [A]: the agent in the cell that an agent wants, itself where it stays, NOTHING where the cell is free; depth
    [A]: how many agents stand in the longest queue that ends with an agent.
    """
    n, height, width = robots.shape[1], shelf_at.shape[1], shelf_at.shape[2]
    for i in range(n):
        x, y, heading = robots[e, i, X], robots[e, i, Y], robots[e, i, HEADING]
        to_x, to_y = x, y
        if actions[e, i] == FORWARD:
            to_x = min(max(x + (heading == RIGHTWARDS) - (heading == LEFTWARDS), 0), width - 1)
            to_y = min(max(y + (heading == DOWN) - (heading == UP), 0), height - 1)
        other = robot_at[e, to_y, to_x] - 1
        # who carries a shelf cannot enter a cell where one stands
        stands = shelf_at[e, to_y, to_x] > 0 and (other < 0 or robots[e, other, CARRIED] == NOTHING)
        if stands and other != i and robots[e, i, CARRIED] != NOTHING:
            to_x, to_y, other = x, y, i
        targets[i, X], targets[i, Y], ahead[i] = to_x, to_y, other
        depth[i], moves[i] = 1, 0

    # rings: whoever comes back to itself in three steps or more, or is alone in its ring and stays
    for i in range(n):
        j, steps = ahead[i], 1
        while j != NOTHING and j != i and steps <= n:
            j, steps = ahead[j], steps + 1
        if j == i and steps > 2:
            moves[i] = 1

    # the longest queue behind each agent; n rounds are enough, since none is longer. Those of a ring never move on
    # by their queue, so that it does not matter that theirs has no end.
    for _ in range(n):
        for i in range(n):
            if ahead[i] != NOTHING and ahead[i] != i:
                depth[ahead[i]] = min(max(depth[ahead[i]], depth[i] + 1), n + 1)

    # for each free cell that is wanted: the head of its longest queue, and everybody in that queue
    for i in range(n):
        if ahead[i] != NOTHING:
            continue
        is_head = True
        for j in range(n):
            same = ahead[j] == NOTHING and targets[j, X] == targets[i, X] and targets[j, Y] == targets[i, Y]
            if same and (depth[j] > depth[i] or (depth[j] == depth[i] and j < i)):
                is_head = False
        if not is_head:
            continue
        head = i
        while head != NOTHING:
            moves[head] = 1
            behind = NOTHING
            for j in range(n):
                if j != head and ahead[j] == head and (behind == NOTHING or depth[j] > depth[behind]):
                    behind = j
            head = behind


@njit(nogil=True, cache=True, inline="always")
def turned(heading, action):  # type: ignore[no-untyped-def]
    """Return the heading after a quarter turn."""
    if action == RIGHT:
        return RIGHTWARDS if heading == UP else DOWN if heading == RIGHTWARDS else LEFTWARDS if heading == DOWN else UP
    return LEFTWARDS if heading == UP else DOWN if heading == LEFTWARDS else RIGHTWARDS if heading == DOWN else UP


@njit(nogil=True, cache=True, inline="always")
def act(  # type: ignore[no-untyped-def]
    e, actions, robots, shelves, queue, shelf_at, robot_at, ways, targets, moves, events
):
    """Let all agents act, and fill events but for deliveries."""
    n = robots.shape[1]
    for i in range(n):
        events[e, i] = 0.0
        x, y, shelf = robots[e, i, X], robots[e, i, Y], robots[e, i, CARRIED]
        if actions[e, i] == LEFT or actions[e, i] == RIGHT:
            robots[e, i, HEADING] = turned(robots[e, i, HEADING], actions[e, i])
        elif actions[e, i] == LOAD and shelf == NOTHING and shelf_at[e, y, x] > 0:
            robots[e, i, CARRIED] = shelf_at[e, y, x] - 1
            events[e, i, LIFTED] = 1.0
            events[e, i, REQUESTED_LIFTED] = is_requested(e, robots[e, i, CARRIED], queue)
        elif actions[e, i] == LOAD and shelf != NOTHING and ways[y, x] == 0:
            robots[e, i, CARRIED] = NOTHING
            events[e, i, PUT_DOWN] = 1.0
    # everybody leaves before anybody arrives
    for i in range(n):
        if moves[i] == 1:
            x, y = robots[e, i, X], robots[e, i, Y]
            robot_at[e, y, x] = 0
            if robots[e, i, CARRIED] != NOTHING:
                shelf_at[e, y, x] = 0
    for i in range(n):
        if moves[i] == 1:
            x, y, shelf = targets[i, X], targets[i, Y], robots[e, i, CARRIED]
            robots[e, i, X], robots[e, i, Y] = x, y
            robot_at[e, y, x] = i + 1
            if shelf != NOTHING:
                shelves[e, shelf, X], shelves[e, shelf, Y] = x, y
                shelf_at[e, y, x] = shelf + 1


@njit(nogil=True, cache=True)
def first_bad_action(actions):  # type: ignore[no-untyped-def]
    """Return the index of the first environment with an action outside 0..4, -1 if there is none."""
    for e in range(actions.shape[0]):
        for i in range(actions.shape[1]):
            if actions[e, i] < NONE or actions[e, i] > LOAD:
                return e
    return -1


@njit(nogil=True, cache=True)
def step_all(  # type: ignore[no-untyped-def]
    actions,
    robots,
    shelves,
    queue,
    shelf_at,
    robot_at,
    numbers,
    streams,
    places,
    ways,
    goals,
    sees,
    n_max,
    auto_reset,
    targets,
    room,
    obs,
    features,
    last_obs,
    last_features,
    events,
    shares,
    reward,
    ended,
):
    """Make one joint step of all environments, with auto-reset where it is asked for.

    Shapes are actions [E, A], obs and last_obs [E, A, O], features and last_features [E, A, 9], events [E, A, 4],
    shares [E, A], reward [E], ended [3, E]; targets [A, 2] and room [3, A] are to work in. What is written: obs and
    features of the state to act from next, last_obs and last_features of s', before auto-reset.

    Returns -1, or the index of the first environment with an action out of range (nothing has been changed then).
    """
    bad = first_bad_action(actions)
    if bad >= 0:
        return bad
    for e in range(robots.shape[0]):
        choose_movers(e, actions, robots, shelf_at, robot_at, targets, room[0], room[1], room[2])
        act(e, actions, robots, shelves, queue, shelf_at, robot_at, ways, targets, room[2], events)
        reward[e] = 0.0
        shares[e] = 0.0
        for g in range(goals.shape[0]):
            shelf = shelf_at[e, goals[g, Y], goals[g, X]] - 1
            for r in range(queue.shape[1]):
                if shelf >= 0 and queue[e, r] == shelf:
                    queue[e, r] = draw_unrequested(e, queue.shape[1], shelves, queue, streams)
                    carrier = robot_at[e, goals[g, Y], goals[g, X]] - 1
                    shares[e, carrier] += 1.0
                    events[e, carrier, DELIVERED] += 1.0
                    reward[e] += 1.0
                    break
        numbers[e, CLOCK] += 1
        late = numbers[e, CLOCK] >= n_max
        ended[TERMINATED, e] = ended[SUCCESS, e] = False
        ended[TRUNCATED, e] = late
        # s' first, then the state to act from next, which is s' itself where the episode goes on
        write_view(e, robots, shelves, queue, shelf_at, robot_at, ways, goals, sees, last_obs, last_features)
        if late and auto_reset:
            numbers[e, EPISODE] += 1
            start_stream(streams, e, numbers[e, EPISODE])
            place(e, robots, shelves, queue, shelf_at, robot_at, numbers, streams, places)
            write_view(e, robots, shelves, queue, shelf_at, robot_at, ways, goals, sees, obs, features)
        else:
            obs[e] = last_obs[e]
            features[e] = last_features[e]
    return -1
