"""A signal compiled for a task: potentials, shaping of transitions, and the frozen scale.

    r_i = r_team + beta · scale · Σ_k w_k F_k,i

F_k is γΦ(s′) − Φ(s) for a potential (Ng, Harada, Russell 1999), the number of events for an event bonus, and
σ(s′) − σ(s), zero where the agent stays, for a scorer in LCA's own form; see `terms`. The weight of a bonus decays, and
that of a term with `anneal_steps` falls to zero, with the age of its version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import SignalError
from ..experience.rollout import PlayedInOrder, Rollout, Transitions
from ..experience.transition_sample import TransitionSample
from ..task import Arrays, BoolArray, FloatArray, TaskSpec
from .scorer import NO_SCORERS, Scorers
from .signal import Signal, is_removal
from .terms.base import CompiledStateTerm, fading

SCALE_RANGE = (1e-3, 1e3)

SignalMemory = list[Arrays]  # [K] what each term remembers of the running episodes, by name [E, …]


@dataclass(frozen=True)
class Shaping:
    """The rewards that are added to the team reward of transitions.

    Attributes:
        total: [g] [..., A_g], the sum of `per_term` and of what another view of the task's reward adds.
        per_term: [K] [g] [..., A_g], by the terms of the signal, in their order.
    """

    total: list[FloatArray]
    per_term: list[list[FloatArray]]

    def of_terms(self) -> list[FloatArray]:
        """Return [g] [..., A_g]: the sum of `per_term`, without what another view of the task's reward adds."""
        zero = [np.zeros_like(x) for x in self.total]
        return [sum((term[g] for term in self.per_term), start=zero[g]) for g in range(len(zero))]


class CompiledSignal:
    """A signal ready to be computed on arrays of features, events and observations of one task.

    Where features and observations are asked for, they are [g] [..., A_g, F_g] and [g] [..., A_g, O_g]. Observations
    are read by learned terms alone, and may be left out where there are none.

    Attributes:
        signal: the signal as data.
        spec: the task.
        terms: its terms, compiled, in their order.

    Raises:
        SignalError: the signal does not fit the task (an ExpressionError for an expression), or its scorers are not in
            `scorers`.
    """

    def __init__(self, signal: Signal, spec: TaskSpec, scorers: Scorers = NO_SCORERS) -> None:
        self.signal = signal
        self.spec = spec
        self.terms = [term.compile(spec, scorers) for term in signal.terms]
        self._state_terms = [term for term in self.terms if isinstance(term, CompiledStateTerm)]

    @property
    def strength(self) -> float:
        """The product beta · scale.

        Raises:
            SignalError: the scale is not frozen yet.
        """
        if self.signal.scale is None:
            raise SignalError("a signal shapes only with a frozen scale, got scale None; set it with frozen_scale")
        return self.signal.beta * self.signal.scale

    @cached_property
    def term_keys(self) -> list[str]:
        """By term its name and 8 hex digits of what it pays for: another term of the same name has another key."""
        contents = [x.model_dump_json(exclude={"weight", x.fading_field}).encode() for x in self.signal.terms]
        digests = [hashlib.sha256(content).hexdigest()[:8] for content in contents]
        return [f"{term.name}.{digest}" for term, digest in zip(self.signal.terms, digests, strict=True)]

    def at_scale(self, scale: float | None) -> CompiledSignal:
        """Return the same terms with another scale."""
        other = copy(self)
        other.signal = self.signal.model_copy(update={"scale": scale})
        return other

    def new_memory(self, envs: int) -> SignalMemory:
        """Return what its terms remember of the running episodes of so many environments, at their start."""
        return [term.new_memory(envs) for term in self.terms]

    def shape(
        self,
        transitions: Transitions,
        gamma: float,
        steps_since_start: ArrayLike = 0,
        memory: SignalMemory | None = None,
    ) -> Shaping:
        """Return what the signal adds to the reward of transitions, with beta · scale · w in it.

        Args:
            transitions: arrays [g] [..., A_g, …], such as a rollout or a sample of a replay.
            gamma: the discount factor of the learner, in 0..1.
            steps_since_start: main environment steps since the version's first update, a number or [...].
            memory: where the transitions are consecutive steps [T, E, …] (`PlayedInOrder`), what terms remember of the
                running episodes; it is brought forward in place. None: each transition is taken by itself.

        Raises:
            SignalError: the scale is not frozen.
        """
        # In float64 up to the end, so that each term is rounded once.
        strength = self.strength
        per_term: list[list[FloatArray]] = []
        for k, compiled in enumerate(self.terms):
            faded = fading(steps_since_start, compiled.term.fades_over)[..., None]
            factor = strength * compiled.term.weight
            if memory is None:
                rewards = compiled.paid(transitions, gamma)
            else:
                rewards = compiled.paid_in_order(cast("PlayedInOrder", transitions), gamma, memory[k])
            per_term.append([(factor * (x * faded)).astype(np.float32) for x in rewards])
        zero = [np.zeros(x.shape[:-1], np.float32) for x in transitions.features]
        total = [sum((term[g] for term in per_term), start=zero[g]) for g in range(len(zero))]
        return Shaping(total, per_term)

    def step_rewards(self, rollout: Rollout, steps_since_start: int) -> list[FloatArray] | None:
        """Return [g] [T, E, A_g]: what is added to advantages, in their standard deviations; None where nothing is.

        Args:
            rollout: what was just played.
            steps_since_start: main environment steps since the version's first update.
        """
        total: list[FloatArray] | None = None
        for compiled in self.terms:
            added = compiled.step_rewards(rollout)
            if added is not None:
                weight = compiled.term.weight * float(fading(steps_since_start, compiled.term.fades_over))
                part = [(weight * x).astype(np.float32) for x in added]
                total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
        return total

    def potential(self, features: list[FloatArray], obs: list[FloatArray] | None = None) -> list[FloatArray]:
        """Return [g] [..., A_g]: Σ_k w_k Φ_k of the potentials, without beta, scale and annealing."""
        return _weighted_sum([x for x in self._state_terms if x.term.is_potential], features, obs)

    def state_values(self, features: list[FloatArray], obs: list[FloatArray] | None = None) -> list[FloatArray]:
        """Return `potential` with the scores of learned terms in either form: what crossing the states is worth."""
        return _weighted_sum(self._state_terms, features, obs)

    def agents_with_values(self) -> list[BoolArray]:
        """Return [g] [A_g]: true for agents to whom at least one potential or scorer applies."""
        masks = [np.zeros(len(group.agents), bool) for group in self.spec.groups]
        for compiled in self._state_terms:
            masks = [a | b for a, b in zip(masks, compiled.masks, strict=True)]
        return masks

    def mean_state_values(self, features: list[FloatArray], obs: list[FloatArray] | None = None) -> FloatArray | None:
        """Return [N]: the mean of `state_values` over the agents that have them; None where no agent has."""
        masks = self.agents_with_values()
        if not any(mask.any() for mask in masks):
            return None
        values = self.state_values(features, obs)
        mean: FloatArray = np.concatenate([x[:, mask] for x, mask in zip(values, masks, strict=True)], axis=1).mean(1)
        return mean

    def bonuses(self, events: list[FloatArray]) -> list[FloatArray]:
        """Return [g] [..., A_g]: Σ_k w_k · count of the event bonuses, without beta, scale and decay.

        Args:
            events: [g] [..., A_g, V_g].
        """
        total = [np.zeros(x.shape[:-1]) for x in events]
        for compiled in self.terms:
            counts = compiled.bonuses(events)
            if counts is not None:
                total = [a + compiled.term.weight * b for a, b in zip(total, counts, strict=True)]
        return [x.astype(np.float32) for x in total]

    def direct_rewards(self, transitions: Transitions) -> list[FloatArray]:
        """Return [g] [..., A_g]: Σ_k w_k F_k of the terms that give states no value, without beta, scale and fading."""
        total = [np.zeros(x.shape[:-1]) for x in transitions.features]
        for compiled in self.terms:
            if not isinstance(compiled, CompiledStateTerm):
                paid = compiled.paid(transitions, 1.0)
                total = [a + compiled.term.weight * b for a, b in zip(total, paid, strict=True)]
        return [x.astype(np.float32) for x in total]


def _weighted_sum(
    terms: Sequence[CompiledStateTerm], features: list[FloatArray], obs: list[FloatArray] | None
) -> list[FloatArray]:
    """Return [g] [..., A_g]: the sum of weight · value over `terms`."""
    total = [np.zeros(x.shape[:-1]) for x in features]
    for compiled in terms:
        values = compiled.state_values(features, obs)
        total = [a + compiled.term.weight * b for a, b in zip(total, values, strict=True)]
    return [x.astype(np.float32) for x in total]


# ------------------------------------------------------------ the frozen scale


def freeze(
    signal: Signal,
    in_force: Signal,
    spec: TaskSpec,
    recorded: TransitionSample,
    return_range: tuple[float, float] | None,
    scorers: Scorers = NO_SCORERS,
) -> Signal:
    """Return `signal` with its scale frozen on recorded states; unchanged where it already has one.

    A signal that only removes or weakens what is in force keeps that scale: frozen anew, the remaining terms would
    grow to fill the whole range of returns, and weakening would undo itself. So does one that pays the same, and
    changes only how policies learn, or what is added to advantages.
    """
    if signal.scale is not None:
        return signal
    paying = [[term for term in x.terms if not term.acts_on_advantages] for x in (signal, in_force)]
    pays_the_same = bool(paying[0]) and paying[0] == paying[1] and signal.beta == in_force.beta
    scale = in_force.scale if pays_the_same or is_removal(signal, in_force) else None
    if scale is None:
        scale = frozen_scale(signal, spec, recorded, return_range, scorers)
    return signal.model_copy(update={"scale": scale})


def frozen_scale(
    signal: Signal,
    spec: TaskSpec,
    recorded: TransitionSample,
    return_range: tuple[float, float] | None,
    scorers: Scorers = NO_SCORERS,
) -> float:
    """Return the scale at which crossing the range of Σ w_k Φ_k over recorded states is worth `return_range`.

    The range goes from the 0.5th to the 99.5th percentile over all agents that have a potential and all recorded
    states, so that an outlier does not set it; where those coincide (a potential that rarely moves) from lowest to
    highest. The scale lies in `SCALE_RANGE`. It is 1 where there is nothing to scale: no potential, no spread, no
    recorded state, or no known range of returns.
    """
    width = 0.0 if return_range is None else return_range[1] - return_range[0]
    compiled = CompiledSignal(signal, spec, scorers)
    values = _recorded_values(compiled, recorded)
    if width <= 0 or not values.size:
        return 1.0
    # A range without outliers; the whole range where nearly all states are alike.
    low, high = np.percentile(values, [0.5, 99.5])
    if high - low < 1e-9:
        low, high = values.min(), values.max()
    if high - low < 1e-9:
        return 1.0
    # what nobody has come to yet is not in the range, and must not pay too much once somebody does
    most = min((term.largest_strength(width) for term in compiled.terms), default=np.inf) / max(signal.beta, 1e-9)
    return float(np.clip(min(width / (high - low), most), *SCALE_RANGE))


def _recorded_values(compiled: CompiledSignal, recorded: TransitionSample) -> NDArray[np.float64]:
    """Return Σ w_k Φ_k of all agents with a potential in all recorded states, those of s first, then of s′, flat."""
    masks = compiled.agents_with_values()
    states = [
        compiled.state_values(recorded.features, recorded.obs),
        compiled.state_values(recorded.last_features, recorded.last_obs),
    ]
    flat = [values[g][:, mask].ravel() for values in states for g, mask in enumerate(masks)]
    return np.concatenate([np.zeros(0), *flat]).astype(np.float64)
