"""Named states: sparse, bounded rewards at few states that features name, fitted to the policy as it is.

    F = Σ_k v_k ([s′ in k] − [s in k]),   0 ≤ v_k ≤ 1,   v_k = min(I_k⁺ / max I⁺ + 1 / √(1/B² + N_k/m), 1)

I_k is the *informativeness* of paying for state k under the learner's own distribution (ExpAdaRD, Devidze et al.,
AAMAS 2024), Σ μ(s) π(a|s) A(s, a) · [R(s, a) − R(s, π)]: the covariance of the step's advantage A with what the state
pays, [s′ in k] − [s in k]. There an expert gives A; here, as in SelfRS (Devidze et al., "Exploration-guided reward
shaping", NeurIPS 2022), it is what the episode returned from the step on, less the mean from there. With a policy that
is optimal and sure of itself no step has an advantage, and nothing is informative. Only what is worth coming to counts,
not what is to be avoided: where a small reward deceives, everything else looks bad. The second part is that paper's
ExploRS bonus λ / √((λ/B)² + N), with λ² = m, by the N_k of all m episodes that came to the state, which may be none.

States are those that a reader can check: a flag that is set, a count or quantity from a value on, a distance that is
closed, and a distance that is closed while a flag or count is. They are chosen one after the other by what the others
have left of the advantage (orthogonal matching pursuit). `rl.signals.terms.table` says how they are paid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ....errors import SignalError
from ...task import FeatureSpec, FloatArray, TaskSpec
from ..expression import MAX_NUMBER
from ..scorer import NO_SCORERS
from ..terms.base import Values
from ..terms.table import TableRow, TableTerm
from .config import NamedStatesConfig
from .episodes import Episodes

CLOSED = 0.05  # of its range, up to which a distance counts as closed
MOST_LEVELS = 8  # of a count
QUANTILES = (0.5, 0.9)  # of a quantity or position, over the recorded states
LEAST_CORRELATION = 0.02  # with what is left, below which a state tells nothing
SMALL = 1e-9


@dataclass(frozen=True)
class State:
    """A state that agents of one group can be in.

    Attributes:
        group: its number.
        when: the condition.
        paid: [n], [s′ in it] − [s in it], summed over agents, of every step.
        episodes: how many some agent came to it in.
    """

    group: int
    when: str
    paid: Values
    episodes: int


def name_states(
    spec: TaskSpec, episodes: Episodes, config: NamedStatesConfig, gamma: float
) -> tuple[list[TableTerm], float]:
    """Return a table for each group of agents that has a state worth something, and how informative they are, −1..1.

    Args:
        spec: the task.
        episodes: of the policy.
        config: how many states, and the bonus.
        gamma: the discount, by which returns are counted.

    Raises:
        SignalError: features name no state that some step is not in.
    """
    states = list(known_states(spec, episodes))
    if not states:
        raise SignalError(
            "named states need features by which some steps of whole episodes differ, got none; declare flags, counts "
            "or distances"
        )
    advantages = step_advantages(episodes, gamma)
    chosen = [(state, v) for state, v in choose(states, advantages, config, episodes.number) if round(v, 3) > 0]
    if not chosen:
        raise SignalError(
            "named states need a state that is worth something, but most episodes come to each, and none tells how "
            "they end; use another kind"
        )
    tables = []
    for g, group in enumerate(spec.groups):
        rows = tuple(TableRow(when=state.when, worth=round(v, 3)) for state, v in chosen if state.group == g)
        if rows:
            tables.append(TableTerm(name=f"states_{g}", rows=rows, agents=group.name, decay_steps=config.decay_steps))
    total = np.asarray(sum(v * state.paid for state, v in chosen))
    return tables, correlation(total, advantages)


# ------------------------------------------------------------ which states there are


def known_states(spec: TaskSpec, episodes: Episodes) -> Iterator[State]:
    """Give the states that some recorded step is not in; of those that the same steps are in the first."""
    known = set[bytes]()
    for g, group in enumerate(spec.groups):
        for when in conditions(group.features, episodes.last_features[g]):
            compiled = TableTerm(name="state", rows=(TableRow(when=when, worth=1.0),), agents=group.name).compile(
                spec, NO_SCORERS
            )
            before, after = (x[g] for x in compiled.before_and_after(episodes))
            key = np.packbits(before > 0).tobytes() + np.packbits(after > 0).tobytes()
            # of those that nobody came to nothing tells that they are equal, but few words say more than many
            if (before.all() and after.all()) or (key in known if after.any() else "*" in when):
                continue
            known.add(key)
            came = np.unique(episodes.episode[(after > 0).any(1)])
            yield State(g, when, (after - before).sum(1), len(came))


def conditions(features: Sequence[FeatureSpec], seen: FloatArray) -> Iterator[str]:
    """Give conditions on the features of a group as expressions; `seen` [n, A, F] are their values.

    Features of numbers that an expression may not have are left out.
    """
    usable = [i for i, x in enumerate(features) if max(abs(x.low), abs(x.high)) <= MAX_NUMBER]
    distances = [features[i] for i in usable if features[i].kind == "distance"]
    closed = [f"{x.name} <= {x.low + CLOSED * (x.high - x.low):g}" for x in distances]
    done = list[str]()
    for i in usable:
        feature = features[i]
        low, high = feature.low, feature.high
        if feature.kind == "flag":
            done.append(f"{feature.name} > {(low + high) / 2:g}")
        elif feature.kind == "count":
            levels = np.unique(np.linspace(low + 1, high, min(MOST_LEVELS, max(round(high - low), 1))).round())
            done += [f"{feature.name} > {level - 0.5:g}" for level in levels.tolist()]
        elif feature.kind in ("position", "quantity") and seen.size:
            levels = np.unique(np.quantile(seen[..., i], QUANTILES).round(3))
            done += [f"{feature.name} > {level:g}" for level in levels.tolist()]
    yield from done
    yield from closed
    yield from (f"({a}) * ({b})" for a, b in product(done, closed))


# ------------------------------------------------------------ what they are worth


def step_advantages(episodes: Episodes, gamma: float) -> Values:
    """Return [n]: the discounted return from each step on, less its mean over all episodes at that step."""
    returns = np.zeros(len(episodes.reward))
    after = 0.0
    last = np.append(episodes.episode[1:] != episodes.episode[:-1], True)
    for t in range(len(returns) - 1, -1, -1):
        after = episodes.reward[t] + gamma * (0.0 if last[t] else after)
        returns[t] = after
    starts = np.cumsum(episodes.lengths) - episodes.lengths
    step = np.arange(len(returns)) - starts[episodes.episode]
    mean = np.bincount(step, returns) / np.maximum(np.bincount(step), 1)
    return np.asarray(returns - mean[step])


def choose(
    states: Sequence[State], advantages: Values, config: NamedStatesConfig, episodes: int
) -> list[tuple[State, float]]:
    """Return the states that tell most, and what each is worth.

    Where few tell anything, as where every episode returned the same, the places that are left go to stairs: states
    each of which at most half as many episodes came to as to the one before.
    """
    paid = [state.paid for state in states]
    informative = [max(float(np.mean((x - x.mean()) * advantages)), 0.0) for x in paid]
    largest = max(max(informative), SMALL)

    # the state that agrees best with what those before it have left of the advantages
    chosen: list[int] = []
    left = advantages - advantages.mean()
    while len(chosen) < config.states:
        found = [correlation(x, left) if k not in chosen and informative[k] > 0 else 0.0 for k, x in enumerate(paid)]
        best = int(np.argmax(found))
        if found[best] < LEAST_CORRELATION:
            break
        chosen.append(best)
        columns = np.stack([paid[k] for k in chosen], -1)
        fitted = columns @ np.linalg.lstsq(columns, advantages - advantages.mean(), rcond=None)[0]
        left = advantages - advantages.mean() - fitted
    # stairs to where hardly any episode comes: each step is come to half as often as the one before, at most
    often = float(episodes)
    for k in sorted(range(len(states)), key=lambda k: -states[k].episodes):
        if len(chosen) < config.states and k not in chosen and states[k].episodes <= often / 2:
            chosen.append(k)
            often = float(states[k].episodes)

    def worth(k: int) -> float:
        share = states[k].episodes / episodes
        bonus = 1 / np.sqrt(config.bonus**-2 + share) if config.bonus else 0.0
        return float(min(informative[k] / largest + bonus, 1.0))

    return [(states[k], worth(k)) for k in chosen]


def correlation(one: Values, other: Values) -> float:
    """Return Pearson's correlation of two arrays [n]; 0 where one of them is constant."""
    deviations = float(one.std()), float(other.std())
    if min(deviations) < SMALL:
        return 0.0
    return float(np.mean((one - one.mean()) * (other - other.mean())) / (deviations[0] * deviations[1]))
