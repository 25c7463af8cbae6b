"""Config of signals that are fitted to experience. Imports neither torch nor LangChain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from ....errors import SignalError
from ...base_config import Config
from ...task import TaskSpec
from ..terms.decomposition import MAX_WEIGHT, DecompositionTerm, Inputs, input_size
from ..terms.potential import expression_for

NO_SCORER = "0" * 16  # of a term that is only checked


class DecompositionConfig(Config):
    """Settings of return decomposition, see `return_decomposition`. Those without a source are ours.

    Attributes:
        enabled: whether it is done where credit is unclear.
        episodes: that are played for a fit.
        inputs: what the networks read, see `DecompositionTerm`.
        agent_ids: they read the agent's number in its group, too (LaRe's one-hot).
        subset: steps of an episode in a gradient step (RRD); None for all of them.
        shrink: weight of the squared rewards in the loss; of all ways to share a return it prefers the smallest.
        hidden: units of each ReLU layer.
        lr: learning rate of Adam.
        batch: episodes in a gradient step.
        max_epochs: epochs after which a network stops in any case.
        patience: epochs without a lower loss on the episodes that it holds out, after which it stops.
        held_out: share of the episodes that each network holds out, which stop its training and say how well it fits.
        members: networks a group, whose mean counts.
        least_explained: share of the variance of held-out returns that must be explained for the result to be proposed.
    """

    enabled: bool = False
    episodes: int = Field(default=256, ge=20, le=100_000)
    inputs: Inputs = "features"
    agent_ids: bool = True
    subset: int | None = Field(default=64, ge=2)
    shrink: float = Field(default=5e-4, ge=0)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 64)
    lr: float = Field(default=1e-3, gt=0)
    batch: int = Field(default=32, ge=1)
    max_epochs: int = Field(default=200, ge=1)
    patience: int = Field(default=20, ge=1)
    held_out: float = Field(default=0.2, gt=0, lt=1)
    members: int = Field(default=3, ge=1, le=16)
    least_explained: float = Field(default=0.5, ge=0, le=1)

    @property
    def reads_observations(self) -> bool:
        """Whether the networks read what agents observe."""
        return self.inputs == "observations"

    def check(self, spec: TaskSpec) -> None:
        """Check that networks of every group have something to read.

        Raises:
            SignalError: a factor does not fit the task, or a group has nothing that is read.
        """
        for g, group in enumerate(spec.groups):
            term = DecompositionTerm(name="share", scorer=NO_SCORER, inputs=self.inputs, agents=group.name)
            for text in () if isinstance(self.inputs, str) else self.inputs:
                expression_for(term, text, spec)
            if not input_size(spec, g, self.inputs, agent_ids=False):
                raise SignalError(
                    f"inputs: {self.inputs} must be there for every group of agents, {group.name!r} has none; write "
                    "observations, or declare features"
                )

    def terms(self, spec: TaskSpec, scorers: Mapping[int, str], strength: float = 1.0) -> list[DecompositionTerm]:
        """Return a term for each group of agents that has a network.

        Args:
            spec: the task.
            scorers: names of the networks by the group's number.
            strength: beta · scale of the signal that they will be part of, which potentials set; weights make up for
                it, as far as they may, so that what is paid is N·r̂ itself.
        """
        weight = min(1.0 / strength, MAX_WEIGHT)
        return [
            DecompositionTerm(
                name=f"share_{g}",
                scorer=scorer,
                inputs=self.inputs,
                agent_ids=self.agent_ids,
                weight=weight,
                agents=spec.groups[g].name,
            )
            for g, scorer in scorers.items()
        ]


class LearnedSignalsConfig(Config):
    """Kinds of signals that are fitted to a run's own episodes, and offered to the gate like any proposal."""

    return_decomposition: DecompositionConfig = DecompositionConfig()

    @property
    def read_observations(self) -> bool:
        """Whether what is fitted reads what agents observe, which the run has to keep then."""
        return self.return_decomposition.enabled and self.return_decomposition.reads_observations
