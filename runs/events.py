"""What a run tells while it runs: `async for event in run.events()`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..rl.stage import Stage


class EventBase(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunStarted(EventBase):
    """`tracing`: prompts go to the hosted service that the environment names, because `llm.tracing` says so.
    `tracing_ignored`: variables of the environment that ask for it in vain. `spans_to`: the address of the collector
    that spans are sent to, `spans_content`: with prompts and answers.
    """

    kind: Literal["run_started"] = "run_started"
    path: str
    resumed: bool
    provider: str  # "rules" is no language model
    steps_budget: int
    tracing: bool = False
    tracing_ignored: list[str] = []
    spans_to: str | None = None
    spans_content: bool = False


class Progress(EventBase):
    """`steps_total`: main, evaluation and branch steps. `sparse_return`, `success_rate`: of the last evaluation,
    which was at `evaluated_at` main steps."""

    kind: Literal["progress"] = "progress"
    steps_main: int
    steps_total: int
    steps_budget: int
    sparse_return: float | None
    success_rate: float | None
    evaluated_at: int | None = None
    stage: Stage
    signal_version: int
    waiting: bool  # the trainer stands at an adaptation point


class NodeEntered(EventBase):
    kind: Literal["node_entered"] = "node_entered"
    node: str
    point: int | None
    round: int


class NodeLeft(EventBase):
    """`status`: ok, error, or waiting for a human. `detail`: what the node did, in short."""

    kind: Literal["node_left"] = "node_left"
    node: str
    point: int | None
    round: int
    status: str
    detail: dict[str, Any]


class Diagnosed(EventBase):
    kind: Literal["diagnosed"] = "diagnosed"
    point: int
    failures: list[str]  # most important first


class TransitionsRanked(EventBase):
    """Single agents' moves were ranked and scorers fitted. `ranker`: who ranked, an oracle named as such. `steps`:
    environment steps that were played for it, rehearsals apart. `rounds`: how often moves were ranked. `groups`: by
    the group's number, the scorer and how well it fits."""

    kind: Literal["transitions_ranked"] = "transitions_ranked"
    point: int
    ranker: str
    steps: int
    rounds: int
    groups: dict[str, dict[str, Any]]


class ProposalMade(EventBase):
    kind: Literal["proposal_made"] = "proposal_made"
    id: str
    title: str
    problems: list[str]  # empty: it passed `check`


class BranchFinished(EventBase):
    """`final_return`, `success_rate`: of the evaluation at the branch's end. `steps`: with its evaluation."""

    kind: Literal["branch_finished"] = "branch_finished"
    point: int
    phase: str
    arm: str
    seed: int
    horizon: int
    final_return: float
    success_rate: float | None
    steps: int


class Decided(EventBase):
    kind: Literal["decided"] = "decided"
    id: str
    verdict: str
    winner: str | None
    reason: str


class ApprovalNeeded(EventBase):
    """An accepted promotion waits until it is answered by `Run.approve(id, yes)` or `cosignal approve`.

    `title`, `reason`, `terms`: the proposal's. `gate`: the gate's arithmetic in words. `diff`: what would change about
    the signal in force, whose version is `replaces`. `adopted`: as in `Promoted`.
    """

    kind: Literal["approval_needed"] = "approval_needed"
    id: str
    proposal: str
    title: str
    reason: str
    terms: list[str]
    gate: str
    diff: list[str]
    replaces: int
    adopted: str


class ApprovalGiven(EventBase):
    """`yes`: None where training was over before anybody answered."""

    kind: Literal["approval_given"] = "approval_given"
    id: str
    yes: bool | None


class Promoted(EventBase):
    """`adopted`: "state" where the winning branch's end state became the main line, else "signal"."""

    kind: Literal["promoted"] = "promoted"
    proposal: str
    version: int
    adopted: str
    repeated: bool  # it had been applied before a restart; nothing was done twice


class ControlKept(EventBase):
    """Nothing was accepted, and the control's end state became the main line: its steps are not run again. The signal
    stays, under a new version."""

    kind: Literal["control_kept"] = "control_kept"
    id: str  # of the decision
    version: int
    steps: int


class RolledBack(EventBase):
    """`undone`: the version that is no longer in force, `proposal`: whose it was, `version`: the new one."""

    kind: Literal["rolled_back"] = "rolled_back"
    proposal: str
    undone: int
    version: int
    reason: str
    repeated: bool  # as in Promoted


class SpansLost(EventBase):
    """So many spans of this session did not reach the collector at `address`."""

    kind: Literal["spans_lost"] = "spans_lost"
    spans: int
    address: str


class RunFinished(EventBase):
    kind: Literal["run_finished"] = "run_finished"
    status: dict[str, Any]  # what `cosignal status --json` prints


Event = Annotated[
    RunStarted
    | Progress
    | NodeEntered
    | NodeLeft
    | Diagnosed
    | TransitionsRanked
    | ProposalMade
    | BranchFinished
    | Decided
    | ApprovalNeeded
    | ApprovalGiven
    | Promoted
    | ControlKept
    | RolledBack
    | SpansLost
    | RunFinished,
    Field(discriminator="kind"),
]
