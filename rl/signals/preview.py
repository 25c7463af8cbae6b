"""A preview of a proposed signal: numbers from what the run has recorded, before it costs an environment step.

    recorded transitions and episodes, the signal ─► SignalPreview ─► page, report, Ranker
                                                     SignalSummary ─► history of later prompts

They order and decide nothing: sparse return does. `check` refuses by rules of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..experience.transition_sample import TransitionSample
from ..task import FloatArray
from .distance import SignalComparison
from .shaping import CompiledSignal
from .signal import Signal
from .state_pairs import pearson_distance, recorded_pairs

PAID = 1e-6  # of reward: a payment that counts as one
EPISODES = 5  # fewer have no rank correlation


def _is_none(value: object) -> bool:
    return value is None


class SignalSummary(BaseModel):
    """The six numbers of a signal that later prompts show of it.

    Φ is the weighted sum of its potentials and scores at strength beta · scale, the mean over the agents that have one;
    it has the unit of returns. Where a number cannot be told it is None, and left out when written.

    Attributes:
        phi_start: mean Φ of the first states of episodes.
        phi_end_failed: mean Φ of the last non-terminal states of episodes that failed; None without a success test.
        phi_end_success: the same of those that succeeded.
        paid_share: share of agents' steps, 0..1, that are paid something, |F| > 10⁻⁶ at γ = 1: with γ < 1 a potential
            pays a little also where nothing moves.
        return_correlation: Spearman's rank correlation, −1..1, over episodes, of what the signal pays in one (the end's
            Φ minus the start's, and its event bonuses, mean over its agents, undiscounted) with the sparse return; None
            with fewer than five episodes, or where either is always the same.
        informativeness: how far what it pays in a step agrees with what the critic says of the actions in it, −1..1,
            see `informativeness`; None where no advantage is recorded, or either is always the same.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    phi_start: float | None = Field(default=None, exclude_if=_is_none)
    phi_end_failed: float | None = Field(default=None, exclude_if=_is_none)
    phi_end_success: float | None = Field(default=None, exclude_if=_is_none)
    paid_share: float | None = Field(default=None, exclude_if=_is_none)
    return_correlation: float | None = Field(default=None, exclude_if=_is_none)
    informativeness: float | None = Field(default=None, exclude_if=_is_none)


class SignalPreview(SignalSummary):
    """All numbers of a signal. The agents that count are those that a term applies to.

    Attributes:
        phi_after: rows [event, mean Φ right after it first happened in an episode], for events that happened, in the
            task's order; of an event of several groups, over all of them.
        mean_paid: mean |F| of an agent's step, as the learner would be paid at first.
        mean_reward: mean |sparse reward| of the same steps.
        distance_in_force: Pearson distance of its payments to those of the signal in force, 0..1, see `distance`; None
            where one of them pays the same in every step.
        distances: rows [id, distance] to earlier proposals of the run, the nearest first.
        epic_in_force: EPIC distance to the signal in force, 0..1, see `epic`: how differently both bend the task, where
            potentials count for nothing.
        epic_distances: rows [id, distance] to the same earlier proposals, the nearest first.
    """

    phi_after: list[tuple[str, float]] = []
    mean_paid: float | None = Field(default=None, exclude_if=_is_none)
    mean_reward: float | None = Field(default=None, exclude_if=_is_none)
    distance_in_force: float | None = Field(default=None, exclude_if=_is_none)
    distances: list[tuple[str, float]] = []
    epic_in_force: float | None = Field(default=None, exclude_if=_is_none)
    epic_distances: list[tuple[str, float]] = Field(default=[], exclude_if=lambda rows: not rows)

    def summary(self) -> SignalSummary:
        """Return the numbers that later prompts show."""
        return SignalSummary(**{name: getattr(self, name) for name in SignalSummary.model_fields})


def preview_signal(
    signal: Signal, comparison: SignalComparison, gamma: float, earlier: Sequence[tuple[str, Signal]] = ()
) -> SignalPreview:
    """Compute the numbers of a proposed signal.

    Terms count at full weight, agents that have left as if they were there, and in LCA's own form of a learned term
    nobody stays: transitions do not tell.

    Args:
        signal: what is proposed.
        comparison: of what the run has recorded, with the signal in force.
        gamma: the discount factor of the learner, in 0..1.
        earlier: id and signal of earlier proposals of the run.

    Raises:
        SignalError: the signal does not fit the task.
    """
    compiled, recorded = comparison.compiled(signal), comparison.recorded
    start, end = _phi(compiled, recorded, "start"), _phi(compiled, recorded, "end")
    failed = success = None
    if end is not None and comparison.spec.has_success:
        succeeded = np.asarray(recorded.end_success) > 0.5
        failed, success = end[~succeeded], end[succeeded]
    distances = [(key, comparison.distance(signal, other)) for key, other in earlier]
    return SignalPreview(
        phi_start=_mean(start),
        phi_end_failed=_mean(failed),
        phi_end_success=_mean(success),
        phi_after=_after_events(compiled, recorded),
        mean_reward=_mean(np.abs(recorded.reward)),
        return_correlation=_return_correlation(compiled, recorded),
        distance_in_force=comparison.distance(signal, comparison.in_force),
        distances=_nearest_first(distances),
        epic_in_force=comparison.epic_distance(signal, comparison.in_force, gamma),
        epic_distances=_nearest_first((key, comparison.epic_distance(signal, x, gamma)) for key, x in earlier),
        **_paid_per_step(compiled, recorded, gamma),
    )


def _nearest_first(rows: Iterable[tuple[str, float | None]]) -> list[tuple[str, float]]:
    return sorted(((key, x) for key, x in rows if x is not None), key=lambda row: row[1])


# ------------------------------------------------------------ single steps


def _paid_per_step(compiled: CompiledSignal, recorded: TransitionSample, gamma: float) -> dict[str, float]:
    """Return the numbers of single steps that can be told; nothing where there is no term or no step."""
    if not compiled.terms or not len(recorded.terminated):
        return {}
    paid = compiled.shape(recorded_pairs(recorded, recorded.terminated), gamma).total
    undiscounted = compiled.shape(recorded_pairs(recorded), gamma=1.0).total
    numbers = {
        "mean_paid": float(np.abs(_of_agents(compiled, paid)).mean()),
        "paid_share": float((np.abs(_of_agents(compiled, undiscounted)) > PAID).mean()),
    }
    if recorded.advantage:
        agrees = informativeness(_of_agents(compiled, recorded.advantage), _of_agents(compiled, paid))
        numbers |= {} if agrees is None else {"informativeness": agrees}
    return numbers


def informativeness(advantage: NDArray[np.float64], paid: NDArray[np.float64]) -> float | None:
    """Return the correlation of advantages and payments over agents' steps, −1..1; None where either is constant.

    It is after Devidze, Kamalaruban and Singla, "Informativeness of Reward Functions in Reinforcement Learning" (AAMAS
    2024): a reward R informs a policy π as far as one step of the policy gradient under R raises the return of the
    task's own reward R̄, I_h(R) = Σ_s d^π(s) Σ_a π(a|s) A^π_R̄(s, a) A^π_R,h(s, a) with the h-step advantage of R.

    *Taken over*: the product of both advantages, over the states and actions of the run's own policies, with h = 1, for
    which the advantage of R is the payment less its mean in the state.

    *Simplified*: A_R̄ is the critic's estimate (GAE) of the time, in the last 128 updates. The recorded steps stand for
    d^π and π; weights such as π (1 − π) of a softmax policy are left out. The payment is centred over all steps, since
    what other actions would have been paid is not known: the sum stays the same, for advantages average to 0 in every
    state, and only the norm is larger. The sum is divided by both norms, so that strength and unit drop out.

    Args:
        advantage: [n, A], of the task's own reward; NaN where it is not known.
        paid: [n, A], of the same steps.
    """
    known = np.isfinite(advantage)
    distance = pearson_distance(advantage[known], paid[known])
    return None if distance is None else 1.0 - 2.0 * distance**2


def _of_agents(compiled: CompiledSignal, values: list[FloatArray]) -> NDArray[np.float64]:
    """Return of [g] [n, A_g] the agents that a term applies to, [n, A]."""
    masks = [np.any([term.masks[g] for term in compiled.terms], axis=0) for g in range(len(values))]
    return np.concatenate([x[:, mask] for x, mask in zip(values, masks, strict=True)], axis=1).astype(np.float64)


# ------------------------------------------------------------ episodes


def _phi(
    compiled: CompiledSignal, recorded: TransitionSample, which: Literal["start", "end", "event"]
) -> NDArray[np.float64] | None:
    """Return [n]: Φ of the states of a kind, NaN of one that is not known; None where there is no Φ, or no state."""
    features: list[FloatArray] = getattr(recorded, f"{which}_features")
    obs: list[FloatArray] = getattr(recorded, f"{which}_obs")
    values = compiled.mean_state_values(features, obs) if features else None
    if values is None:
        return None
    return np.where(_known(features, obs), compiled.strength * values.astype(np.float64), np.nan)


def _after_events(compiled: CompiledSignal, recorded: TransitionSample) -> list[tuple[str, float]]:
    """Return `phi_after`."""
    phi = _phi(compiled, recorded, "event")
    if phi is None:
        return []
    names = np.array([name for group in compiled.spec.groups for name in group.event_names()])
    of_state = names[recorded.event_kind.astype(np.int64)]
    means = ((str(name), _mean(phi[of_state == name])) for name in dict.fromkeys(names))
    return [(name, mean) for name, mean in means if mean is not None]


def _return_correlation(compiled: CompiledSignal, recorded: TransitionSample) -> float | None:
    """Return `return_correlation`."""
    if not compiled.terms or not len(recorded.end_return):
        return None
    start = compiled.state_values(recorded.start_features, recorded.start_obs)
    end = compiled.state_values(recorded.end_features, recorded.end_obs)
    bonuses = compiled.bonuses(recorded.end_counts)
    gained = _of_agents(compiled, [b - a + c for a, b, c in zip(start, end, bonuses, strict=True)]).mean(axis=1)
    known = _known(recorded.start_features, recorded.start_obs)
    if known.sum() < EPISODES:
        return None
    distance = pearson_distance(_ranks(gained[known]), _ranks(recorded.end_return[known]))
    return None if distance is None else 1.0 - 2.0 * distance**2


def _known(features: list[FloatArray], obs: list[FloatArray]) -> NDArray[np.bool_]:
    """Return [n], true for the states of which everything is a number."""
    known: NDArray[np.bool_] = np.all([np.isfinite(x).all(axis=(1, 2)) for x in (*features, *obs)], axis=0)
    return known


def _ranks(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the ranks of [n], equal values their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def _mean(values: NDArray[np.floating[Any]] | None) -> float | None:
    """Return the mean of what is known, None where nothing is."""
    known = np.zeros(0) if values is None else values[np.isfinite(values)]
    return float(known.mean(dtype=np.float64)) if known.size else None
