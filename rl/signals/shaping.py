"""The two ways in which a score of states becomes a reward of an agent's step."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import SignalError
from ..experience.transition_sample import TransitionSample
from ..task import ActionArray, BoolArray, FloatArray, TaskSpec
from .agent_masks import learned_masks, term_masks
from .expression import Array, Expression, bounded, parse_expression
from .scorer import NO_SCORERS, Scorer, Scorers
from .signal import EventTerm, LearnedTerm, PotentialTerm, Signal, Term, fades_over, is_potential, is_removal

# ---------------------------------------------------------------- MERGED rl.signals.forms


def potential_shaping(
    before: NDArray[Any], after: NDArray[Any], gamma: float, terminated: ArrayLike
) -> NDArray[np.float64]:
    """γΦ(s′)(1 − terminated) − Φ(s): leaves the optimal policies what they are (Ng, Harada, Russell 1999).

    Since Φ counts as zero after a true termination, a constant in Φ matters there: learned scores are anchored. All
    [..., A_g]; `terminated` 0 or 1, in a shape that broadcasts to them.
    """
    return np.asarray(gamma * after * (1.0 - np.asarray(terminated, np.float64)) - before)


def difference(before: NDArray[Any], after: NDArray[Any], moved: BoolArray) -> NDArray[np.float64]:
    """σ(s′) − σ(s), zero for an agent that stays (Lin et al., arXiv 2502.03723, Eq. 4). All [..., A_g].

    It is no potential. Undiscounted, a way that ends where it began pays minus what σ changed by while the agent
    stayed: nothing where only its own actions change σ, a gain where its mates lower it meanwhile.
    """
    return np.asarray((after - before) * moved)


# ---------------------------------------------------------------- MERGED rl.signals.shaping
# DOC """Signals compiled for a task: potentials, shaping of transitions, and the frozen scale.
# DOC
# DOC r_i = r_team + beta · scale · Σ_k w_k F_k,i, with F = γΦ(s′) − Φ(s) for a potential (Ng, Harada, Russell 1999), the
# DOC decayed number of events for an event bonus, and σ(s′) − σ(s), zero where the agent stays, for a scorer in LCA's own
# DOC form. The weight of a potential with `anneal_steps` falls to zero with the age of its version. s′ is the state before
# DOC auto-reset. Φ(s′) counts as zero where the episode truly terminated, and only there: at a time limit the value is
# DOC bootstrapped, and zeroing Φ would pay every time-out |Φ|.
# DOC """

SCALE_RANGE = (1e-3, 1e3)


@dataclass(frozen=True)
class Shaping:
    """What is added to the team reward: by a signal, `per_term` in the order of its terms. `total` is their sum, and
    what another view of the task's reward adds."""

    total: list[FloatArray]  # [g] [..., A_g]
    per_term: list[list[FloatArray]]  # [K] [g] [..., A_g]

    def of_terms(self) -> list[FloatArray]:
        """[g] [..., A_g]: the sum of `per_term`, without what another view of the task's reward adds."""
        zero = [np.zeros_like(x) for x in self.total]
        return [sum((term[g] for term in self.per_term), start=zero[g]) for g in range(len(zero))]


@dataclass(frozen=True)
class _Compiled:
    term: Term
    expression: Expression | None  # of a potential
    masks: list[BoolArray]  # [g] [A_g]
    scorer: Scorer | None = None  # of a learned term


class CompiledSignal:
    """A signal ready to be computed on arrays of features, events and observations of one task.

    Raises SignalError (ExpressionError for an expression) where the signal does not fit the task, or its scorers are
    not in `scorers`. Observations `obs` [g] [..., A_g, O_g] are read by learned terms alone, and may be left out where
    there are none.

    Mates of an agent are all other agents, of any group, that have the feature. An agent without a mate is its own
    mate, so that comparisons with mates are zero for it.
    """

    def __init__(self, signal: Signal, spec: TaskSpec, scorers: Scorers = NO_SCORERS) -> None:
        self.signal = signal
        self.spec = spec
        self._terms = [self._compile(term, scorers) for term in signal.terms]

    def _compile(self, term: Term, scorers: Scorers) -> _Compiled:
        if isinstance(term, LearnedTerm):
            scorer = scorers.get(term.scorer)
            return _Compiled(term, None, learned_masks(term, scorer.obs_size, self.spec), scorer)
        expression = parse_expression(term.expression) if isinstance(term, PotentialTerm) else None
        return _Compiled(term, expression, term_masks(term, expression, self.spec))

    @property
    def strength(self) -> float:
        """beta · scale. Raises SignalError before the scale is frozen."""
        if self.signal.scale is None:
            raise SignalError("a signal shapes only with a frozen scale, got scale None; set it with frozen_scale")
        return self.signal.beta * self.signal.scale

    def at_scale(self, scale: float | None) -> CompiledSignal:
        """The same terms with another scale."""
        other = copy(self)
        other.signal = self.signal.model_copy(update={"scale": scale})
        return other

    def bonuses(self, events: list[FloatArray]) -> list[FloatArray]:
        """[g] [..., A_g]: Σ_k w_k · count of the event bonuses, without beta, scale and decay."""
        total = [np.zeros(x.shape[:-1]) for x in events]
        for compiled in self._terms:
            if isinstance(compiled.term, EventTerm):
                counts = self._counts(compiled.term, compiled.masks, events)
                total = [a + compiled.term.weight * b for a, b in zip(total, counts, strict=True)]
        return [x.astype(np.float32) for x in total]

    def potential(self, features: list[FloatArray], obs: list[FloatArray] | None = None) -> list[FloatArray]:
        """Σ_k w_k Φ_k of the potentials, without beta, scale and annealing.

        `features` [g] [..., A_g, F_g] → [g] [..., A_g].
        """
        return self._weighted([x for x in self._terms if is_potential(x.term)], features, obs)

    def heights(self, features: list[FloatArray], obs: list[FloatArray] | None = None) -> list[FloatArray]:
        """As `potential`, with the scores of learned terms in either form: what crossing the states is worth."""
        return self._weighted(self._terms, features, obs)

    def _weighted(
        self, terms: list[_Compiled], features: list[FloatArray], obs: list[FloatArray] | None
    ) -> list[FloatArray]:
        total = [np.zeros(x.shape[:-1]) for x in features]
        for compiled in terms:
            values = self._phi(compiled, features, obs)
            total = [a + compiled.term.weight * b for a, b in zip(total, values, strict=True)]
        return [x.astype(np.float32) for x in total]

    def term_potential(
        self, k: int, features: list[FloatArray], obs: list[FloatArray] | None = None
    ) -> list[FloatArray]:
        """Φ_k of term `k` alone, without its weight; zero for an event term. Shapes as in `potential`."""
        return [x.astype(np.float32) for x in self._phi(self._terms[k], features, obs)]

    def potential_agents(self) -> list[BoolArray]:
        """[g] [A_g]: true where at least one potential or scorer applies."""
        masks = [np.zeros(len(group.agents), bool) for group in self.spec.groups]
        for compiled in self._terms:
            if not isinstance(compiled.term, EventTerm):
                masks = [a | b for a, b in zip(masks, compiled.masks, strict=True)]
        return masks

    def shape(
        self,
        features: list[FloatArray],
        last_features: list[FloatArray],
        events: list[FloatArray],
        terminated: NDArray[Any],
        gamma: float,
        steps_since_start: ArrayLike = 0,
        alive: list[BoolArray] | None = None,
        last_alive: list[BoolArray] | None = None,
        obs: list[FloatArray] | None = None,
        last_obs: list[FloatArray] | None = None,
        actions: list[ActionArray] | None = None,
    ) -> Shaping:
        """Shaping of transitions, with beta · scale · w in it.

        `features` of s and `last_features` of s′ before auto-reset [g] [..., A_g, F_g], `events` [g] [..., A_g, V_g],
        `terminated` [...] true or 1 at true terminations; `steps_since_start` (main environment steps since the
        version's first update) a number or [...]. `alive` in s and `last_alive` in s′ [g] [..., A_g]: Φ is zero for an
        agent that has left, as at the end of an episode of its own. `obs` of s, `last_obs` of s′ and `actions`
        [g] [..., A_g] are read by learned terms. Raises SignalError where the scale is not frozen.
        """
        strength = self.strength
        ended = np.asarray(terminated)[..., None]
        per_term: list[list[FloatArray]] = []
        for compiled in self._terms:
            faded = fading(steps_since_start, fades_over(compiled.term))[..., None]
            if isinstance(compiled.term, EventTerm):
                added = self._counts(compiled.term, compiled.masks, events)
            else:
                before = of_the_living(self._phi(compiled, features, obs), alive)
                after = of_the_living(self._phi(compiled, last_features, last_obs), last_alive)
                if is_potential(compiled.term):
                    added = [potential_shaping(a, b, gamma, ended) for a, b in zip(before, after, strict=True)]
                else:
                    added = list(map(difference, before, after, self._moved(actions)))
            factor = strength * compiled.term.weight
            per_term.append([(factor * (x * faded)).astype(np.float32) for x in added])
        zero = [np.zeros(x.shape[:-1], np.float32) for x in features]
        total = [sum((term[g] for term in per_term), start=zero[g]) for g in range(len(features))]
        return Shaping(total, per_term)

    def _moved(self, actions: list[ActionArray] | None) -> list[BoolArray]:
        """[g] [..., A_g]: false for an agent that chose to stay."""
        if actions is None:
            raise SignalError("a learned term in its difference form needs the agents' actions, got none; give them")
        return [
            np.ones(x.shape, np.bool_) if group.stay is None else np.asarray(x != group.stay)
            for x, group in zip(actions, self.spec.groups, strict=True)
        ]

    def _phi(
        self, compiled: _Compiled, features: list[FloatArray], obs: list[FloatArray] | None
    ) -> list[NDArray[np.float64]]:
        """[g] [..., A_g]: Φ of one term, zero for agents that it does not apply to."""
        values = [np.zeros(x.shape[:-1]) for x in features]
        if compiled.scorer is not None:
            return self._scores(compiled, compiled.scorer, values, obs)
        if compiled.expression is None:
            return values
        for g, mask in enumerate(compiled.masks):
            if mask.any():
                own = partial(self._own, g, features)
                phi = compiled.expression.evaluate(own, partial(self._of_mates, g, features))
                values[g] += np.where(mask, phi, 0.0)  # in place: broadcasts an expression that reads no feature
        return values

    def _scores(
        self, compiled: _Compiled, scorer: Scorer, values: list[NDArray[np.float64]], obs: list[FloatArray] | None
    ) -> list[NDArray[np.float64]]:
        """Fills `values`, [g] [..., A_g] zeros."""
        if not obs:
            raise SignalError(
                f"learned term {compiled.term.name!r} needs observations, which were not recorded; "
                "let the run keep them (preferences.ranker)"
            )
        for g, mask in enumerate(compiled.masks):
            if mask.any():
                values[g][..., mask] = scorer.score(obs[g][..., mask, :])
        return values

    def _own(self, g: int, features: list[FloatArray], name: str) -> Array:
        """[..., A_g]: each agent's own feature."""
        return features[g][..., self.spec.groups[g].feature_names().index(name)]

    def _of_mates(self, g: int, features: list[FloatArray], statistic: str, name: str) -> Array:
        """[..., A_g]: the statistic of feature `name` over each agent's mates."""
        owners: list[tuple[int, int]] = []
        columns: list[Array] = []
        for h, group in enumerate(self.spec.groups):
            if name in group.feature_names():
                values = bounded(features[h][..., group.feature_names().index(name)])
                owners += [(h, b) for b in range(len(group.agents))]
                columns += [values[..., b] for b in range(len(group.agents))]
        stacked = np.stack(columns, axis=-1)
        everyone = list(range(len(owners)))
        mates = [
            [j for j in everyone if owners[j] != (g, a)] or everyone for a in range(len(self.spec.groups[g].agents))
        ]
        return np.stack([_reduce(statistic, stacked[..., chosen]) for chosen in mates], axis=-1)

    def _counts(self, term: EventTerm, masks: list[BoolArray], events: list[FloatArray]) -> list[NDArray[np.float64]]:
        counts = [np.zeros(x.shape[:-1]) for x in events]
        for g, mask in enumerate(masks):
            if mask.any():
                column = self.spec.groups[g].event_names().index(term.event)
                counts[g] = np.where(mask, bounded(events[g][..., column]), 0.0)
        return counts


def of_the_living(values: list[NDArray[Any]], alive: list[BoolArray] | None) -> list[NDArray[Any]]:
    """[g] [..., A_g]: zero for agents that have left."""
    return values if alive is None else [x * y for x, y in zip(values, alive, strict=True)]


def _reduce(statistic: str, values: Array) -> Array:
    """Over the last axis."""
    if statistic == "mean_mates":
        return np.asarray(values.mean(axis=-1))
    return np.asarray(values.min(axis=-1) if statistic == "min_mates" else values.max(axis=-1))


def fading(steps_since_start: ArrayLike, over_steps: int | None) -> NDArray[np.float64]:
    """Falls linearly from 1 at the version's start to 0 after `over_steps`, and stays there; 1 for ever without them.

    The decay of event bonuses and the annealing of potentials. Shape of `steps_since_start`.
    """
    age = np.asarray(steps_since_start, np.float64)
    return np.ones_like(age) if over_steps is None else np.clip(1.0 - age / over_steps, 0.0, 1.0)


def frozen_scale(
    signal: Signal,
    spec: TaskSpec,
    recorded: TransitionSample,
    return_range: tuple[float, float] | None,
    scorers: Scorers = NO_SCORERS,
) -> float:
    """The scale at which crossing the range of Σ w_k Φ_k over recorded states is worth `return_range`, in 1e-3 … 1e3.

    The range goes from the 0.5th to the 99.5th percentile over all agents that have a potential and all recorded
    states, so that a stray state does not set it; where those coincide (a potential that rarely moves) from lowest to
    highest. The scale is 1 where there is nothing to scale: no potential, no spread, no recorded state, or no known
    range of returns.
    """
    width = 0.0 if return_range is None else return_range[1] - return_range[0]
    values = potential_values(CompiledSignal(signal, spec, scorers), recorded)
    if width <= 0 or not values.size:
        return 1.0
    low, high = np.percentile(values, [0.5, 99.5])
    if high - low < 1e-9:
        low, high = values.min(), values.max()
    if high - low < 1e-9:
        return 1.0
    return float(np.clip(width / (high - low), *SCALE_RANGE))


def potential_values(compiled: CompiledSignal, recorded: TransitionSample) -> NDArray[np.float64]:
    """Σ w_k Φ_k of all agents with a potential in all recorded states (s and s′), flat."""
    masks = compiled.potential_agents()
    r = recorded
    states = [compiled.heights(x, obs) for x, obs in ((r.features, r.obs), (r.last_features, r.last_obs))]
    flat = [values[g][:, mask].ravel() for values in states for g, mask in enumerate(masks)]
    return np.concatenate([np.zeros(0), *flat]).astype(np.float64)


def freeze(
    signal: Signal,
    in_force: Signal,
    spec: TaskSpec,
    recorded: TransitionSample,
    return_range: tuple[float, float] | None,
    scorers: Scorers = NO_SCORERS,
) -> Signal:
    """`signal` with its scale frozen on recorded states; unchanged where it already has one.

    A signal that only removes or weakens what is in force keeps that scale: frozen anew, the remaining terms would
    grow to fill the whole range of returns, and weakening would undo itself.
    """
    if signal.scale is not None:
        return signal
    kept = in_force.scale if is_removal(signal, in_force) else None
    scale = frozen_scale(signal, spec, recorded, return_range, scorers) if kept is None else kept
    return signal.model_copy(update={"scale": scale})
