"""Return decomposition: networks that share an episode's return out over its steps and agents.

    L = E[(R − Σ_t Σ_i r̂_{t,i})²] + λ T E[Σ_t Σ_i r̂²]        r̂_{t,i} = g(s_i, s′_i, i)

The loss is that of LaRe (Qu et al., "Latent reward", AAAI 2025) with the factors that the networks read left to
`inputs`, and of SPA-RL (one agent, Wang et al. 2025). A gradient step looks at K random steps of each episode (RRD: Ren
et al., "Learning long-term reward redistribution via randomized return decomposition", ICLR 2022): with the mean m and
the sample variance v of their rewards r̂_t = Σ_i r̂_{t,i}

    E[(R − T m)²] = (R − Σ_t r̂_t)² + T² Var(r̂_t)/K,   so   (R − T m)² − T² v/K   is the loss without bias

The second term is ours: what an agent adds is not settled by the sums where another agent's rewards could make up for
it, and of all ways that fit alike the smallest is taken, which gives an agent that does nothing nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ....errors import SignalError, TrainingDiverged
from ...task import FloatArray, IntArray, TaskSpec
from ..scorer import Scorer
from ..terms.base import zero_where_gone
from ..terms.decomposition import network_inputs, parse_factors
from .config import DecompositionConfig
from .episodes import Episodes

LEAST_EPISODES = 20
LEAST_SPREAD = 1e-6  # of returns, below which there is nothing to share out
LEAST_VARIANCE = 0.1  # of held-out returns, as a share of that of all
BLOCK = 65_536  # steps that are looked at together where all are


@dataclass(frozen=True)
class Decomposition:
    """Fitted networks, and how well they fit. Errors are those of the mean of the networks that held an episode out.

    Attributes:
        scorers: [g], whose scores are N·r̂ for N agents.
        explained: share of the variance of held-out returns that Σ r̂ explains, at most 1; negative: worse than their
            mean.
        sum_error: mean of |Σ r̂ − R| over held-out episodes, as a share of the mean of |R|.
        shares: by agent, in the order of groups: share of Σ_t |r̂| over all episodes, together 1.
        epochs: by member, the epoch of its best weights.
    """

    scorers: list[Scorer]
    explained: float
    sum_error: float
    shares: list[float]
    epochs: list[int]


def decompose_returns(spec: TaskSpec, episodes: Episodes, config: DecompositionConfig, seed: int) -> Decomposition:
    """Fit networks for each group of agents to whole episodes.

    Raises:
        SignalError: there are too few episodes, or their returns do not differ; the message says what to do.
        TrainingDiverged: a weight is not finite.
    """
    returns = episodes.returns.astype(np.float64)
    if episodes.number < LEAST_EPISODES:
        raise SignalError(
            f"return decomposition needs at least {LEAST_EPISODES} episodes, got {episodes.number}; play more, and see "
            "that they end"
        )
    if returns.std() < LEAST_SPREAD:
        raise SignalError(
            f"return decomposition needs returns that differ, got {returns[0]:g} in all {episodes.number} episodes; "
            "explore more first"
        )
    training = _Training(spec, episodes, config, seed)
    training.run()
    scorers = training.scorers()
    arrays = [array for scorer in scorers for array in (*scorer.weights, *scorer.biases)]
    if not all(np.isfinite(array).all() for array in arrays):
        raise TrainingDiverged(
            f"networks of return decomposition must stay finite; lower lr ({config.lr:g}), or scale what the task shows"
        )
    apart, sums = training.held_out_sums()
    error, held_out = sums - returns[apart], returns[apart]
    variance = float(held_out.var())
    if variance < LEAST_VARIANCE * returns.var():
        raise SignalError(
            "return decomposition needs returns that differ among held-out episodes too, but too few of "
            f"{episodes.number} do; play more"
        )
    return Decomposition(
        scorers=scorers,
        explained=1 - float((error**2).mean()) / variance,
        sum_error=float(np.abs(error).mean() / max(np.abs(held_out).mean(), LEAST_SPREAD)),
        shares=shares(training.inputs, scorers, episodes),
        epochs=training.best_epoch.tolist(),
    )


def shares(inputs: list[FloatArray], scorers: list[Scorer], episodes: Episodes) -> list[float]:
    """Return by agent its share of Σ_t |r̂|; `inputs` [g] [n, A_g, D_g]."""
    paid = zero_where_gone([scorer.score(x) for scorer, x in zip(scorers, inputs, strict=True)], episodes.alive)
    by_agent = np.concatenate([np.abs(x).sum(0, dtype=np.float64) for x in paid])
    return (by_agent / max(float(by_agent.sum()), 1e-12)).tolist()  # type: ignore[no-any-return]


class _Training:
    """The members side by side; each draws from a stream of its own, so that it is the same in an ensemble of any size.

    Inputs are standardised, returns divided by their deviation σ, and outputs by the root of the mean number of rewards
    in an episode, so that sums begin at about the size of returns.

    Attributes:
        inputs: [g] [n, A_g, D_g], as the scorers will see them.
        held_out: [M, H], the numbers of the episodes that each member holds out.
        train: [M, m − H], the others.
        networks: [g], by layer weights [M, in, out] and biases [M, 1, out].
        best: the same at each member's best epoch.
    """

    def __init__(self, spec: TaskSpec, episodes: Episodes, config: DecompositionConfig, seed: int) -> None:
        self.config, self.rngs = config, [np.random.default_rng([seed, member]) for member in range(config.members)]
        factors = parse_factors(config.inputs)
        self.inputs = [
            network_inputs(spec, g, config.inputs, config.agent_ids, episodes, factors) for g in range(len(spec.groups))
        ]
        rows = [x.reshape(-1, x.shape[-1]).astype(np.float64) for x in self.inputs]
        self.mean = [x.mean(0) for x in rows]
        self.std = [np.where(x.std(0) > LEAST_SPREAD, x.std(0), 1.0) for x in rows]
        self.x = [
            torch.from_numpy(((x - mean) / std).astype(np.float32))
            for x, mean, std in zip(self.inputs, self.mean, self.std, strict=True)
        ]
        self.alive = (
            None if episodes.alive is None else [torch.from_numpy(x.astype(np.float32)) for x in episodes.alive]
        )
        self.lengths = episodes.lengths
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.episode = torch.from_numpy(episodes.episode)
        self.deviation = float(episodes.returns.std())
        self.returns = torch.from_numpy(episodes.returns / self.deviation)
        self.n_agents = sum(len(group.agents) for group in spec.groups)
        self.unit = (float(self.lengths.mean()) * self.n_agents) ** -0.5

        order = np.stack([rng.permutation(episodes.number) for rng in self.rngs])
        apart = max(round(config.held_out * episodes.number), 1)
        self.held_out, self.train = order[:, :apart], order[:, apart:]
        self.networks = [self._network(x.shape[-1]) for x in self.x]
        self.best = [[parameter.detach().clone() for parameter in network] for network in self.networks]
        self.best_loss = np.full(config.members, np.inf)
        self.best_epoch = np.zeros(config.members, np.int64)

    def _network(self, size: int) -> list[Tensor]:
        """Draw weights within ±1/√in, as torch's Linear does."""
        parameters = []
        for n_in, n_out in pairwise((size, *self.config.hidden, 1)):
            for shape in ((n_in, n_out), (1, n_out)):
                drawn = [rng.uniform(-1, 1, shape) / n_in**0.5 for rng in self.rngs]
                parameters.append(torch.tensor(np.stack(drawn), dtype=torch.float32, requires_grad=True))
        return parameters

    def run(self) -> None:
        """Train until every member has stopped; one that has stopped trains on, but its best weights stay."""
        optimiser = torch.optim.Adam([x for network in self.networks for x in network], lr=self.config.lr)
        running = np.ones(self.config.members, np.bool_)
        for epoch in range(1, self.config.max_epochs + 1):
            order = np.stack([rng.permutation(mine) for rng, mine in zip(self.rngs, self.train, strict=True)])
            for start in range(0, order.shape[1], self.config.batch):
                optimiser.zero_grad()
                self._losses(order[:, start : start + self.config.batch]).sum().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            # members that have not stopped keep their weights where they are better than ever
            with torch.no_grad():
                error = self._sums() - self.returns
                chosen = torch.from_numpy(self.held_out)
                held_out = (error.gather(1, chosen) ** 2).mean(1).numpy().astype(np.float64)
                better = running & (held_out < self.best_loss)
                self.best_loss[better], self.best_epoch[better] = held_out[better], epoch
                for kept, network in zip(self.best, self.networks, strict=True):
                    for best, parameter in zip(kept, network, strict=True):
                        best[torch.from_numpy(better)] = parameter.detach()[torch.from_numpy(better)]
            running &= epoch - self.best_epoch < self.config.patience
            if not running.any():
                return

    def _losses(self, chosen: IntArray) -> Tensor:
        """Return the loss of each member on its episodes, the mean over the batch: numbers [M, B] → [M]."""
        rows, drawn = self._rows(chosen)
        present = torch.from_numpy(rows >= 0)
        per_agent = self._rewards(torch.from_numpy(np.maximum(rows, 0)))
        here = present[..., None]
        r = torch.cat(per_agent, -1) * here  # [M, B, L, N]
        team = r.sum(-1)
        lengths = torch.from_numpy(self.lengths[chosen].astype(np.float32))
        count = present.sum(-1)
        total = team.sum(-1) * (lengths / count)
        loss = (self.returns[torch.from_numpy(chosen)] - total) ** 2
        # without the variance of the drawn subset
        centred = (team - (team.sum(-1) / count)[..., None]) * present
        variance = (centred**2).sum(-1) / (count - 1).clamp(min=1)
        loss = loss - torch.from_numpy(drawn) * lengths**2 * variance / count
        size = (r**2).sum((-1, -2)) * (lengths / count) * lengths
        return (loss + self.config.shrink * size).mean(1)

    def _rows(self, chosen: IntArray) -> tuple[IntArray, FloatArray]:
        """Return which steps are looked at, [M, B, L] with −1 behind the end of an episode, and where they were drawn
        ([M, B], 1 or 0) since the episode has more than `subset`."""
        starts, lengths = self.starts[chosen], self.lengths[chosen]
        longest = int(lengths.max())
        subset = longest if self.config.subset is None else min(self.config.subset, longest)
        steps = np.broadcast_to(np.arange(subset), (*chosen.shape, subset)).copy()
        long = lengths > subset
        for member, rng in enumerate(self.rngs):
            drawn = (rng.random((chosen.shape[1], subset)) * lengths[member][:, None]).astype(np.int64)
            steps[member][long[member]] = drawn[long[member]]
        rows = np.where(steps < lengths[..., None], starts[..., None] + steps, -1)
        return rows, long.astype(np.float32)

    def _rewards(self, rows: Tensor) -> list[Tensor]:
        """Return r̂/σ of the steps that each member looks at, numbers [M, …] → [g] [M, …, A_g]."""
        out = []
        for g, network in enumerate(self.networks):
            x = self.x[g][rows]  # [M, …, A_g, D]
            shape = x.shape[:-1]
            x = _forward(network, x.reshape(len(x), -1, x.shape[-1])).view(shape) * self.unit
            out.append(x if self.alive is None else x * self.alive[g][rows])
        return out

    def _sums(self, networks: list[list[Tensor]] | None = None) -> Tensor:
        """Return Σ_t Σ_i r̂/σ of all episodes by each member, [M, m]."""
        sums = torch.zeros(self.config.members, len(self.returns))
        for g, network in enumerate(networks or self.networks):
            for begin in range(0, len(self.episode), BLOCK):
                part = self.x[g][begin : begin + BLOCK]
                x = part.reshape(1, -1, part.shape[-1]).expand(self.config.members, -1, -1)
                r = _forward(network, x).view(self.config.members, *part.shape[:2]) * self.unit
                r = r if self.alive is None else r * self.alive[g][begin : begin + BLOCK]
                sums.index_add_(1, self.episode[begin : begin + BLOCK], r.sum(-1))
        return sums

    @torch.no_grad()
    def held_out_sums(self) -> tuple[IntArray, FloatArray]:
        """Return the episodes that some member held out, and Σ r̂ of each by the mean of those members."""
        apart = np.zeros((self.config.members, len(self.returns)), np.bool_)
        np.put_along_axis(apart, self.held_out, True, axis=1)
        some = np.flatnonzero(apart.any(0))
        sums = self._sums(self.best).numpy().astype(np.float64) * self.deviation
        return some, np.asarray(np.mean(sums[:, some], axis=0, where=apart[:, some]))

    def scorers(self) -> list[Scorer]:
        """Return the best networks as scorers of what `network_inputs` gives, whose scores are N·r̂."""
        found = []
        for mean, std, best in zip(self.mean, self.std, self.best, strict=True):
            weights = [parameter.numpy().astype(np.float64) for parameter in best[::2]]
            biases = [parameter.numpy()[:, 0].astype(np.float64) for parameter in best[1::2]]
            # standardisation goes into the first layer, the units of returns into the last
            biases[0] = biases[0] - np.einsum("i,mio->mo", mean / std, weights[0])
            weights[0] = weights[0] / std[:, None]
            factor = self.unit * self.deviation * self.n_agents
            weights[-1], biases[-1] = weights[-1] * factor, biases[-1] * factor
            found.append(
                Scorer(tuple(x.astype(np.float32) for x in weights), tuple(x.astype(np.float32) for x in biases))
            )
        return found


def _forward(network: list[Tensor], x: Tensor) -> Tensor:
    """Return what each member gives: x [M, k, D] → [M, k]."""
    for i in range(0, len(network), 2):
        x = torch.baddbmm(network[i + 1], x if i == 0 else x.relu(), network[i])
    return x.squeeze(-1)
