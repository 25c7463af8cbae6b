"""Step rewards from preferences over whole episodes (OPRL / iStar, Liu et al. 2025).

    q(τ) = Σ_t Σ_i β log(π_φ(a_i | o_i) / π(a_i | o_i)),   L = −log σ(q(τ⁺) − q(τ⁻))

A second policy π_φ, a copy of the one that played at first, is moved until better episodes are likelier under it than
worse ones, by all pairs of different outcomes. What it says of a single step is then that step's reward, see
`rl.signals.terms.step_reward`. Better is a success against a failure, else a higher return. The sum is the paper's; its
released code takes the mean over steps. There φ is fitted anew before every step of the policy; here a fit is a
proposal, and the reward, which shrinks as the policy follows it, fades until the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from ....errors import SignalError, TrainingDiverged
from ...task import FloatArray, IntArray, TaskSpec
from ..scorer import Scorer
from ..terms.step_reward import NEVER
from .config import StepRewardsConfig
from .episodes import Episodes

LEAST_PAIRS = 100  # of different outcomes
MOST_HELD_OUT = 1_000  # episodes, whose pairs are all looked at


@dataclass(frozen=True)
class StepRewards:
    """Fitted policies, and how well they order episodes.

    Attributes:
        scorers: [g], whose outputs are logits.
        accuracy: share of held-out pairs whose better episode has the larger q.
    """

    scorers: list[Scorer]
    accuracy: float


def fit_step_rewards(spec: TaskSpec, episodes: Episodes, config: StepRewardsConfig, seed: int) -> StepRewards:
    """Fit a second policy for each group of agents.

    Raises:
        SignalError: too few episodes have different outcomes; the message says what to do.
        TrainingDiverged: a weight is not finite.
    """
    outcome = outcomes(episodes, spec.has_success)
    if (number := count_pairs(outcome)) < LEAST_PAIRS:
        raise SignalError(
            f"step rewards need at least {LEAST_PAIRS} pairs of episodes with different outcomes, got {number}; play "
            "more, or explore more first"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(episodes.number, generator=generator).numpy()
    apart = max(round(config.held_out * episodes.number), 2)
    held_out, train = order[:apart], order[apart:]
    held_out = held_out[:MOST_HELD_OUT]
    checked = pairs(outcome[held_out])
    if not len(checked[0]):
        raise SignalError("step rewards need different outcomes among held-out episodes, too; play more")

    # π_φ becomes a copy of the policy first
    policies = _Policies(spec, episodes, config, generator)
    optimiser = torch.optim.Adam(policies.parameters(), lr=config.lr)
    for _ in range(config.clone_epochs):
        for chosen in _batches(train, config.batch, generator):
            optimiser.zero_grad()
            (-policies.log_likelihood(chosen)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    # then it is moved, until held-out pairs are ordered no better
    best, best_loss, waited = policies.copied(), np.inf, 0
    for _ in range(config.max_epochs):
        for chosen in _batches(train, config.batch, generator):
            one, other = pairs(outcome[chosen])
            if len(one):
                optimiser.zero_grad()
                q = policies.scores(chosen)
                nn.functional.softplus(q[other] - q[one]).mean().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        with torch.no_grad():
            q = policies.scores(held_out)
        loss, waited = float(nn.functional.softplus(q[checked[1]] - q[checked[0]]).mean()), waited + 1
        if loss < best_loss:
            best, best_loss, waited = policies.copied(), loss, 0
        if waited >= config.patience:
            break
    for parameter, kept in zip(policies.parameters(), best, strict=True):
        parameter.data = kept
    scorers = policies.scorers()
    if not all(np.isfinite(x).all() for scorer in scorers for x in (*scorer.weights, *scorer.biases)):
        raise TrainingDiverged(f"policies of step rewards must stay finite; lower lr ({config.lr:g})")
    with torch.no_grad():
        q = policies.scores(held_out)
    return StepRewards(scorers, float((q[checked[0]] > q[checked[1]]).float().mean()))


def outcomes(episodes: Episodes, has_success: bool) -> FloatArray:
    """Return [m]: success where some episodes succeeded and some did not, else the return."""
    both = has_success and 0 < episodes.success.mean() < 1
    return episodes.success if both else episodes.returns


def count_pairs(outcome: FloatArray) -> int:
    """Return how many pairs of different outcomes there are."""
    alike = np.unique(outcome, return_counts=True)[1].astype(np.int64)
    return int(len(outcome) ** 2 - (alike**2).sum()) // 2


def pairs(outcome: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the places of all (better, worse) pairs among these outcomes [m]."""
    better, worse = np.nonzero(outcome[:, None] > outcome[None, :])
    return better, worse


def _batches(numbers: IntArray, size: int, generator: torch.Generator) -> list[IntArray]:
    """Return the numbers in another order, so many at a time."""
    mixed = numbers[torch.randperm(len(numbers), generator=generator).numpy()]
    return [mixed[start : start + size] for start in range(0, len(mixed), size)]


class _Policies(nn.Module):
    """A second policy for each group, and what the first one did in the episodes."""

    def __init__(self, spec: TaskSpec, episodes: Episodes, config: StepRewardsConfig, draw: torch.Generator) -> None:
        super().__init__()
        self.temperature, self.episodes = config.temperature, episodes
        self.networks = nn.ModuleList()
        for group in spec.groups:
            layers: list[nn.Module] = []
            for n_in, n_out in pairwise((group.obs_size, *config.hidden, group.n_actions)):
                layer = nn.Linear(n_in, n_out)
                with torch.no_grad():
                    for parameter in layer.parameters():
                        parameter.uniform_(-(n_in**-0.5), n_in**-0.5, generator=draw)
                layers += [layer, nn.ReLU()]
            self.networks.append(nn.Sequential(*layers[:-1]))
        self.starts = np.cumsum(episodes.lengths) - episodes.lengths

    def _log_ratios(self, chosen: IntArray) -> tuple[Tensor, Tensor]:
        """Return Σ_i log π_φ − log π and Σ_i log π_φ of the steps of these episodes, one behind the other, [n] each."""
        rows = np.concatenate([np.arange(self.starts[e], self.starts[e] + self.episodes.lengths[e]) for e in chosen])
        ratios, likelihoods = [], []
        for g, network in enumerate(self.networks):
            logits = network(torch.from_numpy(self.episodes.obs[g][rows]))
            if self.episodes.masks is not None:
                logits = logits.masked_fill(~torch.from_numpy(self.episodes.masks[g][rows]), NEVER)
            actions = torch.from_numpy(self.episodes.actions[g][rows].astype(np.int64))
            logp = logits.log_softmax(-1).gather(-1, actions[..., None]).squeeze(-1)
            here = 1.0 if self.episodes.alive is None else torch.from_numpy(self.episodes.alive[g][rows]).float()
            likelihoods.append((logp * here).sum(-1))
            ratios.append(((logp - torch.from_numpy(self.episodes.logp[g][rows])) * here).sum(-1))
        return torch.stack(ratios).sum(0), torch.stack(likelihoods).sum(0)

    def scores(self, chosen: IntArray) -> Tensor:
        """Return q of these episodes, [len(chosen)]."""
        of_step = torch.from_numpy(np.repeat(np.arange(len(chosen)), self.episodes.lengths[chosen]))
        return torch.zeros(len(chosen)).index_add(0, of_step, self.temperature * self._log_ratios(chosen)[0])

    def log_likelihood(self, chosen: IntArray) -> Tensor:
        """Return the mean of Σ_i log π_φ over the steps of these episodes."""
        return self._log_ratios(chosen)[1].mean()

    def copied(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters()]

    def scorers(self) -> list[Scorer]:
        """Return the policies as data."""
        found = []
        for network in self.networks:
            layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
            weights = tuple(layer.weight.detach().T.numpy()[None].copy() for layer in layers)
            found.append(Scorer(weights, tuple(layer.bias.detach().numpy()[None].copy() for layer in layers)))
        return found
