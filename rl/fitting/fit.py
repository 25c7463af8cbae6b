"""Fitting the kinds of signals to episodes of a policy, in the process or in a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import SignalError, TrainingDiverged
from ..signals.learned.config import (
    DecompositionConfig,
    FitKind,
    LearnedSignalsConfig,
    NamedStatesConfig,
    StepRewardsConfig,
)
from ..signals.learned.episodes import Episodes, play_episodes
from ..signals.learned.fit import SignalFit
from ..signals.learned.named_states import name_states
from ..signals.learned.return_decomposition import decompose_returns
from ..signals.learned.step_rewards import fit_step_rewards
from ..signals.scorer import Scorer, Scorers
from ..training.line import TrainingLine
from .jobs import FitResult


def fit_signals(
    line: TrainingLine, kinds: Sequence[FitKind], config: LearnedSignalsConfig, seed: int, scorers: Scorers
) -> FitResult:
    """Play episodes of the line's policy, and fit each kind to them; that nothing can be fitted is an answer, too.

    Args:
        line: has task, policy and discount.
        kinds: what is fitted.
        config: the settings of all kinds.
        seed: of the episodes and of what is fitted.
        scorers: keep the networks.
    """
    settings = [config.of(kind) for kind in kinds]
    learner, number = line.learner, max(x.episodes for x in settings)
    observed = any(x.reads_observations for x in settings)
    episodes = play_episodes(line.config.task, learner, learner.new_rnn_states, number, seed, observed)
    fits = dict[FitKind, SignalFit]()
    for kind, own in zip(kinds, settings, strict=True):
        try:
            fits[kind] = FITTERS[kind](line, episodes, own, seed, scorers)
        except (SignalError, TrainingDiverged) as error:  # what was played counts all the same
            fits[kind] = SignalFit(problem=str(error))
    return FitResult(steps=episodes.steps, episodes=episodes.number, fits=fits)


def _decomposition(
    line: TrainingLine, episodes: Episodes, config: DecompositionConfig, seed: int, scorers: Scorers
) -> SignalFit:
    found = decompose_returns(line.spec, episodes, config, seed)
    names = _kept(scorers, found.scorers)
    return SignalFit(
        terms=tuple(config.terms(line.spec, names)),
        scorers={str(g): name for g, name in names.items()},
        explained=round(found.explained, 4),
        sum_error=round(found.sum_error, 4),
        shares={agent: round(share, 4) for agent, share in zip(line.spec.agents, found.shares, strict=True)},
    )


def _named_states(
    line: TrainingLine,
    episodes: Episodes,
    config: NamedStatesConfig,
    seed: int,  # noqa: ARG001 nothing is drawn
    scorers: Scorers,  # noqa: ARG001 nor kept
) -> SignalFit:
    terms, informativeness = name_states(line.spec, episodes, config, line.config.trainer.algorithm_config.gamma)
    return SignalFit(terms=tuple(terms), informativeness=round(informativeness, 4))


def _step_rewards(
    line: TrainingLine, episodes: Episodes, config: StepRewardsConfig, seed: int, scorers: Scorers
) -> SignalFit:
    found = fit_step_rewards(line.spec, episodes, config, seed)
    names = _kept(scorers, found.scorers)
    return SignalFit(
        terms=tuple(config.terms(line.spec, names)),
        scorers={str(g): name for g, name in names.items()},
        accuracy=round(found.accuracy, 4),
    )


def _kept(scorers: Scorers, found: Sequence[Scorer]) -> dict[int, str]:
    """Keep a network for each group; return their names by the group's number."""
    return {g: scorers.add(scorer) for g, scorer in enumerate(found)}


FITTERS: Mapping[FitKind, Callable[[TrainingLine, Episodes, Any, int, Scorers], SignalFit]] = {
    "return_decomposition": _decomposition,
    "named_states": _named_states,
    "step_rewards": _step_rewards,
}
