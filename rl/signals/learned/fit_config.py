"""What the configs of all fitted kinds of signals have. Imports neither torch nor LangChain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import Field

from ...base_config import Config
from ...task import TaskSpec
from ..terms import Term
from .fit import SignalFit


class FitConfig(Config, ABC):
    """Settings that every fit of a signal has.

    Attributes:
        where_credit_is_unclear: whether it is done only there; else at every intervention that repairs something.
        enabled: whether it is done.
    """

    where_credit_is_unclear: ClassVar[bool] = False

    enabled: bool = False

    @property
    def reads_observations(self) -> bool:
        """Whether what is fitted reads what agents observe."""
        return False

    @abstractmethod
    def check(self, spec: TaskSpec) -> None:
        """Check that the kind fits the task. Raises SignalError where it does not."""

    @abstractmethod
    def accepts(self, fit: SignalFit) -> bool:
        """Return whether what was fitted is good enough to be proposed."""

    def at_strength(self, term: Term, strength: float) -> Term:  # noqa: ARG002 most are meant to be scaled
        """Return a fitted term as it belongs into a signal whose beta · scale is `strength`."""
        return term

    @abstractmethod
    def replaces(self, term: Term) -> bool:
        """Return whether a term in force was made by an earlier fit of this kind."""


class EpisodesConfig(FitConfig, ABC):
    """Settings of kinds that are fitted to whole episodes of the policy.

    Attributes:
        episodes: that are played for a fit, by all kinds together as many as the one that asks for most.
    """

    episodes: int = Field(default=256, ge=20, le=100_000)
