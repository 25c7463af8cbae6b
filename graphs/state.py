"""The graph's state: ids and small plain data. History lives in the run's databases.

Everything but `messages` is JSON-plain, because a checkpoint gives unknown types back as dicts; nodes validate at
entry.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from langchain_core.messages import BaseMessage
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict  # typing's own breaks ToolRuntime[Context, State] on Python 3.11

Verdict = Literal[
    "accept",
    "reject",
    "no_difference",
    "not_informative",
    "insufficient_evidence",
    "no_candidate",
    "no_answer",
    "budget",
    "conflict",
    "declined",  # by the human who was asked
    "stale",  # the run had moved on, and a confirmation from where it was did not accept
    "rollback",
]

# What a checkpoint may bring back to life, besides plain data.
CHECKPOINT_TYPES = [
    ("langchain_core.messages.ai", "AIMessage"),
    ("langchain_core.messages.tool", "ToolMessage"),
]


class State(TypedDict, total=False):
    """`point`: update index of the adaptation point that is looked at. `done_point`: the last one that is finished; the
    trainer may be released from it and from all before. `note`: what the last node did, for the visit's record.
    """

    finished: bool
    adaptation_over: bool  # the model budget is used up: training goes on, nothing adapts any more
    done_point: int
    last_steps: int  # main steps at the last intervention's point, 0 before the first
    interventions: int

    point: int
    triggered: bool
    removing: bool  # nothing is wrong: the intervention only tries to take shaping away
    before: dict[str, Any] | None  # EvaluationReport of the main line, the last one before a promotion
    watch: dict[str, Any] | None  # what `monitor` compares with since the last promotion; see `promote._watch`
    monitoring: bool  # there is an evaluation that `monitor` has not judged yet
    status: dict[str, Any]  # TrainerStatus at the point

    messages: Annotated[list[BaseMessage], add_messages]  # the Critic's tool calls and their answers
    calls_left: int  # tool calls of the Critic; below 0: that many of its last message are over the limit
    diagnosis: dict[str, Any] | None
    ranking: bool  # single agents' moves are to be ranked at this point
    left_data: list[str]  # names of scorers in force whose pairs the policy has left
    learned: dict[str, Any] | None  # the Proposal that was fitted to rankings at this point

    round: int
    proposals: list[str]  # ids of this round, in the Generator's order
    passed: list[str]  # those that passed `check`
    ranked: list[str]  # those, best first
    exploration: dict[str, Any]  # what every arm of the round gets

    outcome: dict[str, Any]  # what `validate` found: the verdict, the winner, the judgements
    approved: bool  # by the human or, with `approve: auto`, by nobody's no
    verdict: Verdict | None
    note: dict[str, Any]
