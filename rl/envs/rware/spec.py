"""The spec of the robotic warehouse: settings, map, rules in words, features with their true bounds, events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Literal

from ...task import EventSpec, FeatureSpec, GroupSpec, TaskSpec
from ..adapter import require_at_least, require_flags

Size = Literal["tiny", "small", "medium", "large"]
Difficulty = Literal["easy", "normal", "hard"]
ObservationType = Literal["flattened", "image", "image_dict"]

SHELVES: dict[str, tuple[int, int]] = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5)}
REQUESTS_PER_AGENT: dict[str, float] = {"easy": 2, "normal": 1, "hard": 0.5}
COLUMN_HEIGHT = 8
HEADINGS = ("up", "down", "left", "right")
FACING = "^v<>"  # the same in a picture
ACTION_NAMES = ("none", "forward", "left", "right", "load")
Robot = tuple[int, int, int, int | None]  # column, row, heading, the shelf that it carries
IMAGE = (3, 3, 5)  # rows, columns, layers: shelves, requested ones, agents, goals, cells without an agent
# By type: the agent itself and the nine cells around it; an image of these; six numbers of the agent, and the image.
OBS_SIZES: dict[str, int] = {"flattened": 8 + 9 * 7, "image": 45, "image_dict": 6 + 45}

_RULES = """\
{agents} agents move on a grid of {width}x{height} cells. x runs from 0 to {last_x} to the right, y from 0 to {last_y}
downwards.
{grid}
'S' is a place of a shelf, '.' a way, 'G' a goal. At the start every place has its shelf, and the agents are on random
cells with random headings. {requests} shelves are requested at any time.
Actions: none, forward (one cell ahead), left, right (a quarter turn), load. Load lifts the shelf of the agent's cell;
an agent that carries one puts it down, on a place only.
An agent without a shelf passes below shelves; one that carries a shelf cannot enter a cell where a shelf stands. No two
agents share a cell: where several want one, one of them moves at most, and two cannot swap cells.
A requested shelf is delivered when the agent that carries it is on a goal. Another shelf is requested in its place at
random, and the delivered one stays with the agent.
Team reward: 1 for each delivery. The episode ends at the time limit of {n_max} steps.
Each agent observes {view}"""

_VIEWS = {
    "flattened": "its cell, heading and load, and agents, shelves and requests in the 3x3 cells around it.",
    "image": "shelves, requested ones, agents, goals and cells without agents among the 3x3 cells around it{turned}.",
    "image_dict": "its heading, load and whether it is on a way, and shelves, requested ones, agents, goals and cells "
    "without agents among the 3x3 cells around it{turned}.",
}

EVENTS = (
    EventSpec(name="shelf_delivered", description="The agent delivered a requested shelf."),
    EventSpec(name="requested_shelf_lifted", description="The agent lifted a requested shelf.", repeatable=True),
    EventSpec(name="shelf_lifted", description="The agent lifted a shelf, requested or not.", repeatable=True),
    EventSpec(name="shelf_put_down", description="The agent put its shelf down.", repeatable=True),
)


@dataclass(frozen=True, kw_only=True)
class WarehouseSettings:
    """What upstream's names `rware[-img|-imgdict][-Nd]-{size}-{agents}ag[-easy|-hard]-v2` settle.

    Attributes:
        size: of the warehouse: tiny is 10x11 cells, small 10x20, medium 16x20, large 16x29.
        agents: robots.
        difficulty: requested shelves for each agent: easy 2, normal 1, hard 1/2 (rounded down).
        observation_type: what agents observe: numbers, an image (`-img`), or a few numbers and an image (`-imgdict`).
        directional: images are turned so that the agent looks up; false in `-Nd`.
        agent_ids: agents also observe, one-hot, which of them they are; not beside an image.
        n_max: time limit of an episode in steps.

    Raises:
        ValueError: a number is too small, or too many for the map, or a word is none of these.
    """

    size: Size = "tiny"
    agents: int = 2
    difficulty: Difficulty = "normal"
    observation_type: ObservationType = "flattened"
    directional: bool = True
    agent_ids: bool = False
    n_max: int = 500

    def __post_init__(self) -> None:
        # `task.env_args` may hold any words
        words = (
            ("size", self.size, SHELVES),
            ("difficulty", self.difficulty, REQUESTS_PER_AGENT),
            ("observation_type", self.observation_type, OBS_SIZES),
        )
        for name, value, known in words:
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}; correct it")
        require_flags(directional=self.directional, agent_ids=self.agent_ids)
        if self.agent_ids and self.observation_type != "flattened":
            raise ValueError(f"agent_ids must be false with observation_type {self.observation_type}; remove either")
        require_at_least(1, agents=self.agents, n_max=self.n_max)
        require_at_least(1, requests=self.requests)
        if self.agents > self.width * self.height or self.requests >= len(self.places):
            raise ValueError(
                f"agents must fit on {self.width * self.height} cells, and their requests be fewer than "
                f"{len(self.places)} shelves, got {self.agents} with {self.requests}; lower agents, or enlarge size"
            )

    @property
    def requests(self) -> int:
        """Shelves that are requested at any time; rounded down, as upstream does."""
        return int(self.agents * REQUESTS_PER_AGENT[self.difficulty])

    # ------------------------------------------------------------ the map, `Warehouse._make_layout_from_params`

    @property
    def width(self) -> int:
        return 3 * SHELVES[self.size][1] + 1

    @property
    def height(self) -> int:
        return (COLUMN_HEIGHT + 1) * SHELVES[self.size][0] + 2

    @property
    def goals(self) -> list[tuple[int, int]]:
        """Cells (x, y) where shelves are delivered."""
        return [(self.width // 2 - 1, self.height - 1), (self.width // 2, self.height - 1)]

    @property
    def places(self) -> list[tuple[int, int]]:
        """Cells (x, y) of shelves, row by row."""
        queue = range(self.width // 2 - 1, self.width // 2 + 1)

        def is_way(x: int, y: int) -> bool:
            in_queue = y > self.height - (COLUMN_HEIGHT + 3) and x in queue
            return x % 3 == 0 or y % (COLUMN_HEIGHT + 1) == 0 or y == self.height - 1 or in_queue

        return [(x, y) for y in range(self.height) for x in range(self.width) if not is_way(x, y)]

    # ------------------------------------------------------------ what is declared

    def description(self) -> str:
        """Return the rules in words, without advice."""
        grid = [["."] * self.width for _ in range(self.height)]
        for sign, cells in (("S", self.places), ("G", self.goals)):
            for x, y in cells:
                grid[y][x] = sign
        return _RULES.format(
            agents=self.agents,
            width=self.width,
            height=self.height,
            last_x=self.width - 1,
            last_y=self.height - 1,
            grid="\n".join("".join(row) for row in grid),
            requests=self.requests,
            n_max=self.n_max,
            view=_VIEWS[self.observation_type].format(turned=", turned so that it looks up" * self.directional),
        )

    def feature_specs(self) -> Sequence[FeatureSpec]:
        """Return the features of every agent, with bounds of the values that can occur."""
        last_x, last_y = self.width - 1, self.height - 1
        far = last_x + last_y
        flags = {
            "carrying": "1 while the agent carries a shelf.",
            "carrying_requested": "1 while the agent carries a requested shelf.",
            "on_requested_shelf": "1 while a requested shelf that nobody carries stands in the agent's cell.",
            "on_place": "1 while the agent is on a place of a shelf.",
        }
        return (
            *(FeatureSpec(name=name, kind="flag", low=0, high=1, description=text) for name, text in flags.items()),
            FeatureSpec(
                # without `done`: 0 is also who stands below the shelf
                name="dist_requested_shelf", kind="distance", low=0, high=far, unit="cells",
                description="Manhattan distance to the nearest requested shelf that nobody carries; 0 when there is "
                "none.",
            ),
            FeatureSpec(
                name="dist_goal", kind="distance", low=0, high=far, unit="cells",
                description="Manhattan distance to the nearest goal.",
            ),
            FeatureSpec(
                name="x", kind="position", low=0, high=last_x, unit="cells", description="Column of the agent."
            ),
            FeatureSpec(name="y", kind="position", low=0, high=last_y, unit="cells", description="Row of the agent."),
            FeatureSpec(
                name="heading", kind="quantity", low=0, high=3,
                description="Direction the agent faces: 0 up, 1 down, 2 left, 3 right.",
            ),
        )  # fmt: skip


def warehouse_spec(settings: WarehouseSettings) -> TaskSpec:
    """Return the spec of the compiled task. It is cheap: no compiled code is loaded."""
    group = GroupSpec(
        name="agents",
        agents=tuple(f"agent_{i}" for i in range(settings.agents)),
        obs_size=OBS_SIZES[settings.observation_type] + settings.agents * settings.agent_ids,
        n_actions=len(ACTION_NAMES),
        action_names=ACTION_NAMES,
        features=tuple(settings.feature_specs()),
        events=EVENTS,
        image=IMAGE if settings.observation_type == "image" else None,
    )
    return TaskSpec(
        name="rware",
        description=settings.description(),
        groups=(group,),
        max_steps=settings.n_max,
        has_success=False,
    )


# ---------------------------------------------------------------- a state in words, of the batch and of the original


def describe_warehouse(
    names: Sequence[str], robots: Sequence[Robot], shelves: Sequence[tuple[int, int]], requested: Sequence[int]
) -> str:
    """Return a state in a line of text; shelves are (column, row) by number, and `requested` numbers of them."""
    agents = []
    for name, (x, y, heading, shelf) in zip(names, robots, strict=True):
        load = "" if shelf is None else " with a requested shelf" if shelf in requested else " with a shelf"
        agents.append(f"{name}{load} at ({x},{y}) facing {HEADINGS[heading]}")
    places = ", ".join("({},{})".format(*shelves[shelf]) for shelf in requested)
    return f"{', '.join(agents)}; requested: {places}"


def draw_warehouse(
    settings: WarehouseSettings,
    names: Sequence[str],
    robots: Sequence[Robot],
    shelves: Sequence[tuple[int, int]],
    requested: Sequence[int],
) -> str:
    """Return a state as lines of text, two characters a cell: what stands there, or an agent and the way it faces."""
    cells = [[". "] * settings.width for _ in range(settings.height)]
    # later ones stand on top
    signs = [(cell, "_ ") for cell in settings.places] + [(cell, "G ") for cell in settings.goals]
    signs += [(cell, "R " if shelf in requested else "S ") for shelf, cell in enumerate(shelves)]
    for letter, (x, y, heading, shelf) in zip(ascii_lowercase, robots, strict=False):
        signs.append(((x, y), (letter if shelf is None else letter.upper()) + FACING[heading]))
    for (x, y), sign in signs:
        cells[y][x] = sign
    letters = ", ".join(f"{letter} {name}" for letter, name in zip(ascii_lowercase, names, strict=False))
    key = (
        "Two characters a cell: S shelf, R requested shelf, _ empty place, . way, G goal;"
        f" {letters} with the way it faces, a capital carries a shelf"
    )
    return "\n".join([*("".join(row).rstrip() for row in cells), key])
