"""The graph's state: ids and small plain data. History lives in the run's databases.

Everything but `messages` is JSON-plain, because a checkpoint gives unknown types back as dicts; nodes validate at
entry, by the functions below.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from langchain_core.messages import BaseMessage
from langgraph.graph.message import add_messages
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # typing's own breaks ToolRuntime[Context, State] on Python 3.11

from ..rl.ipc.messages import EvaluationReport, TrainerStatus
from ..runs.records import DecisionVerdict, Outcome, decision_id

# What a checkpoint may bring back to life, besides plain data.
CHECKPOINT_TYPES = [
    ("langchain_core.messages.ai", "AIMessage"),
    ("langchain_core.messages.tool", "ToolMessage"),
]


class Watch(BaseModel):
    """The promotion that `monitor` watches, and what evaluations since then are compared with. `promote` makes it.

    Attributes:
        version: of the promoted signal.
        proposal: the arm that was promoted.
        point: update index of the promotion's adaptation point.
        before: the main line's last evaluation before the promotion.
        expected: sparse return that the run was expected to have without the promotion, by the gate's control or the
            race's last look at the main line; less than that is no fault of the promotion. None where
            no branch has told.
        starts: main steps before which nothing is judged; a signal that came alone may dip first, as in a branch.
        margin: how much a mean sparse return must fall to count as a regression.
        bad: regressions that were found in a row so far.
        judged: evaluations that were judged so far.
        seen: main steps of the newest evaluation that was looked at.
        seen_version: of the signal in force then.
    """

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)

    version: int
    proposal: str
    point: int
    before: EvaluationReport
    expected: float | None
    starts: int = Field(alias="from")
    margin: float
    bad: int = 0
    judged: int = 0
    seen: int
    seen_version: int = -1

    def is_new(self, evaluation: EvaluationReport) -> bool:
        """Tell whether the evaluation is a later one: main steps may step back, but only under a newer version."""
        return (evaluation.version, evaluation.steps) > (self.seen_version, self.seen)

    def after(self, evaluation: EvaluationReport, **changes: Any) -> Watch:
        """Return the watch once the evaluation has been looked at."""
        return self.model_copy(update={"seen": evaluation.steps, "seen_version": evaluation.version, **changes})


class State(TypedDict, total=False):
    """The values that nodes hand to each other. A node returns the keys that it sets."""

    finished: bool
    adaptation_over: bool  # the model budget is used up: training goes on, nothing adapts any more
    limits: dict[str, float]  # calls, tokens and usd of `llm.limits` when it was used up
    done_point: int  # the last point that is finished; the trainer may be released from it and from all before
    last_steps: int  # main steps at the last intervention's point, 0 before the first
    interventions: int

    point: int  # update index of the adaptation point that is looked at; while a race runs, that where it began
    standing: int  # update index of the point where the trainer stands; `point`, but while a race runs
    triggered: bool
    claim: Literal["policy", "signal"]  # what an acceptance at the point is to prove
    clock: Literal["lockstep", "overlap"]  # of the run
    removing: bool  # nothing is wrong: the intervention only tries to take shaping away
    given: bool  # the config gives the candidates: nobody is asked for a diagnosis, for ideas or for their order
    before: dict[str, Any] | None  # EvaluationReport of the main line, the last one before a promotion
    watch: dict[str, Any] | None  # the Watch since the last promotion
    monitoring: bool  # there is an evaluation that `monitor` has not judged yet
    status: dict[str, Any]  # TrainerStatus at the point

    messages: Annotated[list[BaseMessage], add_messages]  # the Critic's tool calls and their answers
    calls_left: int  # tool calls of the Critic; below 0: that many of its last message are over the limit
    diagnosis: dict[str, Any] | None  # the Critic's Diagnosis
    ranking: bool  # single agents' moves are to be ranked at this point
    left_data: list[str]  # names of scorers in force whose pairs the policy has left
    # kinds of signals that are to be fitted to the run's own episodes at this point; of older versions, whether one is
    fitting: list[str] | bool
    learned: dict[str, Any] | None  # the Proposal that was fitted to rankings at this point
    fitted: list[dict[str, Any]]  # the Proposals that were fitted to episodes at this point

    round: int
    proposals: list[str]  # ids of this round, in the Generator's order
    passed: list[str]  # those that passed `check`
    ranked: list[str]  # those, best first
    exploration: dict[str, Any]  # what every arm of the round gets, an Exploration

    race: str | None  # id of the race that runs, or whose winner is about to be adopted
    rungs: int  # of that race that are over
    outcome: dict[str, Any]  # what `validate` found, an Outcome
    approved: bool  # by the human or, with `approve: auto`, by nobody's no
    verdict: DecisionVerdict | None
    note: dict[str, Any]  # what the last node did, for the visit's record


def status_of(state: State) -> TrainerStatus:
    """Return the trainer's status at the point."""
    return TrainerStatus.model_validate(state["status"])


def standing_of(state: State) -> int:
    """Return the point where the trainer stands; the state of an earlier version, which knew no races, has but one."""
    return state.get("standing", state["point"])


def claim_of(state: State) -> Literal["policy", "signal"]:
    """Return what an acceptance at the point is to prove; earlier versions judged signals."""
    return state.get("claim", "signal")


def outcome_of(state: State) -> Outcome:
    """Return what `validate` found, with what `confirm` added."""
    return Outcome.model_validate(state["outcome"])


def decision_id_of(state: State) -> str:
    """Return the id of the decision that ends the state's round."""
    return decision_id(state["point"], state["round"])
