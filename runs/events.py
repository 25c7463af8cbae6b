"""The events of a run while it runs, as `async for event in run.events()` gives them.

Each event is frozen plain data with a `kind`; `Event` is the union of them all. Steps are environment steps. Returns
are undiscounted sparse returns, success rates are shares from 0 to 1 (None where the task has no success test).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..rl.stage import Stage

GIVEN_SIGNALS = "given signals"  # the provider of a run whose config gives the candidates


class EventBase(BaseModel):
    """The common base: events are never changed, and take no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ---------------------------------------------------------------- the run and its training


class RunStarted(EventBase):
    """The run has started, or goes on after an interruption.

    Attributes:
        path: the run directory.
        resumed: whether it goes on.
        provider: who answers for the roles; "rules" is no language model, "given signals" is nobody.
        steps_budget: main steps to train for.
        tracing: prompts go to the hosted service that the environment names, because `llm.tracing` says so.
        tracing_ignored: variables of the environment that ask for hosted tracing in vain.
        spans_to: address of the collector that spans are sent to, None for nobody.
        spans_content: whether spans carry prompts and answers.
        changes: keys of the config that have another value than when the run was last started → both values.
        notes: what else is to be known about how the run was found or made.
    """

    kind: Literal["run_started"] = "run_started"
    path: str
    resumed: bool
    provider: str
    steps_budget: int
    tracing: bool = False
    tracing_ignored: list[str] = []
    spans_to: str | None = None
    spans_content: bool = False
    changes: dict[str, tuple[Any, Any]] = {}
    notes: list[str] = []


class Progress(EventBase):
    """Training has gone on.

    Attributes:
        steps_main: steps that the policy in force was trained for; less than before where a younger one was adopted.
        steps_total: every step that was played, see `runs.steps`.
        steps_budget: main steps to train for.
        sparse_return: of the last evaluation, None before the first one.
        success_rate: of the last evaluation.
        evaluated_at: main steps at which that evaluation was.
        stage: the stage of learning.
        signal_version: version of the signal in force.
        waiting: whether the trainer stands at an adaptation point.
    """

    kind: Literal["progress"] = "progress"
    steps_main: int
    steps_total: int
    steps_budget: int
    sparse_return: float | None
    success_rate: float | None
    evaluated_at: int | None = None
    stage: Stage
    signal_version: int
    waiting: bool


class RunFinished(EventBase):
    """The run is over. `status` is what `cosignal status --json` prints."""

    kind: Literal["run_finished"] = "run_finished"
    status: dict[str, Any]


class Warned(EventBase):
    """Something about the run is not as the user may think, though it goes on; each message is told once."""

    kind: Literal["warned"] = "warned"
    message: str


class SpansLost(EventBase):
    """Some spans of this session, `spans` of them, did not reach the collector at `address`."""

    kind: Literal["spans_lost"] = "spans_lost"
    spans: int
    address: str


# ---------------------------------------------------------------- the graph


class NodeEntered(EventBase):
    """A node of the graph begins; `point` is the update of the adaptation point, None before the first one."""

    kind: Literal["node_entered"] = "node_entered"
    node: str
    point: int | None
    round: int


class NodeLeft(EventBase):
    """A node of the graph has ended.

    Attributes:
        node: its name.
        point: update of the adaptation point, None before the first one.
        round: round of the intervention, from 0.
        status: ok, error, or waiting for a human.
        detail: a summary of what the node did.
    """

    kind: Literal["node_left"] = "node_left"
    node: str
    point: int | None
    round: int
    status: str
    detail: dict[str, Any]


# ---------------------------------------------------------------- an intervention


class Diagnosed(EventBase):
    """The Critic has named `failures`, the most important first."""

    kind: Literal["diagnosed"] = "diagnosed"
    point: int
    failures: list[str]


class TransitionsRanked(EventBase):
    """Single agents' moves were ranked, and scorers fitted to the ranking.

    Attributes:
        point: update of the adaptation point.
        ranker: who ranked; an oracle is named as such.
        steps: environment steps that were played for it, without those of rehearsals.
        rounds: how often moves were ranked.
        groups: number of the group → its scorer, and how well that fits.
    """

    kind: Literal["transitions_ranked"] = "transitions_ranked"
    point: int
    ranker: str
    steps: int
    rounds: int
    groups: dict[str, dict[str, Any]]


class SignalFitted(EventBase):
    """A signal was fitted to episodes of the run's policy, or could not be.

    Attributes:
        point: update of the adaptation point.
        what: the kind of signal, as the config has it below `learned_signals`.
        steps: environment steps that were played for it.
        detail: a `FitDetail`.
    """

    kind: Literal["signal_fitted"] = "signal_fitted"
    point: int
    what: str
    steps: int
    detail: dict[str, Any]


class ProposalMade(EventBase):
    """There is a proposal, of the Generator, a scorer, the config or a rule; with `problems` `check` has refused it."""

    kind: Literal["proposal_made"] = "proposal_made"
    id: str
    title: str
    problems: list[str]


class BranchFinished(EventBase):
    """A branch has ended: one that judges a signal, or one rung of an arm of a race.

    Attributes:
        point: update of the adaptation point.
        phase: what the branch was for, such as screen, full or race.
        arm: id of the proposal, control, or the name of an arm of a race.
        seed: number of the seed.
        horizon: environment steps since its fork.
        final_return: of the evaluation at the branch's end.
        success_rate: of that evaluation.
        steps: environment steps that the branch took, with its evaluation.
    """

    kind: Literal["branch_finished"] = "branch_finished"
    point: int
    phase: str
    arm: str
    seed: int
    horizon: int
    final_return: float
    success_rate: float | None
    steps: int


class BranchFailed(EventBase):
    """A branch could not be run; its arm is not tried further, and the run goes on.

    Attributes:
        point: update of the adaptation point.
        phase: as in `BranchFinished`.
        arm: as in `BranchFinished`.
        seed: number of the seed.
        horizon: as in `BranchFinished`.
        reason: why, in words.
        steps: environment steps that were spent on it.
    """

    kind: Literal["branch_failed"] = "branch_failed"
    point: int
    phase: str
    arm: str
    seed: int
    horizon: int
    reason: str
    steps: int


class RungFinished(EventBase):
    """A race has trained and looked at its arms once more.

    Attributes:
        point: update of the adaptation point at which the race began.
        rung: its number, from 1.
        steps_main: main steps of the main line at the rung's end.
        control: mean return of the main line's policy over the look's episodes.
        arms: arm that trained this rung → mean return of its policy over the look's episodes.
        dropped: arm that trains no further → why, in words.
    """

    kind: Literal["rung_finished"] = "rung_finished"
    point: int
    rung: int
    steps_main: int
    control: float
    arms: dict[str, float]
    dropped: dict[str, str] = {}


class PolicyConfirmed(EventBase):
    """The policy of an arm and the best of the main line have played fresh episodes that no decision had seen.

    It says nothing of the signal that the arm trains under.

    Attributes:
        point: update of the adaptation point at which the race began.
        rung: after which it was confirmed.
        arm: its name.
        gain: mean return over that of the main line's policy.
        lower: lower bound of the gain at `level`; None where nothing can be said.
        level: one-sided level that this confirmation could spend.
        margin: what the bound had to clear.
        proven: whether it did.
    """

    kind: Literal["policy_confirmed"] = "policy_confirmed"
    point: int
    rung: int
    arm: str
    gain: float
    lower: float | None
    level: float
    margin: float
    proven: bool


class Decided(EventBase):
    """A round has its verdict.

    Attributes:
        id: of the decision.
        verdict: as in `DecisionRecord`.
        winner: the proposal, or the arm of a race, that it is about; None where nothing was accepted.
        reason: the arithmetic in words, of the gate or of the confirmation, or why there was none.
        claim: what an acceptance proves, a policy, a signal or an offset; as in `DecisionDetail`.
    """

    kind: Literal["decided"] = "decided"
    id: str
    verdict: str
    winner: str | None
    reason: str
    claim: str = "signal"


class ApprovalNeeded(EventBase):
    """What was accepted, a signal, a policy or an offset, waits until it is answered by `Run.approve(id, yes)` or
    `cosignal approve`.

    Attributes:
        id: of the decision, which the answer names.
        proposal: id of the proposal, or the name of an arm of a race that has none.
        title: of the proposal, or what the arm is.
        reason: of the proposal; empty where there is none.
        terms: of the signal that would be in force, a readable line each.
        gate: the arithmetic in words: of the gate, or of the confirmation that proved a policy and no signal.
        diff: what would change about the signal in force, a line each.
        replaces: version of the signal in force.
        adopted: as in `Promoted`.
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
    """What waited, `id`, was answered.

    Attributes:
        yes: None where training was over before anybody answered.
        because: why it is declined, in the words of who declines; empty where nothing was said.
    """

    kind: Literal["approval_given"] = "approval_given"
    id: str
    yes: bool | None
    because: str = ""


class Promoted(EventBase):
    """What was accepted is in force.

    Attributes:
        proposal: its id, or the name of an arm of a race that has none.
        version: version of the signal that is in force with it.
        adopted: "state" where the winner's end state became the main line, as a policy's always does, else "signal".
        repeated: it had been applied before a restart, and nothing was done twice.
        claim: what was proven, as in `DecisionDetail`; with "policy" nothing of the signal.
    """

    kind: Literal["promoted"] = "promoted"
    proposal: str
    version: int
    adopted: str
    repeated: bool
    claim: str = "signal"


class ControlKept(EventBase):
    """Nothing was accepted, and the control's end state became the main line: its `steps` are not run again.

    The signal stays, under a new `version`. `id` is the decision's.
    """

    kind: Literal["control_kept"] = "control_kept"
    id: str
    version: int
    steps: int


class RolledBack(EventBase):
    """A promotion of a signal, or an adoption of a policy, was undone.

    Attributes:
        proposal: as in `Promoted`.
        undone: version of the signal that is no longer in force.
        version: version of the signal that is in force now.
        reason: the monitor's arithmetic in words.
        repeated: as in `Promoted`.
    """

    kind: Literal["rolled_back"] = "rolled_back"
    proposal: str
    undone: int
    version: int
    reason: str
    repeated: bool


Event = Annotated[
    RunStarted
    | Progress
    | NodeEntered
    | NodeLeft
    | Diagnosed
    | TransitionsRanked
    | SignalFitted
    | ProposalMade
    | BranchFinished
    | BranchFailed
    | RungFinished
    | PolicyConfirmed
    | Decided
    | ApprovalNeeded
    | ApprovalGiven
    | Promoted
    | ControlKept
    | RolledBack
    | Warned
    | SpansLost
    | RunFinished,
    Field(discriminator="kind"),
]


def stream_chunk(event: Event) -> dict[str, Any]:
    """Return the event as LangGraph's stream mode `custom` carries it: a JSON object whose `type` is the kind."""
    return {"type": event.kind, **event.model_dump(mode="json", exclude={"kind"})}
