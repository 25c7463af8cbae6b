"""Config of the signal that a run starts with. Imports neither torch nor LangChain."""

from __future__ import annotations

from pydantic import Field

from ..base_config import Config, UserPath
from .signal import MAX_BETA, MAX_TERMS, Exploration, Signal
from .terms import Term


class SignalConfig(Config):
    """The signal a run starts with; `terms: []` is the plain sparse reward.

    Attributes:
        beta: the strength of all terms together.
        terms: what it rewards.
        exploration: how much the policies explore.
        scorers: folder of the scorers that its learned terms name, `scorers` of another run directory; they are copied
            into the run's own.
    """

    beta: float = Field(default=0.5, ge=0, le=MAX_BETA)
    terms: tuple[Term, ...] = Field(default=(), max_length=MAX_TERMS)
    exploration: Exploration = Exploration()
    scorers: UserPath | None = None

    def to_signal(self) -> Signal:
        """Return the signal, its scale not frozen yet."""
        return Signal(beta=self.beta, terms=self.terms, exploration=self.exploration)
