"""Where the graph goes next: pure functions of the state."""

from __future__ import annotations

from typing import Literal

from .state import State

AfterPoint = Literal["observe", "critic", "remove_shaping", "__end__"]


def after_observe(state: State) -> Literal["observe", "monitor", "critic", "remove_shaping", "__end__"]:
    """A new evaluation since a promotion is judged first; then as `after_monitor`."""
    return "monitor" if state.get("monitoring") else after_monitor(state)


def after_monitor(state: State) -> AfterPoint:
    """A step a point: nothing wrong there, so look at the next one; or a Critic; or the run is over."""
    if state.get("finished"):
        return "__end__"
    if not state.get("triggered"):
        return "observe"
    return "remove_shaping" if state.get("removing") else "critic"


def after_critic(state: State) -> Literal["critic_tools", "rank_transitions", "generator", "observe"]:
    """Without an answer, or without a failure in it, the intervention is over; a tool call is answered first. Where
    credit is unclear, or the policy has left what a scorer in force was fitted to, agents' moves are ranked."""
    if state.get("verdict") is not None:
        return "observe"
    if state.get("diagnosis") is None:
        return "critic_tools"
    return "rank_transitions" if state.get("ranking") else "generator"


def after_generator(state: State) -> Literal["check", "observe"]:
    return "observe" if state.get("verdict") is not None else "check"


def after_check(state: State) -> Literal["rank_proposals", "decide"]:
    """With nothing to try, `decide` says so and sends the Generator the problems."""
    return "rank_proposals" if state.get("passed") else "decide"


def after_rank(state: State) -> Literal["validate", "observe"]:
    return "observe" if state.get("verdict") is not None else "validate"


def after_decide(state: State) -> Literal["approve", "generator", "observe"]:
    """`decide` leaves no verdict where another round follows."""
    verdict = state.get("verdict")
    if verdict is None:
        return "generator"
    return "approve" if verdict == "accept" else "observe"


def after_approve(state: State) -> Literal["confirm", "observe"]:
    return "confirm" if state.get("verdict") == "accept" else "observe"


def after_confirm(state: State) -> Literal["promote", "observe"]:
    return "promote" if state.get("verdict") == "accept" else "observe"
