"""Choosing the next node: pure functions of the state."""

from __future__ import annotations

from typing import Literal

from .state import State


def after_observe(state: State) -> Literal["observe", "monitor", "critic", "remove_shaping", "__end__"]:
    """Judge a new evaluation since a promotion first; then go on as after `monitor`."""
    return "monitor" if state.get("monitoring") else after_monitor(state)


def after_monitor(state: State) -> Literal["observe", "critic", "remove_shaping", "__end__"]:
    """Intervene where the point has triggered it, else look at the next point, unless the run is over."""
    if state.get("finished"):
        return "__end__"
    if not state.get("triggered"):
        return "observe"
    return "remove_shaping" if state.get("removing") else "critic"


def after_critic(state: State) -> Literal["critic_tools", "rank_transitions", "generator", "observe"]:
    """Run the tools that the Critic has called, or go on with its diagnosis.

    A verdict means that there was no answer, or no failure in it: then the intervention is over. Where credit is
    unclear, or the policy has left what a scorer in force was fitted to, single agents' moves are ranked.
    """
    if state.get("verdict") is not None:
        return "observe"
    if state.get("diagnosis") is None:
        return "critic_tools"
    return "rank_transitions" if state.get("ranking") else "generator"


def after_generator(state: State) -> Literal["check", "observe"]:
    """Check the proposals; a verdict means that there was no answer."""
    return "observe" if state.get("verdict") is not None else "check"


def after_check(state: State) -> Literal["rank_proposals", "decide"]:
    """Rank what passed; with nothing to try, `decide` says so and sends the Generator the problems."""
    return "rank_proposals" if state.get("passed") else "decide"


def after_rank(state: State) -> Literal["validate", "observe"]:
    """Try the candidates; a verdict means that there was no answer."""
    return "observe" if state.get("verdict") is not None else "validate"


def after_decide(state: State) -> Literal["approve", "generator", "observe"]:
    """Ask for approval of an acceptance; without a verdict another round follows."""
    verdict = state.get("verdict")
    if verdict is None:
        return "generator"
    return "approve" if verdict == "accept" else "observe"


def after_approve(state: State) -> Literal["confirm", "observe"]:
    """Go on unless the promotion was declined, or stale before anybody answered."""
    return "confirm" if state.get("verdict") == "accept" else "observe"


def after_confirm(state: State) -> Literal["promote", "observe"]:
    """Promote unless the verdict is stale."""
    return "promote" if state.get("verdict") == "accept" else "observe"
