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
        judged: how many judgements it was fitted to (messages, progress).
        unread: how many of them could not be read, and count as ties (messages, progress).
        agreement: share of them that agree with how the run's own episodes ended, where both tell (messages, progress).
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
    judged: int | None = None
    unread: int | None = None
    agreement: float | None = None
    informativeness: float | None = None

    def figure(self) -> str:
        """Return in words how good it is."""
        if self.judged is not None:
            return self._judged_figure(self.judged)
        if self.explained is not None:
            return f"explains {self.explained:.0%} of how held-out returns differ"
        if self.accuracy is not None:
            return f"puts {self.accuracy:.0%} of held-out pairs of episodes in order"
        if self.informativeness is None:
            return "compares with how successful episodes end"
        return f"pays with a correlation of {self.informativeness:.2f} to the step's advantage"

    def _judged_figure(self, judged: int) -> str:
        unread = f", {self.unread} of them unread" if self.unread else ""
        agrees = "" if self.agreement is None else f", {self.agreement:.0%} of which outcomes bear out"
        fits = "" if self.accuracy is None else f" and agrees with {self.accuracy:.0%} of those held out"
        fits += "" if self.explained is None else f" and explains {self.explained:.0%} of held-out progress"
        return f"follows {judged} judgements{unread}{agrees}{fits}"
