"""The interface of a task: what it consists of, one joint step, and a batch of environments.

Shape legend, used all over `rl/`: `T` time, `E` environments of a batch, `A_g` agents of group `g`, `A` all agents,
`O_g` observation size, `F_g` features, `V_g` events, `U` actions to choose from, `k` numbers of an action in a Box. A
list indexed `[g]` has one entry per group, in `TaskSpec.groups` order. Everything here is numpy and pydantic: the loop
imports it without torch.
"""

from __future__ import annotations

import keyword
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
ActionArray = NDArray[Any]  # int64 [..., A_g] choices, or float32 [..., A_g, k] in -1..1
BoolArray = NDArray[np.bool_]
Arrays = dict[str, NDArray[np.generic]]  # the state of something, by name
Frame = NDArray[np.uint8]  # [height, width, 3] red, green and blue

FeatureKind = Literal["distance", "position", "count", "flag", "quantity"]

# The functions of term expressions, see `signals.expression`, and all words in them that are no features.
MATE_FUNCTIONS = ("mean_mates", "min_mates", "max_mates", "sum_mates", "count_mates")
EXPRESSION_FUNCTIONS = ("min", "max", "abs", "clip", "exp", "exp_distance", "geo", "nearest", *MATE_FUNCTIONS)
EXPRESSION_WORDS = frozenset({*EXPRESSION_FUNCTIONS, *keyword.kwlist})


TASK_FILE = "task.json"  # of a run directory: its `TaskSpec`

# ---------------------------------------------------------------- the declaration of a task


class Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _finite(value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Return a number of something that has a name; raise ValueError, with the name, where it is none."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError(f"must be a finite number in {info.data.get('name')!r}") from None


Number = Annotated[float, WrapValidator(_finite)]


class FeatureSpec(Spec):
    """One named number about one agent.

    Attributes:
        kind: *distance* (0 is there, in `unit`), *position* (a coordinate), *count* (of things done), *flag* (0 or 1),
            *quantity* (anything else).
        low, high: its bounds.
        object: the thing of the task that it is about, empty where nobody says; see `signals.terms.similarity`.
        done: its value once the thing is done or gone, None where it has none; `nearest` skips it. Of a distance only.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    kind: FeatureKind
    low: Number
    high: Number
    done: Number | None = None
    unit: str = ""
    description: str = ""
    object: str = Field(default="", max_length=40, exclude_if=lambda name: not name)

    @field_validator("name")
    @classmethod
    def _is_no_word_of_expressions(cls, name: str) -> str:
        if name in EXPRESSION_WORDS:
            raise ValueError(f"a feature must not be named like a word of term expressions, {name!r} is; rename it")
        return name

    @model_validator(mode="after")
    def _done_is_a_distance(self) -> FeatureSpec:
        if self.done is not None and (self.kind != "distance" or not self.low <= self.done <= self.high):
            raise ValueError(
                f"done must be a value of a feature of kind distance, between its low and high; {self.name!r} is a"
                f" {self.kind} from {self.low:g} to {self.high:g} with done {self.done:g}; correct it or leave it out"
            )
        return self


class EventSpec(Spec):
    """Something that one agent may do in a step (0 or more times).

    Attributes:
        repeatable: it can be done any number of times in an episode without progress, so a bonus on it can be farmed.
        reward: what the team is paid each time somebody does it; 0 where it is not paid for, or nobody says.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    description: str = ""
    repeatable: bool = False
    reward: Number = 0.0


class GroupSpec(Spec):
    """Agents with equal spaces; they share network parameters.

    Their actions are one of `n_actions` choices, or several numbers at once, in a Box.

    Attributes:
        obs_size: O_g.
        image: (height, width, channels) where an observation begins with an image, flat, row by row; else None.
        n_actions: number of choices; 0 in a Box.
        action_bounds: (lowest, highest) of each number in a Box; a policy gives those in -1..1.
        action_names: of the choices, in order; empty where they have none.
        stay: the choice of not acting, None where there is none or nobody says.
    """

    name: str
    agents: tuple[str, ...]
    obs_size: int = Field(ge=1)
    image: tuple[int, int, int] | None = None
    n_actions: int = Field(default=0, ge=0)
    action_bounds: tuple[tuple[float, float], ...] = ()
    action_names: tuple[str, ...] = ()
    stay: int | None = Field(default=None, ge=0)
    features: tuple[FeatureSpec, ...] = ()
    events: tuple[EventSpec, ...] = ()

    @model_validator(mode="after")
    def _either_choices_or_numbers(self) -> GroupSpec:
        if (self.n_actions >= 2) == bool(self.action_bounds):
            raise ValueError("a group needs at least 2 choices (n_actions) or the action_bounds of a Box, not both")
        return self

    @property
    def continuous(self) -> bool:
        return bool(self.action_bounds)

    @property
    def action_shape(self) -> tuple[int, ...]:
        """The shape of one agent's action: (k,) in a Box, () for a choice."""
        return (len(self.action_bounds),) if self.continuous else ()

    @property
    def action_dtype(self) -> type[np.generic]:
        return np.float32 if self.continuous else np.int64

    def action_text(self, action: NDArray[Any]) -> str:
        """Return one agent's action as text: its name, or its numbers."""
        numbers = np.ravel(action)
        if self.continuous:
            return "(" + ", ".join(f"{x:+.2f}" for x in numbers.tolist()) + ")"
        choice = int(numbers[0])
        return self.action_names[choice] if self.action_names else str(choice)

    def feature_names(self) -> list[str]:
        return [feature.name for feature in self.features]

    def event_names(self) -> list[str]:
        return [event.name for event in self.events]


class TaskSpec(Spec):
    """The declaration of a task.

    Attributes:
        return_range: declared (worst, best) undiscounted episode return, or None where it is not known.
        max_steps: the time limit, None where it is not known.
        has_success: whether the task has a test of success.
        has_masks: an action may be forbidden or an agent leave before the others, and a `Step` says so; else all may
            always act.
        deterministic: whether seed and actions decide everything, so that running episodes can be restored.
    """

    name: str
    description: str
    groups: tuple[GroupSpec, ...]
    return_range: tuple[float, float] | None = None
    max_steps: int | None = None
    has_success: bool = True
    has_masks: bool = False
    deterministic: bool = True

    @property
    def agents(self) -> list[str]:
        return [agent for group in self.groups for agent in group.agents]


def work_events(spec: TaskSpec) -> list[tuple[int, int]]:
    """Return (group, place in its events) of the events that cannot be repeated; of all where there are no such."""
    events = [(g, v, event) for g, group in enumerate(spec.groups) for v, event in enumerate(group.events)]
    # Turning or bumping again and again is no work.
    return [(g, v) for g, v, event in events if not event.repeatable] or [(g, v) for g, v, _ in events]


# ---------------------------------------------------------------- one joint step


@dataclass
class Step:
    """One joint step of a batch; arrays may be reused by the task at its next step, so copy what must stay.

    `obs`, `features` are those to act from next, after auto-reset. `last_obs`, `last_features` are s', before
    auto-reset (equal to `obs`, `features` where no episode ended). `events` happened in this step. After `reset`,
    reward and the flags are zero and `last_*` equal the first ones.
    """

    obs: list[FloatArray]  # [g] [E, A_g, O_g]
    features: list[FloatArray]  # [g] [E, A_g, F_g]
    last_obs: list[FloatArray]  # [g] [E, A_g, O_g]
    last_features: list[FloatArray]  # [g] [E, A_g, F_g]
    events: list[FloatArray]  # [g] [E, A_g, V_g]
    reward: FloatArray  # [E] team reward
    terminated: BoolArray  # [E]
    truncated: BoolArray  # [E]
    success: BoolArray  # [E] true on the last step of a successful episode; all false without a success test
    masks: list[BoolArray] | None = None  # [g] [E, A_g, U] actions allowed next; None where the spec has no masks
    last_masks: list[BoolArray] | None = None  # the same in s'; an agent that has left may do its first action only
    alive: list[BoolArray] | None = None  # [g] [E, A_g] false for an agent that has left the running episode
    last_alive: list[BoolArray] | None = None  # the same in s'
    # [E] the episode was cut since its environment crashed, hung or gave something wrong: truncated is true as well,
    # reward 0, s' = s, and the episode counts for nothing; None: that cannot happen
    lost: BoolArray | None = None


def new_step(spec: TaskSpec, num_envs: int) -> Step:
    """Make a step of zeros; all actions are allowed and everybody is alive, where the spec has masks."""
    agents = [len(group.agents) for group in spec.groups]

    def zeros(sizes: list[int]) -> list[FloatArray]:
        return [np.zeros((num_envs, a, n), np.float32) for a, n in zip(agents, sizes, strict=True)]

    def flags() -> BoolArray:
        return np.zeros(num_envs, np.bool_)

    def masks() -> list[BoolArray] | None:
        if not spec.has_masks:
            return None
        return [np.ones((num_envs, a, group.n_actions), np.bool_) for a, group in zip(agents, spec.groups, strict=True)]

    def alive() -> list[BoolArray] | None:
        return [np.ones((num_envs, a), np.bool_) for a in agents] if spec.has_masks else None

    obs, features = [group.obs_size for group in spec.groups], [len(group.features) for group in spec.groups]
    return Step(
        obs=zeros(obs),
        features=zeros(features),
        last_obs=zeros(obs),
        last_features=zeros(features),
        events=zeros([len(group.events) for group in spec.groups]),
        reward=np.zeros(num_envs, np.float32),
        terminated=flags(),
        truncated=flags(),
        success=flags(),
        masks=masks(),
        last_masks=masks(),
        alive=alive(),
        last_alive=alive(),
        lost=flags(),
    )


def unmoved(step: Step, pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> Step:
    """Return `step` as it is before anybody moves.

    `pairs` (array of s, the same of s') are made alike, events, reward and flags become zero; in place.
    """
    for now, last in pairs:
        last[:] = now
    for array in (*step.events, step.reward, step.terminated, step.truncated, step.success):
        array[:] = 0
    if step.lost is not None:
        step.lost[:] = False
    return step


# ---------------------------------------------------------------- an episode as it is shown


@dataclass(frozen=True)
class EpisodeText:
    """An episode as text.

    Attributes:
        lines: one a step.
        pictures: by state, of those asked for that the episode reached; none where the task draws none.
    """

    lines: list[str]
    pictures: dict[int, str]


# ---------------------------------------------------------------- a batch of environments


class BatchedTask(Protocol):
    """`num_envs` copies of one task, stepped together, with auto-reset.

    Episode `n` of environment `e` is reset with `episode_seed(base_seed, e, n)`, so that every episode can be named,
    and the same base seed gives the same episodes in every implementation of a task.
    """

    spec: TaskSpec
    num_envs: int

    def reset(self, base_seed: int) -> Step:
        """Start episode 0 in every environment."""
        ...

    def step(self, actions: list[ActionArray]) -> Step:
        """Take one joint step.

        Args:
            actions: [g] [E, A_g], each in 0..n_actions-1 and allowed by the mask; or [E, A_g, k], clipped to -1..1.
        """
        ...

    def observe(self) -> Step:
        """Return the current observations and features again, without stepping (after `load_state_dict`)."""
        ...

    def reseed(self, base_seed: int) -> None:
        """Change every random stream from now on: the running episodes' and the seeds of the episodes to come."""
        ...

    def state_dict(self) -> Arrays:
        """Return everything needed to continue bit for bit, as plain numpy arrays (no object arrays), copied."""
        ...

    def load_state_dict(self, state: Arrays, fresh: bool = False) -> str | None:
        """Continue from what `state_dict` returned.

        Args:
            state: of the same task and number of environments.
            fresh: begin the next episode in every environment of a task whose episodes can only be played again.

        Returns:
            What was different, where the running episodes could not be brought back and the next ones have begun; None
            where all is as asked for.

        Raises:
            SnapshotError: the state is of another task or number of environments.
        """
        ...

    def episode_text(self, seed: int, actions: list[ActionArray], pictures_of: Collection[int] = ()) -> EpisodeText:
        """Play the episode that starts from reset seed `seed`, and return it as text.

        Args:
            seed: of the reset.
            actions: [g] [T, A_g] or [T, A_g, k].
            pictures_of: states to draw; state 0 is the first one, and t that after step t.
        """
        ...

    def episode_frames(self, seed: int, actions: list[ActionArray], frames_of: Collection[int]) -> dict[int, Frame]:
        """Play the episode that starts from reset seed `seed`, and return the environment's own frames by state.

        It is not played, and nothing returned, where the environment draws none. Arguments are as in `episode_text`.
        """
        ...

    def close(self) -> None:
        """Free what the environments hold. Safe to repeat; nothing else may be called after it."""
        ...


# ---------------------------------------------------------------- seeds and states

_MASK = (1 << 64) - 1


def splitmix64(x: int) -> int:
    """Hash a 64-bit number by one step of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def episode_seed(base_seed: int, env: int, episode: int) -> int:
    """Return the reset seed of one episode, in 0..2**31-1 (what `ParallelEnv.reset(seed=…)` takes everywhere)."""
    return splitmix64(splitmix64(splitmix64(base_seed & _MASK) ^ env) ^ episode) >> 33


def arrays_below(prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> Arrays:
    """Return the arrays whose names begin with `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


# ---------------------------------------------------------------- a hand-written judge of a task

S = TypeVar("S")


class Heuristic(Protocol[S]):
    """The rules of a task by which single agents' moves are judged: the oracle where no model can be asked.

    `S` is whatever the rules need of an environment's state, copied; it must not change when the environment goes on.
    """

    def state(self, env: Any) -> S:
        """Copy the state of the running episode, or the one that it ended in."""
        ...

    def prefers(self, agent: Any, before: S, action: int, after: S) -> int:
        """Judge the agent's own move `action` from `before` to `after`.

        Its mates are taken to act optimally, and all but its own move is taken as unchanged.

        Returns:
            1 where the move helped the team, -1 where it hurt, 0 for no preference.
        """
        ...

    def act(self, agent: Any, state: S) -> int:
        """Return the agent's greedy move by the same rules."""
        ...
