"""Return decomposition: each agent is paid what a fitted network says its step adds to the episode's return.

`rl.signals.learned.return_decomposition` fits the networks, and says where the idea comes from. The payment is no
potential, so it may be annealed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from ....errors import SignalError
from ..expression import Expression, parse_expression
from .agent_masks import named_agents
from .base import BaseTerm, CompiledTerm, Reads, TermName, Values, zero_where_gone
from .bounds import Bound
from .potential import expression_for, group_states

if TYPE_CHECKING:
    from ...experience.rollout import Transitions
    from ...experience.transition_sample import TransitionSample
    from ...task import FloatArray, TaskSpec
    from ..scorer import Scorer, Scorers

MAX_WEIGHT = 10

Factor = Annotated[str, Field(min_length=1, max_length=400)]
Inputs = Literal["features", "observations"] | Annotated[tuple[Factor, ...], Field(min_length=1, max_length=16)]


# The prompt of the Generator shows this docstring to models, as the schema's description.
class DecompositionTerm(BaseTerm):
    """Each agent's share r̂ in the return of an episode, a step at a time (return decomposition), by a network that was
    fitted to the run's own episodes so that Σ_t Σ_i r̂ is the return. Paid as N·r̂ for N agents: their mean adds up to
    the return.

    `scorer`: the network's name in the run's folder of scorers. `inputs`: what it reads of s and s′−s, *features*,
    *observations*, or a list of expressions over features. `agent_ids`: whether it reads the agent's number, too.
    `agents`: the group that it was fitted for. `anneal_steps` as of a potential. `bound`: as of an event, about 0.
    """

    name: TermName
    kind: Literal["decomposition"] = "decomposition"
    scorer: str = Field(pattern=r"^[0-9a-f]{16}$")
    inputs: Inputs = "features"
    agent_ids: bool = True
    weight: float = Field(default=1.0, ge=-MAX_WEIGHT, le=MAX_WEIGHT)
    agents: str
    anneal_steps: int | None = Field(default=None, ge=1_000)
    bound: Bound = Field(default="none", exclude_if=lambda bound: bound == "none")

    @property
    def bounded_by(self) -> tuple[Bound, float]:
        """The bound; clipped, it pays for no step and charges for bad ones."""
        return self.bound, 0.0

    @property
    def scorers(self) -> tuple[str, ...]:
        """The name of its network."""
        return (self.scorer,)

    @property
    def reads_observations(self) -> bool:
        """Whether it is computed from what agents observe."""
        return self.inputs == "observations"

    @property
    def reads_all_features(self) -> bool:
        """Whether it reads every feature that an agent has."""
        return self.inputs == "features"

    @property
    def reads(self) -> Reads:
        """All features in its factors; none where it reads all that there are."""
        if isinstance(self.inputs, str):
            return Reads()
        return Reads(features=frozenset[str]().union(*(parse_expression(x).names() for x in self.inputs)))

    def describe(self) -> str:
        read = self.inputs if isinstance(self.inputs, str) else f"{len(self.inputs)} factors"
        bound = "" if self.bound == "none" else f", bound {self.bound}"
        weight = f"weight {self.weight:g}"
        return f"decomposition {self.name}: network {self.scorer} of {read} ({weight}{bound}{self.for_whom})"

    def compile(self, spec: TaskSpec, scorers: Scorers) -> CompiledDecomposition:
        scorer, masks = scorers.get(self.scorer), named_agents(self, spec)
        factors = [] if isinstance(self.inputs, str) else [expression_for(self, x, spec)[0] for x in self.inputs]
        for g, mask in enumerate(masks):
            size = input_size(spec, g, self.inputs, self.agent_ids)
            if mask.any() and scorer.obs_size != size:
                raise SignalError(
                    f"term {self.name!r}: network {self.scorer!r} takes {scorer.obs_size} numbers, agents of "
                    f"{spec.groups[g].name!r} give {size}; name the group, inputs and agent_ids that it was fitted for"
                )
        return CompiledDecomposition(self, spec, masks, scorer, factors)


@dataclass(frozen=True)
class CompiledDecomposition(CompiledTerm):
    """Return decomposition for one task."""

    term: DecompositionTerm
    scorer: Scorer
    factors: Sequence[Expression]

    def rewards(self, transitions: Transitions, gamma: float) -> list[Values]:  # noqa: ARG002 nothing is discounted
        """Return [g] [..., A_g]: N·r̂ of each agent; nothing for one that had left before.

        Raises:
            SignalError: observations are read and there are none.
        """
        values: list[Values] = [np.zeros(x.shape[:-1]) for x in transitions.features]
        for g, mask in enumerate(self.masks):
            if mask.any():
                read = network_inputs(self.spec, g, self.term.inputs, self.term.agent_ids, transitions, self.factors)
                values[g][...] = self.scorer.score(read)
        return zero_where_gone(values, transitions.alive)

    def notes(self, recorded: TransitionSample) -> Iterator[str]:  # noqa: ARG002 nothing is computed
        """Say that it is no potential."""
        yield f"term {self.term.name!r} pays by a fitted network and is no potential: it may change what is optimal"


# ------------------------------------------------------------ what the networks read


def parse_factors(inputs: Inputs) -> list[Expression]:
    """Return the factors among `inputs`. Raises ExpressionError where one is outside the grammar."""
    return [] if isinstance(inputs, str) else [parse_expression(text) for text in inputs]


def input_size(spec: TaskSpec, g: int, inputs: Inputs, agent_ids: bool) -> int:
    """Return D_g, how many numbers a network of group g reads."""
    group = spec.groups[g]
    of_state = {"features": len(group.features), "observations": group.obs_size}
    size = of_state[inputs] if isinstance(inputs, str) else len(inputs)
    return 2 * size + agent_ids * len(group.agents)


def network_inputs(
    spec: TaskSpec,
    g: int,
    inputs: Inputs,
    agent_ids: bool,
    transitions: Transitions,
    factors: Sequence[Expression] = (),
) -> FloatArray:
    """Return [..., A_g, D_g]: what networks of group g read: s, s′ − s and the agent's number (one-hot).

    Args:
        spec: the task.
        g: the group.
        inputs: what is read of s and of the change to s′.
        agent_ids: whether the agent's number is.
        transitions: arrays [g] [..., A_g, …].
        factors: `inputs` parsed, where these are expressions.

    Raises:
        SignalError: observations are read and there are none.
    """
    if inputs == "features":
        before, after = transitions.features[g], transitions.last_features[g]
    elif inputs == "observations":
        if not transitions.obs:
            raise SignalError("return decomposition by observations needs some, which were not recorded; keep them")
        before, after = transitions.obs[g], transitions.last_obs[g]
    else:
        before, after = (_factor_values(spec, g, factors, x) for x in (transitions.features, transitions.last_features))
    parts = [before, after - before]
    if agent_ids:
        n_agents = before.shape[-2]
        parts.append(np.broadcast_to(np.eye(n_agents, dtype=np.float32), (*before.shape[:-1], n_agents)))
    return np.concatenate(parts, -1, dtype=np.float32)


def _factor_values(spec: TaskSpec, g: int, factors: Sequence[Expression], features: list[FloatArray]) -> FloatArray:
    """Return [..., A_g, d]: the d factors of each agent's state, by features [g] [..., A_g, F_g] of all agents."""
    team = group_states(spec, features)
    shape = features[g].shape[:-1]
    return np.stack([np.broadcast_to(factor.evaluate(team[g]), shape) for factor in factors], -1).astype(np.float32)
