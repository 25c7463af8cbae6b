"""Schemas of the roles' answers: models are given them, and their raw text is validated against them.

The docstrings of the classes are part of every prompt: a schema shows them to the model as its descriptions. They
speak to the model, and to change one is to change the prompts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..rl.signals.learner_settings import LearnerSettings
from ..rl.signals.signal import MAX_BETA, MAX_TERMS, Exploration
from ..rl.signals.terms import Term


class Failure(StrEnum):
    """The closed taxonomy of what can be wrong with learning; `docs/failures.md` says how each looks."""

    NOT_EXPLORING = "not_exploring"
    EXPLORATION_COLLAPSED = "exploration_collapsed"
    SUBGOAL_NEVER_REACHED = "subgoal_never_reached"
    WRONG_SUBGOAL_ORDER = "wrong_subgoal_order"
    LAZY_AGENT = "lazy_agent"
    SAME_TARGET = "same_target"
    WAITING_ON_EACH_OTHER = "waiting_on_each_other"
    SHAPING_DOMINATES = "shaping_dominates"
    PLATEAU = "plateau"
    REGRESSION = "regression"
    SHARED_PARAMETER_CONFLICT = "shared_parameter_conflict"
    NOT_THE_SIGNAL = "not_the_signal"
    UNCLEAR_CREDIT = "unclear_credit"
    INSUFFICIENT_EVIDENCE = "insufficient_evidence"


# Where the team's reward does not tell which agent earned it, single agents' moves are ranked.
CREDIT_FAILURES = frozenset(
    {
        Failure.LAZY_AGENT,
        Failure.SAME_TARGET,
        Failure.WAITING_ON_EACH_OTHER,
        Failure.SHARED_PARAMETER_CONFLICT,
        Failure.UNCLEAR_CREDIT,
    }
)


class Answer(BaseModel):
    # Without a docstring: models would be shown it.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Finding(Answer):
    """One failure with the evidence keys that show it."""

    failure: Failure
    cites: list[Annotated[str, Field(max_length=120)]] = Field(max_length=8)
    explanation: str = Field(max_length=400)

    @model_validator(mode="after")
    def _cites_something(self) -> Finding:
        if self.failure is not Failure.INSUFFICIENT_EVIDENCE and not self.cites:
            raise ValueError(f"finding {self.failure.value!r} cites no evidence key; cite at least one")
        return self


class Diagnosis(Answer):
    """The Critic's answer: most important finding first. `went_wrong_at`: the number of the first step of the episode
    shown that did not succeed from which on nothing more led to success, null where none is shown or it cannot be told;
    `went_wrong_because`: why, in a sentence."""

    findings: list[Finding] = Field(min_length=1, max_length=4)
    went_wrong_at: int | None = Field(default=None, ge=1, exclude_if=lambda step: step is None)
    went_wrong_because: str = Field(default="", max_length=200, exclude_if=lambda why: not why)
    advice: str = Field(default="", max_length=600)


class EpisodeReading(Answer):
    """What an episode failed of: the first `step` from which on nothing more led to success, the `agent` that it hangs
    on, null for the whole team, and the `cause` in a sentence. `failure`: the word that fits best."""

    step: int | None = Field(ge=1)
    agent: str | None = Field(max_length=60)
    cause: str = Field(min_length=1, max_length=300)
    failure: Failure


class Proposal(Answer):
    """One candidate signal. `terms` replace the terms in force; leaving one out removes it."""

    title: str = Field(max_length=80)
    reason: str = Field(max_length=600)
    addresses: list[Failure] = Field(min_length=1, max_length=4)
    beta: float = Field(default=0.5, ge=0, le=MAX_BETA)
    terms: list[Term] = Field(max_length=MAX_TERMS)
    exploration: Exploration = Exploration()
    learner: LearnerSettings = Field(default=LearnerSettings(), exclude_if=lambda x: not x.changed)


class ProposalSet(Answer):
    """The Generator's answer: up to K proposals, each a different idea."""

    proposals: list[Proposal] = Field(min_length=1, max_length=8)


class TransitionVote(Answer):
    """On one move: the reason first, so that it is thought before it is decided. `prefer`: 1 where the state after the
    move is better for the team, 0 where the one before it was, null for neither."""

    id: str = Field(max_length=20)
    reason: str = Field(default="", max_length=600)
    prefer: Literal[0, 1] | None


class TransitionVotes(Answer):
    """The Ranker's answer on moves: each id exactly once."""

    items: list[TransitionVote] = Field(min_length=1, max_length=100)


class JudgedItem(Answer):
    """On one entry: what its question asks for, null where it cannot be told."""

    id: str = Field(max_length=20)
    answer: float | None = Field(ge=-1, le=1)


class JudgedItems(Answer):
    """The Ranker's answer on steps and states: each id exactly once."""

    items: list[JudgedItem] = Field(min_length=1, max_length=100)


class ProposalRanking(Answer):
    """The Ranker's answer on proposals: their ids, best first, each exactly once."""

    kind: Literal["proposals"] = "proposals"
    order: list[str] = Field(min_length=1, max_length=8)
    reason: str = Field(max_length=600)
