"""The two base classes of terms, and what the kinds share.

A kind of term is two classes in one file. A `BaseTerm` is data: the fields that are written to JSON, and what follows
from them alone. Its `compile` makes a `CompiledTerm` for one task: the agents that it applies to, its value on arrays
of transitions, and what speaks against it before any training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..expression import MAX_RESULT
from .bounds import Bound, clipped, delta, running_memory

if TYPE_CHECKING:
    from ...experience.rollout import PlayedInOrder, Rollout, Transitions
    from ...experience.transition_sample import TransitionSample
    from ...task import Arrays, BoolArray, FloatArray, TaskSpec
    from ..scorer import Scorers

TermName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]

SMALLEST_SPREAD = 1e-9  # a potential that varies by less is constant

Values = NDArray[np.float64]


class Model(BaseModel):
    """A frozen record that refuses unknown keys and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reads(NamedTuple):
    """Names that a term needs to be computed."""

    features: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()


# ------------------------------------------------------------ as data


class BaseTerm(Model, ABC):
    """One term of a signal as it is written in configs, proposals and logs.

    Attributes:
        fading_field: the field with the main environment steps over which the term's weight goes to zero.
        anneals: whether the term stays at full weight until that field is set.
        reads_from: the field whose text names the features or events that the term reads, empty for none.
    """

    fading_field: ClassVar[str] = "anneal_steps"
    anneals: ClassVar[bool] = True
    reads_from: ClassVar[str] = ""

    if TYPE_CHECKING:
        # Every kind has these fields, each at its own place in the JSON, whose order models and logs see. Fields of a
        # base class would come first.
        name: TermName
        kind: str
        weight: float
        agents: str | list[str]

    @property
    def reads_observations(self) -> bool:
        """Whether it is computed from what agents observe."""
        return False

    @property
    def acts_on_advantages(self) -> bool:
        """Whether it is added to advantages instead of rewards, so that it pays nothing."""
        return False

    @property
    def bounded_by(self) -> tuple[Bound, float]:
        """How what repeating a step pays is bounded, and η of `clip`."""
        return "none", 0.0

    @property
    def pays_repeats(self) -> bool:
        """Whether an event that it reads pays each time, so that one which repeats without progress can be farmed."""
        return False

    @property
    def remembers(self) -> bool:
        """Whether what it pays depends on other steps of the episode, so that steps have to come in order."""
        return self.bounded_by[0] == "delta"

    @property
    def reads_all_features(self) -> bool:
        """Whether it reads every feature that an agent has, which `reads` then does not name."""
        return False

    @property
    def reads(self) -> Reads:
        """Names of the features and events that it reads.

        Raises:
            ExpressionError: its expression is outside the grammar.
        """
        return Reads()

    @property
    def scorers(self) -> tuple[str, ...]:
        """Names of the fitted scorers that it is computed with."""
        return ()

    @property
    def potential_key(self) -> tuple[str, str] | None:
        """A key that equal Φ for equal agents have in common, weights apart; None for a term that is no potential."""
        return None

    @property
    def is_potential(self) -> bool:
        """True for a term that shapes by γΦ(s′)−Φ(s), which changes no optimum."""
        return self.potential_key is not None

    @property
    def fades_over(self) -> int | None:
        """Main environment steps over which its weight goes to zero, None for a term that stays."""
        steps: int | None = getattr(self, self.fading_field)
        return steps

    def fading_over(self, steps: int | None) -> Self:
        """Return the same term that fades over `steps`; None makes an annealing term stay."""
        return self.model_copy(update={self.fading_field: steps})

    def at_age(self, age: int) -> Self:
        """Return it with the weight that is left `age` main steps after its version's first update."""
        if not self.fades_over:
            return self
        return self.model_copy(update={"weight": self.weight * float(fading(age, self.fades_over))})

    def only_weakens(self, old: BaseTerm) -> bool:
        """Return whether it is `old` with a weight between zero and the old one, or with a sooner end.

        A term that anneals may begin to, or do so faster; the decay of an event bonus has to stay what it is.
        """
        if type(self) is not type(old):
            return False
        # The old term with all that may differ taken from this one; equal to it means that nothing else differs.
        less: dict[str, object] = {"weight": self.weight}
        before, now = old.fades_over, self.fades_over
        if self.anneals and now is not None and (before is None or now <= before):
            less[self.fading_field] = now
        same = self == old.model_copy(update=less)
        return same and abs(self.weight) <= abs(old.weight) and self.weight * old.weight >= 0

    @property
    def for_whom(self) -> str:
        """The end of its description: whom it is for, empty where that is everybody."""
        agents = self.agents if isinstance(self.agents, str) else " ".join(self.agents)
        return "" if agents == "all" else f", for {agents}"

    @abstractmethod
    def describe(self) -> str:
        """Return one line of text: kind, name, what it is, weight, and whom it is for where that is not everybody."""

    @abstractmethod
    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledTerm:
        """Make it computable on arrays of the task `spec`, with scorers from `scorers`.

        Raises:
            SignalError: the term does not fit the task, or its scorer is not there.
        """


def fading(steps_since_start: ArrayLike, over_steps: int | None) -> Values:
    """Return the share of a weight that is left: 1 at the version's start, falling linearly to 0 after `over_steps`.

    Both the decay of event bonuses and the annealing of potentials. With `over_steps` None it is 1 for ever. The result
    has the shape of `steps_since_start`.
    """
    age = np.asarray(steps_since_start, np.float64)
    return np.ones_like(age) if over_steps is None else np.clip(1.0 - age / over_steps, 0.0, 1.0)


# ------------------------------------------------------------ compiled for a task


@dataclass(frozen=True)
class CompiledTerm(ABC):
    """A term ready to be computed on arrays of one task. The shapes are those of `rl/task.py`.

    Attributes:
        term: the term as data.
        spec: the task.
        masks: [g] [A_g], true for the agents that it applies to.
    """

    term: BaseTerm
    spec: TaskSpec
    masks: list[BoolArray]

    @abstractmethod
    def rewards(self, transitions: Transitions, gamma: float) -> list[Values]:
        """Return [g] [..., A_g]: F of each transition, without bound, weight, strength and fading.

        Of a term that remembers, each transition counts as the first of an episode.
        """

    def rewards_in_order(self, played: PlayedInOrder, gamma: float, memory: Arrays) -> list[Values]:  # noqa: ARG002
        """Return `rewards` of consecutive steps, [g] [T, E, A_g]; `memory` is brought forward in place."""
        return self.rewards(played, gamma)

    def new_memory(self, envs: int) -> Arrays:
        """Return what it remembers of the running episodes of so many environments, at their start."""
        return running_memory(envs) if self.term.bounded_by[0] == "delta" else {}

    def paid(self, transitions: Transitions, gamma: float) -> list[Values]:
        """Return [g] [..., A_g]: what each transition pays, with its bound, where nothing is known of other steps."""
        return self._clipped(self.rewards(transitions, gamma), transitions.alive)

    def paid_in_order(self, played: PlayedInOrder, gamma: float, memory: Arrays) -> list[Values]:
        """Return [g] [T, E, A_g]: what consecutive steps pay, with its bound; `memory` is brought forward in place."""
        values = self._clipped(self.rewards_in_order(played, gamma, memory), played.alive)
        if self.term.bounded_by[0] == "delta":
            values = [delta(x, played.done, memory["running"], gamma) for x in values]
            memory["running"][:] = 1.0 - played.done[-1]
        return values

    def _clipped(self, values: list[Values], alive: list[BoolArray] | None) -> list[Values]:
        bound, eta = self.term.bounded_by
        if bound != "clip":
            return values
        # whom the term is not for is not paid less
        return zero_where_gone(
            [np.where(mask, clipped(x, eta), 0.0) for x, mask in zip(values, self.masks, strict=True)], alive
        )

    def bonuses(self, events: list[FloatArray]) -> list[Values] | None:  # noqa: ARG002
        """Return [g] [..., A_g]: what `events` [g] [..., A_g, V_g] earn before any decay; None where nothing ever."""
        return None

    def step_rewards(self, rollout: Rollout) -> list[Values] | None:  # noqa: ARG002
        """Return [g] [..., A_g]: what is added to advantages of so many deviations; None where nothing ever."""
        return None

    def misuse(self) -> Iterator[str]:
        """Give a line for each reason why this task must not be shaped with the term, whatever its weight."""
        yield from ()

    def largest_strength(self, width: float) -> float:  # noqa: ARG002
        """Return the largest beta · scale at which the term may pay, where returns differ by `width`."""
        return float("inf")

    def excess(self, strength: float, return_range: tuple[float, float] | None) -> Iterator[str]:  # noqa: ARG002
        """Give a line where the term pays too much at `strength` = beta · scale, for returns in `return_range`."""
        yield from ()

    def notes(self, recorded: TransitionSample) -> Iterator[str]:  # noqa: ARG002
        """Give a line for each thing worth knowing about the term on recorded transitions."""
        yield from ()


@dataclass(frozen=True)
class CompiledStateTerm(CompiledTerm):
    """A term that gives every state a value, Φ or σ, and pays for the change from s to s′.

    Unless a kind says otherwise it is a potential, and pays γΦ(s′) − Φ(s).
    """

    @abstractmethod
    def state_values(self, features: list[FloatArray], obs: list[FloatArray] | None) -> list[Values]:
        """Return [g] [..., A_g]: the value of each agent's state, without weight; zero for agents it is not for.

        Args:
            features: [g] [..., A_g, F_g].
            obs: [g] [..., A_g, O_g], None or empty where observations are not known.
        """

    def rewards(self, transitions: Transitions, gamma: float) -> list[Values]:
        """Return [g] [..., A_g]: γΦ(s′) − Φ(s)."""
        before, after = self.before_and_after(transitions)
        ended = np.asarray(transitions.terminated)[..., None]
        return [potential_shaping(a, b, gamma, ended) for a, b in zip(before, after, strict=True)]

    def before_and_after(self, transitions: Transitions) -> tuple[list[Values], list[Values]]:
        """Return the values of s and of s′, [g] [..., A_g] each, zero for agents that have left."""
        before = self.state_values(transitions.features, transitions.obs)
        after = self.state_values(transitions.last_features, transitions.last_obs)
        return zero_where_gone(before, transitions.alive), zero_where_gone(after, transitions.last_alive)

    def notes(self, recorded: TransitionSample) -> Iterator[str]:
        """Give lines where the values are clipped on recorded states, or constant."""
        if not len(recorded.terminated):
            return
        # In float32, the precision that rewards have.
        values = [x.astype(np.float32) for x in self.state_values(recorded.features, recorded.obs)]
        clipped = np.mean(np.concatenate([np.abs(x).ravel() for x in values]) >= MAX_RESULT)
        if clipped > 0:
            yield f"potential {self.term.name!r} is clipped at ±{MAX_RESULT:g} for {clipped:.0%} of recorded states"
        if spread(values) < SMALLEST_SPREAD:
            yield f"potential {self.term.name!r} is constant on recorded states, so it shapes nothing that happens now"


def potential_shaping(
    before: NDArray[Any], after: NDArray[Any], gamma: float, terminated: ArrayLike
) -> NDArray[np.float64]:
    """Return γΦ(s′)(1 − terminated) − Φ(s), which leaves the optimal policies what they are (Ng, Harada, Russell 1999).

    Φ(s′) counts as zero where the episode truly terminated, and only there: at a time limit the value is bootstrapped,
    and zeroing Φ would pay every time-out |Φ|. So a constant in Φ matters at terminations: learned scores are anchored.

    Args:
        before: Φ(s), [..., A_g].
        after: Φ(s′), s′ being the state before auto-reset, [..., A_g].
        gamma: the discount factor, in 0..1.
        terminated: 0 or 1, in a shape that broadcasts to the others.
    """
    return np.asarray(gamma * after * (1.0 - np.asarray(terminated, np.float64)) - before)


def zero_where_gone(values: list[NDArray[Any]], alive: list[BoolArray] | None) -> list[NDArray[Any]]:
    """Return `values` [g] [..., A_g] with zeros for agents that have left; `alive` None: nobody leaves early."""
    return values if alive is None else [x * y for x, y in zip(values, alive, strict=True)]


def spread(values: list[FloatArray]) -> float:
    """Return the root mean square over agents of the standard deviation over states of [g] [N, A_g]."""
    deviations = np.concatenate([x.astype(np.float64).std(axis=0) for x in values])
    return float(np.sqrt(np.mean(deviations**2)))
