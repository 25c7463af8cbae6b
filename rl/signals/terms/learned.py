"""Learned terms: a scorer σ of observations, fitted to rankings of state pairs, in one of two forms.

The *potential* form pays γσ(s′) − σ(s), as a potential does. The *difference* form is the paper's own, Eq. 4 of LCA
(Lin et al., arXiv 2502.03723), which is no potential.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ....errors import SignalError
from .agent_masks import named_agents
from .base import BaseTerm, CompiledStateTerm, TermName, Values
from .bounds import Bound

if TYPE_CHECKING:
    from ...experience.rollout import Transitions
    from ...experience.transition_sample import TransitionSample
    from ...task import BoolArray, FloatArray, TaskSpec
    from ..scorer import Scorer, Scorers


# The prompt of the Generator shows this docstring to models, as the schema's description.
class LearnedTerm(BaseTerm):
    """A scorer σ that was fitted to rankings of state pairs (LCA, Lin et al., arXiv 2502.03723), as a term.

    `scorer`: its name in the run's folder of scorers, 16 hex digits of its content. `form`: *potential* shapes by
    γσ(s′)−σ(s), anchored so that σ is about 0 at best; *difference* is the paper's Eq. 4, σ(s′)−σ(s) and zero for an
    agent that stays, which is no potential and may change what is optimal. `agents`: a group's name, or names of agents
    that observe what the scorer was fitted to. `anneal_steps` as of a potential. `bound`: as of an event, about 0; of
    the difference form, for a potential telescopes already.
    """

    name: TermName
    kind: Literal["learned"] = "learned"
    scorer: str = Field(pattern=r"^[0-9a-f]{16}$")
    form: Literal["potential", "difference"] = "potential"
    weight: float = Field(default=1.0, ge=-10, le=10)
    agents: str | list[str]
    anneal_steps: int | None = Field(default=None, ge=1_000)
    bound: Bound = Field(default="none", exclude_if=lambda bound: bound == "none")

    @model_validator(mode="after")
    def _bounds_the_difference_form(self) -> LearnedTerm:
        if self.form == "potential" and self.bound != "none":
            raise ValueError(
                f"bound must be none in the potential form, whose payments cancel already, got {self.bound!r}; "
                "leave it out"
            )
        return self

    @property
    def bounded_by(self) -> tuple[Bound, float]:
        """The bound; clipped, it pays for no step and charges for bad ones."""
        return self.bound, 0.0

    @property
    def reads_observations(self) -> bool:
        """True: σ is a function of observations."""
        return True

    @property
    def scorers(self) -> tuple[str, ...]:
        """The name of its scorer."""
        return (self.scorer,)

    @property
    def potential_key(self) -> tuple[str, str] | None:
        """The name of the scorer, and whom it is for; None in the difference form."""
        return (self.scorer, repr(self.agents)) if self.form == "potential" else None

    def describe(self) -> str:
        form = ", difference form" if self.form == "difference" else ""
        return f"learned {self.name}: scorer {self.scorer} (weight {self.weight:g}{self.for_whom}{form})"

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledLearned:
        scorer = scorers.get(self.scorer)
        masks = named_agents(self, spec)
        for group, mask in zip(spec.groups, masks, strict=True):
            if mask.any() and group.obs_size != scorer.obs_size:
                raise SignalError(
                    f"term {self.name!r}: scorer {self.scorer!r} takes {scorer.obs_size} observed numbers, agents of "
                    f"{group.name!r} observe {group.obs_size}; name the agents that it was fitted for"
                )
        return CompiledLearned(self, spec, masks, scorer)


@dataclass(frozen=True)
class CompiledLearned(CompiledStateTerm):
    """A learned term for one task."""

    term: LearnedTerm
    scorer: Scorer

    def state_values(self, features: list[FloatArray], obs: list[FloatArray] | None) -> list[Values]:
        """Return [g] [..., A_g]: σ of what each agent observes.

        Raises:
            SignalError: there are no observations.
        """
        if not obs:
            raise SignalError(
                f"learned term {self.term.name!r} needs observations, which were not recorded; "
                "let the run keep them (preferences.ranker)"
            )
        # Only the agents that it is for observe what the scorer takes: the others are never scored.
        values = [np.zeros(x.shape[:-1]) for x in features]
        for g, mask in enumerate(self.masks):
            if mask.any():
                values[g][..., mask] = self.scorer.score(obs[g][..., mask, :])
        return values

    def rewards(self, transitions: Transitions, gamma: float) -> list[Values]:
        """Return [g] [..., A_g]: γσ(s′) − σ(s), or σ(s′) − σ(s) where the agent does not stay."""
        if self.term.form == "potential":
            return super().rewards(transitions, gamma)
        before, after = self.before_and_after(transitions)
        # Where a task does not say what staying is, as in a Box, everybody counts as moved.
        moved = [
            np.ones(value.shape, np.bool_) if group.stay is None else np.asarray(action != group.stay)
            for value, action, group in zip(before, transitions.actions, self.spec.groups, strict=True)
        ]
        return list(map(difference, before, after, moved))

    def notes(self, recorded: TransitionSample) -> Iterator[str]:
        """Give a line where the term is in its difference form, and lines about its values."""
        if self.term.form == "difference":
            yield (
                f"learned term {self.term.name!r} in its difference form is no potential: it may change what is optimal"
            )
        yield from super().notes(recorded)


def difference(before: NDArray[Any], after: NDArray[Any], moved: BoolArray) -> NDArray[np.float64]:
    """Return σ(s′) − σ(s), zero for an agent that stays (Lin et al., arXiv 2502.03723, Eq. 4). All are [..., A_g].

    It is no potential. Undiscounted, a path that ends in the state where it began pays minus what σ changed by while
    the agent stayed: nothing where only its own actions change σ, a gain where its mates lower it meanwhile.
    """
    return np.asarray((after - before) * moved)
