"""Choosing the next node: pure functions of the state."""

from __future__ import annotations

from typing import Literal

from .state import State, claim_of


def after_observe(
    state: State,
) -> Literal["observe", "monitor", "race", "critic", "remove_shaping", "given_signals", "__end__"]:
    """Run a rung of the race that is under way; else judge a new evaluation since a promotion, and go on after it."""
    if state.get("race") is not None:
        return "race"
    return "monitor" if state.get("monitoring") else after_monitor(state)


def after_monitor(state: State) -> Literal["observe", "critic", "remove_shaping", "given_signals", "__end__"]:
    """Intervene where the point has triggered it, else look at the next point, unless the run is over.

    Where the config gives the candidates, no model is asked for a diagnosis and for proposals.
    """
    if state.get("finished"):
        return "__end__"
    if not state.get("triggered"):
        return "observe"
    if state.get("removing"):
        return "remove_shaping"
    return "given_signals" if state.get("given") else "critic"


def after_remove_shaping(state: State) -> Literal["approve", "check"]:
    """Go on to the promotion where potentials leave by their offset; what is to be tried on branches is checked."""
    return "approve" if state.get("verdict") == "accept" else "check"


def after_critic(state: State) -> Literal["critic_tools", "rank_transitions", "fit_signals", "generator", "observe"]:
    """Run the tools that the Critic has called, or go on with its diagnosis.

    A verdict means that there was no answer, or no failure in it: then the intervention is over. Where credit is
    unclear, or the policy has left what a scorer in force was fitted to, single agents' moves are ranked, and signals
    are fitted to the run's episodes.
    """
    if state.get("verdict") is not None:
        return "observe"
    if state.get("diagnosis") is None:
        return "critic_tools"
    if state.get("ranking"):
        return "rank_transitions"
    return "fit_signals" if state.get("fitting") else "generator"


def after_generator(state: State) -> Literal["check", "observe"]:
    """Check the proposals; a verdict means that there was no answer."""
    return "observe" if state.get("verdict") is not None else "check"


def after_check(state: State) -> Literal["rank_proposals", "decide"]:
    """Rank what passed; with nothing to try, `decide` says so and sends the Generator the problems."""
    return "rank_proposals" if state.get("passed") else "decide"


def after_rank(state: State) -> Literal["validate", "race", "observe"]:
    """Try the candidates, by the claim that an acceptance is to prove; a verdict means that there was no answer."""
    if state.get("verdict") is not None:
        return "observe"
    return "race" if claim_of(state) == "policy" else "validate"


def after_race(state: State) -> Literal["approve", "race", "observe"]:
    """Ask for approval of a policy that is proven; else go on with the next rung, or with training.

    Under the lockstep clock the trainer trains the rung first; under the overlap clock nobody is waited for.
    """
    if state.get("verdict") == "accept":
        return "approve"
    return "race" if state.get("race") is not None and state["clock"] == "overlap" else "observe"


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
