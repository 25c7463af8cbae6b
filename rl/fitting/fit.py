"""Fitting the kinds of signals to episodes of a policy, in the process or in a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ...errors import PreferenceError, SignalError, TrainingDiverged
from ..experience.transition_sample import TransitionSample
from ..signals.learned.config import (
    DecompositionConfig,
    FitKind,
    LearnedSignalsConfig,
    NamedStatesConfig,
    StepRewardsConfig,
)
from ..signals.learned.episodes import Episodes, play_episodes
from ..signals.learned.fit import SignalFit
from ..signals.learned.fit_config import EpisodesConfig
from ..signals.learned.goal_similarity import goal_similarity
from ..signals.learned.judged import judged_hops, judged_kinds, questions_for
from ..signals.learned.judged_config import (
    ClassifierConfig,
    GoalSimilarityConfig,
    HashConfig,
    JudgedConfig,
    ProgressConfig,
    RankingConfig,
)
from ..signals.learned.judgements import Answers, QuestionKind
from ..signals.learned.named_states import name_states
from ..signals.learned.outcome_judge import NAME as OUTCOME
from ..signals.learned.outcome_judge import OutcomeJudge
from ..signals.learned.progress import judged_progress
from ..signals.learned.return_decomposition import decompose_returns
from ..signals.learned.step_rewards import fit_step_rewards
from ..signals.scorer import Scorer, Scorers
from ..training.line import TrainingLine
from .jobs import FitResult
from .messages import SETTINGS, fit_classifier, fit_ranking, helpful_texts
from .progress import fit_progress


def fit_signals(
    line: TrainingLine,
    kinds: Sequence[FitKind],
    config: LearnedSignalsConfig,
    seed: int,
    scorers: Scorers,
    answers: Answers = MappingProxyType({}),
) -> FitResult:
    """Fit each kind: to episodes of the line's policy, which are played here, or to what it has recorded.

    That nothing can be fitted is an answer, too.

    Args:
        line: has task, policy, discount and the record.
        kinds: what is fitted.
        config: the settings of all kinds.
        seed: of the episodes and of what is fitted.
        scorers: keep the networks.
        answers: what a model has judged, for the kinds that follow judgements; what the outcome judges is added here.
    """
    episodes = _play(line, [own for kind in kinds if isinstance(own := config.of(kind), EpisodesConfig)], seed)
    recorded = line.recorder.recorded(line.episodes)
    by_outcome = judged_kinds(kinds, config, OUTCOME)
    judge = OutcomeJudge(line.spec, recorded) if any(isinstance(config.of(x), JudgedConfig) for x in kinds) else None
    fits = dict[FitKind, SignalFit]()
    for kind in kinds:
        own = config.of(kind)
        try:
            if isinstance(own, JudgedConfig):
                assert judge is not None
                if kind in by_outcome:
                    asked = questions_for(kind, line.spec, recorded, own, seed)
                    said: Answers = {question: judge.answer(question) for question in asked}
                else:
                    said = answers
                fits[kind] = _judged(JUDGED_FITTERS[kind], Judged(line, recorded, said, seed, scorers), own, judge)
            elif isinstance(own, GoalSimilarityConfig):
                fits[kind] = SignalFit(terms=tuple(goal_similarity(line.spec, recorded, own)))
            else:
                assert episodes is not None
                fits[kind] = FITTERS[kind](line, episodes, own, seed, scorers)
        except (SignalError, PreferenceError, TrainingDiverged) as error:  # what was played counts all the same
            fits[kind] = SignalFit(problem=str(error))
    played = (0, 0) if episodes is None else (episodes.steps, episodes.number)
    return FitResult(steps=played[0], episodes=played[1], fits=fits)


def _play(line: TrainingLine, settings: Sequence[EpisodesConfig], seed: int) -> Episodes | None:
    """Play as many episodes as the kind that asks for most; None where no kind asks for any."""
    if not settings:
        return None
    learner, number = line.learner, max(x.episodes for x in settings)
    observed = any(x.reads_observations for x in settings)
    return play_episodes(line.config.task, learner, learner.new_rnn_states, number, seed, observed)


# ------------------------------------------------------------ fitted to episodes


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


# ------------------------------------------------------------ fitted to judgements


@dataclass(frozen=True)
class Judged:
    """What a kind that follows judgements is fitted to.

    Attributes:
        line: has the task.
        recorded: its recorded transitions.
        answers: what was judged.
        seed: of the fit.
        scorers: keep the networks.
    """

    line: TrainingLine
    recorded: TransitionSample
    answers: Answers
    seed: int
    scorers: Scorers

    def of(self, question: QuestionKind) -> Answers:
        """Return the answers to questions of one kind."""
        return {asked: answer for asked, answer in self.answers.items() if asked.question == question}


def _judged(
    fit: Callable[[Judged, Any], SignalFit], judged: Judged, config: JudgedConfig, outcome: OutcomeJudge
) -> SignalFit:
    """Fit a kind, and add how many judgements it had, how many were unread, and how many the outcome bears out."""
    found = fit(judged, config)
    said = judged.of(ASKED[type(config)])
    agree = [
        (answer > middle) == (other > middle)
        for question, answer in said.items()
        if answer is not None and (other := outcome.answer(question)) is not None
        for middle in [0.0 if question.question == "hop" else 0.5]
        if answer != middle != other
    ]
    agreement = round(sum(agree) / len(agree), 4) if agree and config.judge != OUTCOME else None
    unread = sum(answer is None for answer in said.values())
    return found.model_copy(update={"judged": len(said), "unread": unread, "agreement": agreement})


def _hash(judged: Judged, config: HashConfig) -> SignalFit:
    helpful = helpful_texts(judged.answers)
    return SignalFit(terms=tuple(config.terms(judged.line.spec, helpful)) if helpful else ())


def _classifier(judged: Judged, config: ClassifierConfig) -> SignalFit:
    found = fit_classifier(judged.of("label"), SETTINGS, judged.seed)
    return _messages(judged, config, found.scorer, found.accuracy)


def _ranking(judged: Judged, config: RankingConfig) -> SignalFit:
    found = fit_ranking(judged.of("compare"), SETTINGS, judged.seed)
    return _messages(judged, config, found.scorer, found.accuracy)


def _messages(
    judged: Judged, config: ClassifierConfig | RankingConfig, scorer: Scorer, accuracy: float | None
) -> SignalFit:
    """Give every group a term with the same network: a text names its group."""
    spec = judged.line.spec
    names = dict.fromkeys(range(len(spec.groups)), judged.scorers.add(scorer))
    return SignalFit(
        terms=tuple(config.terms(spec, names)),
        scorers={str(g): name for g, name in names.items()},
        accuracy=None if accuracy is None else round(accuracy, 4),
    )


def _progress(judged: Judged, config: ProgressConfig) -> SignalFit:
    spec, names, explained = judged.line.spec, dict[int, str](), list[float]()
    for hops in judged_hops(spec, judged.recorded, config, judged.seed):
        features, targets = judged_progress(hops, judged.answers, config.alpha)
        found = fit_progress(spec, hops.group, features, targets, config.hidden, config.epochs, judged.seed)
        names[hops.group] = judged.scorers.add(found.scorer)
        explained.append(found.explained)
    if not explained:
        raise SignalError("progress needs recorded steps in which features change, got none; wait, or declare others")
    return SignalFit(
        terms=tuple(config.terms(spec, names)),
        scorers={str(g): name for g, name in names.items()},
        explained=round(min(explained), 4),
    )


ASKED: Mapping[type[JudgedConfig], QuestionKind] = {
    HashConfig: "label",
    ClassifierConfig: "label",
    RankingConfig: "compare",
    ProgressConfig: "hop",
}
JUDGED_FITTERS: Mapping[FitKind, Callable[[Judged, Any], SignalFit]] = {
    "message_hash": _hash,
    "message_classifier": _classifier,
    "message_ranking": _ranking,
    "progress": _progress,
}
