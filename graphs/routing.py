"""The edges with a choice: pure functions of the state that name the next node."""

from __future__ import annotations

from typing import Literal

from .state import State

AfterPoint = Literal["observe", "critic", "remove_shaping", "__end__"]


def after_observe(state: State) -> Literal["observe", "monitor", "critic", "remove_shaping", "__end__"]:
    """Judge a new evaluation since a promotion first, then go on as after `monitor`."""
    return "monitor" if state.get("monitoring") else after_monitor(state)


def after_monitor(state: State) -> AfterPoint:
    """Go to the next point where nothing is wrong, else to the Critic or to the removal of shaping; or end."""
    if state.get("finished"):
        return "__end__"
    if not state.get("triggered"):
        return "observe"
    return "remove_shaping" if state.get("removing") else "critic"


def after_critic(state: State) -> Literal["critic_tools", "rank_transitions", "generator", "observe"]:
    """Answer tool calls first; end the intervention where the Critic found nothing or did not answer.

    Single agents' moves are ranked where credit is unclear, or where the policy has left the data of a scorer in force.
    """
    if state.get("verdict") is not None:
        return "observe"
    if state.get("diagnosis") is None:
        return "critic_tools"
    return "rank_transitions" if state.get("ranking") else "generator"


def after_generator(state: State) -> Literal["check", "observe"]:
    return "observe" if state.get("verdict") is not None else "check"


def after_check(state: State) -> Literal["rank_proposals", "decide"]:
    """Go to `decide` where there is nothing to try: it says so and sends the Generator the problems."""
    return "rank_proposals" if state.get("passed") else "decide"


def after_rank(state: State) -> Literal["validate", "observe"]:
    return "observe" if state.get("verdict") is not None else "validate"


def after_decide(state: State) -> Literal["approve", "generator", "observe"]:
    """Go to the Generator where `decide` has left no verdict: then another round follows."""
    verdict = state.get("verdict")
    if verdict is None:
        return "generator"
    return "approve" if verdict == "accept" else "observe"


def after_approve(state: State) -> Literal["confirm", "observe"]:
    return "confirm" if state.get("verdict") == "accept" else "observe"


def after_confirm(state: State) -> Literal["promote", "observe"]:
    return "promote" if state.get("verdict") == "accept" else "observe"
