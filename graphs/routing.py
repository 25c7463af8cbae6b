"""Where the graph goes next: pure functions of the state."""

from __future__ import annotations

from typing import Literal

from .state import State


def after_observe(state: State) -> Literal["observe", "critic", "__end__"]:
    """A step a point: nothing wrong there, so look at the next one; or a Critic; or the run is over."""
    if state.get("finished"):
        return "__end__"
    return "critic" if state.get("triggered") else "observe"


def after_critic(state: State) -> Literal["critic_tools", "generator", "observe"]:
    """Without an answer, or without a failure in it, the intervention is over; a tool call is answered first."""
    if state.get("verdict") is not None:
        return "observe"
    return "critic_tools" if state.get("diagnosis") is None else "generator"


def after_generator(state: State) -> Literal["check", "observe"]:
    return "observe" if state.get("verdict") is not None else "check"


def after_check(state: State) -> Literal["rank_proposals", "decide"]:
    """With nothing to try, `decide` says so and sends the Generator the problems."""
    return "rank_proposals" if state.get("passed") else "decide"


def after_rank(state: State) -> Literal["validate", "observe"]:
    return "observe" if state.get("verdict") is not None else "validate"


def after_decide(state: State) -> Literal["promote", "generator", "observe"]:
    """`decide` leaves no verdict where another round follows."""
    verdict = state.get("verdict")
    if verdict is None:
        return "generator"
    return "promote" if verdict == "accept" else "observe"
