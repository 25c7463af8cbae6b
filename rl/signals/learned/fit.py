"""What a fit found: the terms that would pay by it, and the figures that say how good they are."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ..terms import Term


class SignalFit(BaseModel):
    """A signal that was fitted to episodes, or why none was. Figures are those of its kind, None of the others.

    Attributes:
        problem: why nothing could be fitted; None where something was.
        terms: what would be added to a signal.
        scorers: by the group's number, its network.
        explained: share of the variance of held-out returns that it explains, at most 1 (return decomposition).
        sum_error: mean of |Σ r̂ − R| over held-out episodes, as a share of the mean of |R| (return decomposition).
        shares: by agent, of all that is paid, in absolute terms (return decomposition).
        accuracy: share of held-out pairs of episodes that it puts in the right order (step rewards).
        informativeness: correlation of what it pays with the advantage of the step, −1..1 (named states).
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    problem: str | None = None
    terms: tuple[Term, ...] = ()
    scorers: dict[str, str] = {}
    explained: float | None = None
    sum_error: float | None = None
    shares: dict[str, float] = {}
    accuracy: float | None = None
    informativeness: float | None = None

    def figure(self) -> str:
        """Return in words how good it is."""
        if self.explained is not None:
            return f"explains {self.explained:.0%} of how held-out returns differ"
        if self.accuracy is not None:
            return f"puts {self.accuracy:.0%} of held-out pairs of episodes in order"
        return f"pays with a correlation of {self.informativeness or 0.0:.2f} to the step's advantage"
