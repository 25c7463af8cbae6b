"""One episode, step by step, with what every term of a signal paid in it. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")  # rewards may be NaN


class PlayedStep(_Frozen):
    """One joint step.

    Attributes:
        text: the task's own line about it.
        actions: agent → its action as text.
        events: agent → names of what it did.
        reward: sparse team reward.
        terms: term → agent → what it was paid, with beta, scale and weight.
        picture: the state after it as the task draws it in text; empty where it draws none.
    """

    text: str
    actions: dict[str, str]
    events: dict[str, list[str]]
    reward: float
    terms: dict[str, dict[str, float]]
    picture: str = ""


class PlayedFrame(_Frozen):
    """A state of an episode as its environment draws it.

    Attributes:
        after_step: 0 is the first state.
        png: the file, in base64.
    """

    after_step: int
    png: str


class PlayedEpisode(_Frozen):
    """One episode under the policy and the signal of a snapshot.

    Attributes:
        snapshot: whose policy played, as a directory below the run's.
        steps_main: main steps of that snapshot.
        seed: of the episode.
        version: of the signal whose terms are shown, which was in force there.
        sparse_return: undiscounted.
        success: None where the task has no success test.
        ended: "terminated", "time limit", or that it was cut here.
        first_picture: the first state in text, as in the steps.
        frames: some states in order, the first and the last among them; none where the environment draws none.
    """

    snapshot: str
    steps_main: int
    seed: int
    version: int
    sparse_return: float
    success: bool | None
    ended: str
    steps: list[PlayedStep]
    first_picture: str = ""
    frames: list[PlayedFrame] = Field(default_factory=list)

    def paid(self) -> dict[str, float]:
        """Return what all agents were paid by each term in the whole episode."""
        names = self.steps[0].terms if self.steps else {}
        return {name: sum(sum(step.terms[name].values()) for step in self.steps) for name in names}
