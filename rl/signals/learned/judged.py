"""What is to be judged of a run's recorded experience for the kinds of signals that follow judgements."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...experience.transition_sample import TransitionSample
from ...task import TaskSpec
from .config import FitKind, LearnedSignalsConfig
from .judged_config import JudgedConfig, ProgressConfig
from .judgements import JudgeQuestion
from .messages import compare_questions, label_questions, messages_of
from .progress import Hops, hops_of

HOPS = 5  # questions of a step


def judged_kinds(kinds: Sequence[FitKind], config: LearnedSignalsConfig, judge: str) -> list[FitKind]:
    """Return those of the kinds for which this judge answers."""
    return [kind for kind in kinds if isinstance(own := config.of(kind), JudgedConfig) and own.judge == judge]


def questions_for(
    kind: FitKind,
    spec: TaskSpec,
    recorded: TransitionSample,
    config: JudgedConfig,
    seed: int,
    known: Collection[JudgeQuestion] = (),
) -> list[JudgeQuestion]:
    """Return what is to be asked for a kind, what tells of the newest steps first, at most `config.questions`.

    Args:
        kind: of signal.
        spec: the task.
        recorded: of the run.
        config: the kind's settings.
        seed: of what is drawn.
        known: what was answered already, which is not asked again.
    """
    if isinstance(config, ProgressConfig):
        asked = [question for hops in judged_hops(spec, recorded, config, seed) for question in hops.questions()]
    elif kind == "message_ranking":
        asked = compare_questions(messages_of(spec, recorded), config.questions, seed)
    else:
        asked = label_questions(messages_of(spec, recorded))
    return [question for question in asked if question not in known][: config.questions]


def judged_hops(spec: TaskSpec, recorded: TransitionSample, config: ProgressConfig, seed: int) -> list[Hops]:
    """Return the steps of each group that are judged for progress; the same arguments give the same."""
    return hops_of(spec, recorded, max(config.questions // HOPS // len(spec.groups), 1), seed)
