"""Config of signals that a model judges, and of similarity to a goal. Imports neither torch nor LangChain."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from ....errors import SignalError
from ...task import TaskSpec
from ..captions import caption_format
from ..terms import MessageTerm, ProgressTerm, SimilarityTerm, Term
from ..terms.message import MAX_HELPFUL
from .fit import SignalFit
from .fit_config import FitConfig


class JudgedConfig(FitConfig, ABC):
    """Settings of kinds that are fitted to a model's judgements of what the run has recorded.

    Attributes:
        judge: `model`, that of the Ranker; or `outcome`, which is none and answers by how the run's own episodes ended
            (for studies, and to see what a model adds).
        questions: that are asked at one point at most; none that was answered before.
        batch: questions in one request to a model.
    """

    judge: Literal["model", "outcome"] = "model"
    questions: int = Field(default=200, ge=1, le=20_000)
    batch: int = Field(default=20, ge=1, le=100)


class MessagesConfig(JudgedConfig, ABC):
    """Settings of rewards for steps by their short texts, see `message`.

    Attributes:
        weight: of the terms; at most what an event bonus may be worth is proposed.
        decay_steps: main steps over which the payment falls to zero.
    """

    form: ClassVar[Literal["hash", "classifier", "ranking"]]

    weight: float = Field(default=0.1, gt=0, le=1)
    decay_steps: int = Field(default=200_000, ge=1_000)

    def check(self, spec: TaskSpec) -> None:
        """Check that there is something to tell. Raises SignalError where there is not."""
        if not any(group.features or group.events for group in spec.groups):
            raise SignalError("enabled: must be false where no agent has a feature or an event; declare some")

    def term(self, spec: TaskSpec, g: int, **parts: object) -> MessageTerm:
        """Return the term of group g, with what its form needs."""
        form, group = caption_format(spec.groups[g]), spec.groups[g]
        fields = {
            "name": f"{self.form}_{g}",
            "form": self.form,
            "features": form.features,
            "events": form.events,
            "weight": self.weight,
            "agents": group.name,
            "decay_steps": self.decay_steps,
        }
        return MessageTerm.model_validate(fields | parts)

    def replaces(self, term: Term) -> bool:
        return isinstance(term, MessageTerm) and term.form == self.form


class HashConfig(MessagesConfig):
    """Settings of texts that were labelled helpful, looked up."""

    form = "hash"

    def terms(self, spec: TaskSpec, helpful: list[str]) -> list[MessageTerm]:
        """Return a term for each group of agents: the same texts, the newest, since a text names its group."""
        return [self.term(spec, g, helpful=tuple(helpful[-MAX_HELPFUL:])) for g in range(len(spec.groups))]

    def accepts(self, fit: SignalFit) -> bool:
        return bool(fit.terms)


class _FittedMessagesConfig(MessagesConfig, ABC):
    """Settings of texts that a network scores.

    Attributes:
        threshold: of what is paid for, a probability or a score.
        least_accuracy: share of held-out judgements that it must agree with to be proposed.
    """

    threshold: float = 0.5
    least_accuracy: float = Field(default=0.7, ge=0, le=1)

    def terms(self, spec: TaskSpec, scorers: Mapping[int, str]) -> list[MessageTerm]:
        """Return a term for each group of agents; `scorers` are names of networks by the group's number."""
        return [self.term(spec, g, scorer=scorer, threshold=self.threshold) for g, scorer in scorers.items()]

    def accepts(self, fit: SignalFit) -> bool:
        return fit.accuracy is not None and fit.accuracy >= self.least_accuracy


class ClassifierConfig(_FittedMessagesConfig):
    """Settings of a classifier of texts. `threshold` is a probability (ONI: 0.5)."""

    form = "classifier"


class RankingConfig(_FittedMessagesConfig):
    """Settings of a ranking of texts. `threshold` is a score in deviations from the mean text (ONI: -0.5)."""

    form = "ranking"

    threshold: float = 0.0


class ProgressConfig(JudgedConfig):
    """Settings of progress by hops, see `progress`. Five questions are asked of each step.

    Attributes:
        alpha: how strongly it counts that forward and backward view of a state differ.
        hidden: units of the network.
        epochs: gradient steps on all judged states.
        least_explained: share of the variance of held-out progress that must be explained for it to be proposed.
    """

    questions: int = Field(default=500, ge=25, le=20_000)
    alpha: float = Field(default=4.0, ge=0)
    hidden: int = Field(default=32, ge=1)
    epochs: int = Field(default=300, ge=1)
    least_explained: float = Field(default=0.3, ge=0, le=1)

    def check(self, spec: TaskSpec) -> None:
        """Check that states can be told. Raises SignalError where they cannot."""
        if not all(group.features for group in spec.groups):
            raise SignalError("enabled: must be false where agents have no features; declare some")

    def terms(self, spec: TaskSpec, scorers: Mapping[int, str]) -> list[ProgressTerm]:
        """Return a term for each group; `scorers` are names of networks by the group's number."""
        return [
            ProgressTerm(name=f"progress_{g}", scorer=scorer, agents=spec.groups[g].name)
            for g, scorer in scorers.items()
        ]

    def accepts(self, fit: SignalFit) -> bool:
        return fit.explained is not None and fit.explained >= self.least_explained

    def replaces(self, term: Term) -> bool:
        return isinstance(term, ProgressTerm)


class GoalSimilarityConfig(FitConfig):
    """Settings of similarity to the state in which episodes succeed, see `goal_similarity`; nobody is asked.

    Attributes:
        episodes: successful and failed episodes each that must be recorded.
        least_separation: how far the means of successful and failed ends must lie apart for a feature to count, as a
            share of its range.
    """

    episodes: int = Field(default=5, ge=1)
    least_separation: float = Field(default=0.1, gt=0, le=1)

    def check(self, spec: TaskSpec) -> None:
        """Check that success is known and there are features. Raises SignalError where not."""
        if not spec.has_success or not any(group.features for group in spec.groups):
            raise SignalError("enabled: must be false where a task has no success test or no features; declare them")

    def accepts(self, fit: SignalFit) -> bool:
        return bool(fit.terms)

    def replaces(self, term: Term) -> bool:
        return isinstance(term, SimilarityTerm) and term.name.startswith("goal_")
