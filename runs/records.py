"""The records of a run: what its tables hold, as frozen models.

Who writes them, at an adaptation point:

    observe                       InterventionRecord    the evidence; critic adds its diagnosis
    rank_transitions              RankingRecord         single agents' moves that were ranked
    fit_signals                   FitRecord             a signal that was fitted to experience
    generator, remove_shaping,
    given_signals                 ProposalRecord        check adds problems, notes and preview, rank_proposals the rank
    every node that branches      BranchRecord          one a finished branch
                                  FailedBranchRecord    one a branch that could not be run
    decide, or whoever ends it    DecisionRecord        confirm and promote add what became of it
    monitor                       DecisionRecord        a rollback
    the graph itself              VisitRecord           one a visit of a node
    the trainer                   SignalVersion         one a version of the signal

A model call is an `agents.llm.ledger.Call`. Keys that rows of an earlier version lack have defaults here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from ..agents.schemas import Diagnosis, Proposal
from ..rl.ipc.messages import BranchJob, BranchResult, Cause, TrainerStatus
from ..rl.signals.learned.config import FitKind
from ..rl.signals.learned.fit import SignalFit
from ..rl.signals.preview import SignalPreview
from ..rl.signals.signal import Signal

Phase = Literal["screen", "full", "probe", "confirm", "rehearsal", "race"]
Claim = Literal["policy", "signal", "offset"]
VisitStatus = Literal["running", "ok", "error", "waiting", "killed"]

# What the gate says of an arm; or of one that it did not judge, that others were better in screening, or that its turn
# never came.
ArmVerdict = Literal["accept", "reject", "no_difference", "screened_out", "not_tried"]
BRANCH_FAILED: Literal["branch_failed"] = "branch_failed"  # a branch could not be run
OUT_OF_REWARD: Literal["out_of_reward"] = "out_of_reward"  # what is shown for an accepted offset: nothing was proven
KEPT_IN_CRITIC = "out of the reward, kept in the critic"  # the same in words

DecisionVerdict = Literal[
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
    "branch_failed",  # of the control, or of every candidate, so that there was nothing to judge
]


class Record(BaseModel):
    """A row of a table, or a part of one; its fields are the columns. A change is a copy that is written."""

    model_config = ConfigDict(frozen=True, extra="ignore")


# ---------------------------------------------------------------- ids


def decision_id(point: int, round_: int) -> str:
    """Return the id of the decision that ends a round."""
    return f"p{point}-r{round_}"


def proposal_id(point: int, round_: int, position: int) -> str:
    """Return the id of a proposal, which also names its arm."""
    return f"{decision_id(point, round_)}-{position}"


ROLLBACK_ID_END = "-rollback"


def rollback_id(point: int) -> str:
    """Return the id of what `monitor` decides at a point."""
    return f"p{point}{ROLLBACK_ID_END}"


# ---------------------------------------------------------------- interventions, rankings, proposals


class InterventionRecord(Record):
    """A row of the table `diagnoses`: an intervention.

    Attributes:
        point: update index of its adaptation point.
        diagnosis: the Critic's; None until it has answered.
        evidence: an `Evidence` as plain data, so that evidence of another version can be shown too.
    """

    point: int
    diagnosis: Diagnosis | None = None
    evidence: dict[str, Any]


class FittedScorer(Record):
    """The scorer of one group of agents and how well it fits.

    Attributes:
        scorer: name, of which the file in the run's folder of scorers is made.
        pairs: how many it was fitted to.
        held_out_loss: on the votes kept apart.
        accuracy: share of the votes kept apart that it is right on; None where none of them has a preference.
        agreement: the same with the judgements of the task's heuristic; None where there are none.
        epochs: of the fit, for each network of the ensemble.
        usual_disagreement: a high quantile of its ensemble's disagreement on its own pairs.
        refuted: pairs among them that the sparse outcome had set against earlier scorers.
        one_to_many: share of sets in which it scores the end of one good episode above those of nine bad ones; None
            where too few ended well and badly, and in runs of older versions.
        mean_reciprocal_rank: the mean of 1 / the rank of the good one.
    """

    scorer: str
    pairs: int
    held_out_loss: float
    accuracy: float | None
    agreement: float | None
    epochs: list[int]
    usual_disagreement: float
    refuted: int = 0
    one_to_many: float | None = None
    mean_reciprocal_rank: float | None = None


class RankingDetail(Record):
    """The result of the rounds of ranking at one point.

    Attributes:
        groups: by the group's number, its scorer.
        key_steps: what the team must do, in words; empty where no model ranks.
        rounds: how often moves were ranked.
    """

    groups: dict[str, FittedScorer] = {}
    key_steps: list[str] = []
    rounds: int = 1


class RankingRecord(Record):
    """A row of the table `rankings`: single agents' moves that were ranked at one point.

    Attributes:
        ranker: who ranked; an oracle is named as one.
        steps: environment steps that were played for it.
    """

    point: int
    ranker: str
    steps: int
    detail: RankingDetail = RankingDetail()


class FitDetail(SignalFit):
    """What was fitted, to so many episodes."""

    episodes: int


class FitRecord(Record):
    """A row of the table `fits`: a signal that was fitted to the run's own episodes at one point.

    Attributes:
        id: of point and kind.
        kind: of signal, as the config has it below `learned_signals`.
        steps: environment steps that were played for it; 0 where it shares the episodes of another kind.
        detail: what was found.
    """

    id: str
    point: int
    kind: FitKind
    steps: int
    detail: FitDetail


class ProposalRecord(Record):
    """A row of the table `proposals`.

    Attributes:
        position: in the Generator's order, from 0.
        signal: what the proposal would put in force.
        problems: why `check` refuses it; empty where it passed.
        notes: what `check` remarks besides.
        rank: place in the order in which candidates are tried, from 0; None where it was not ranked.
        preview: its numbers on what the run had recorded; None until `check` has seen it, where it does not fit the
            task, and in runs of earlier versions.
    """

    id: str
    point: int
    round: int
    position: int
    proposal: Proposal
    signal: Signal
    problems: list[str] = []
    notes: list[str] = []
    rank: int | None = None
    preview: SignalPreview | None = None


# ---------------------------------------------------------------- branches


class BranchJobRecord(Record):
    """What a finished branch and one that could not be run have in common.

    Attributes:
        key: made of the job's content.
        point: update index of the adaptation point that it belongs to.
        spent_at: update of the main line when it ran, where that is later than the point; see `spent`.
    """

    key: str
    point: int
    round: int
    phase: Phase
    arm: str
    seed: int
    horizon: int
    job: BranchJob
    spent_at: int | None = None

    @property
    def spent(self) -> int:
        """The update of the main line at which its steps were spent."""
        return self.point if self.spent_at is None else self.spent_at


class BranchRecord(BranchJobRecord):
    """A row of the table `branches`: a finished branch."""

    result: BranchResult

    @property
    def steps(self) -> int:
        """Environment steps of training and evaluation."""
        return self.result.steps + self.result.steps_evaluation


class FailedBranchRecord(BranchJobRecord):
    """A row of the table `failed_branches`: a branch that could not be run.

    Attributes:
        reason: why, in words.
        steps: environment steps that were spent on it; where workers were lost, the most that they can have been.
    """

    reason: str
    steps: int


# ---------------------------------------------------------------- decisions


class JudgementRecord(Record):
    """The gate's judgement of one arm; the fields are those of `rl.branches.gate.Judgement`."""

    arm: str
    verdict: ArmVerdict
    gain: float
    lower: float | None
    upper: float | None
    level: float
    seeds: list[int]
    success_change: float | None
    margin: float
    removal: bool
    explanation: str


class JudgedArm(JudgementRecord):
    """An arm that the gate judged.

    Attributes:
        control: the control's mean final return.
        curve: [steps since the fork, gain], means over the seeds.
    """

    control: float | None = None
    curve: list[tuple[int, float]] = []


class ScreenedArm(Record):
    """An arm that was screened and not judged: the gain of its screening branches has no bounds."""

    arm: str
    verdict: ArmVerdict
    gain: float
    lower: None = None
    upper: None = None
    seeds: list[int]
    explanation: str
    control: float | None = None
    curve: list[tuple[int, float]] = []


class Confirmation(Record):
    """A second judgement, from where the run was later, under the overlap clock.

    Attributes:
        why: the first one was too old.
        steps_main: main steps at the snapshot of the second one.
    """

    why: str
    steps_main: int
    judgement: JudgementRecord


class PendingConfirmation(Record):
    """A confirmation that has begun. One that is killed goes on from the snapshot in `status`."""

    why: str
    status: TrainerStatus


class DecisionDetail(Record):
    """The facts about a decision besides its columns. Only the keys that were set are written.

    Attributes:
        verdict, winner: as in the columns, when the round was judged.
        horizon: environment steps of a full branch.
        judgements: arms that the gate judged, in the order in which it did.
        screened: arms that were screened only, in rank order.
        failed: arms of which a branch could not be run, with the reason.
        problems: what was wrong with each proposal where none passed `check`, or that the gate is off.
        removing: content hash of the signal in force, where the round only tried to take it away.
        staleness: main steps between the snapshot of the newest judgement and the moment it was found fresh.
        confirmation: the second judgement, where the first was too old.
        reason: the verdict in words.
        declined_because: why the human who was asked has declined it, in his words; empty where he said nothing.
        confirming: set while a confirmation runs.
        undone: the version that a rollback undid.
        kept_control: environment steps of the control's branch that became the main line.
        adopt: end state that became the main line, relative to the run directory.
        seed: of the branch whose state or signal was promoted.
        claim: what an acceptance proved: that a policy is better, that a signal helps, or, `offset`, that nothing
            changes since what leaves the reward stays in the critic. Decisions of earlier versions are about signals.
        race: id of the race that the winner comes from; its record says which kind of arm that was.
    """

    verdict: DecisionVerdict | None = None
    winner: str | None = None
    horizon: int | None = None
    judgements: list[JudgedArm] = []
    screened: list[ScreenedArm] = []
    failed: dict[str, str] = {}
    problems: list[str] = []
    removing: str | None = None
    staleness: int | None = None
    confirmation: Confirmation | None = None
    reason: str = ""
    declined_because: str = ""
    confirming: PendingConfirmation | None = None
    undone: int | None = None
    kept_control: int | None = None
    adopt: str | None = None
    seed: int | None = None
    claim: Claim = "signal"
    race: str | None = None

    @model_serializer(mode="wrap")
    def _only_what_was_set(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if key in self.model_fields_set}

    @property
    def arms(self) -> list[JudgedArm | ScreenedArm]:
        """Every arm that ran: those that the gate judged, then those that were screened only."""
        return [*self.judgements, *self.screened]

    def arm(self, name: str) -> JudgedArm | ScreenedArm | None:
        """Return what is recorded of an arm, None where it did not run."""
        return next((arm for arm in self.arms if arm.arm == name), None)


class Outcome(DecisionDetail):
    """The result of a round. `validate` makes it, `confirm` adds to it, and it becomes the detail of the decision."""

    verdict: DecisionVerdict
    winner: str | None

    @property
    def explanation(self) -> str:
        """The gate's own words for the winner, else for the best finalist; why there is none where none was judged.

        Of a race, and of an exact offset, about which the gate is not asked, the reason.
        """
        if self.race is not None or self.claim == "offset":
            return self.reason
        for judgement in self.judgements if self.verdict != BRANCH_FAILED else ():
            if judgement.arm == (self.winner or judgement.arm):
                return judgement.explanation
        failed = [f"a branch of {arm} could not be run, {reason}" for arm, reason in self.failed.items()]
        return "; ".join([*self.problems, *failed]) or "nothing was tried"


class DecisionRecord(Record):
    """A row of the table `decisions`: the end of a round, or what `monitor` decided.

    Attributes:
        id: see `decision_id` and `rollback_id`.
        winner: the arm that was accepted, or whose promotion was rolled back.
        adopted: what a promotion took over, the winning branch's state or the signal alone; None without a promotion.
        version: of the signal that the decision brought, None where it brought none.
        created_steps: main steps at the point.
    """

    id: str
    point: int
    round: int
    verdict: DecisionVerdict
    winner: str | None
    adopted: Literal["state", "signal"] | None
    version: int | None
    detail: DecisionDetail
    created_steps: int

    @property
    def shown_verdict(self) -> str:
        """The verdict as pages, report and history name it: potentials that left by their offset won no acceptance."""
        return OUT_OF_REWARD if self.verdict == "accept" and self.detail.claim == "offset" else self.verdict

    @property
    def by_monitor(self) -> bool:
        """True where it is about a promotion of the past, and not the end of a round."""
        return self.id.endswith(ROLLBACK_ID_END)


# ---------------------------------------------------------------- signal log and visits


class SignalVersion(Record):
    """A line of the trainer's signal log: `signal` applies from the boundary after `applied_update` on.

    Attributes:
        base_version: the version that it replaced.
        applied_steps: main steps at that boundary.
        adopt: the state that became the main line with it, relative to the run directory; None where the line kept its
            own.
        cause: why it was put in force. Logs of an earlier version know promotions only.
    """

    version: int
    key: str
    base_version: int | None
    applied_update: int
    applied_steps: int
    signal: Signal
    adopt: str | None
    cause: Cause

    @model_validator(mode="before")
    @classmethod
    def _with_cause(cls, row: dict[str, Any]) -> dict[str, Any]:
        return {"cause": "promotion" if row.get("version") else "start", **row}


class VisitRecord(Record):
    """A row of the table `visits`: one visit of a node of the graph.

    Attributes:
        task_id: LangGraph's name for it, the same when the node runs again after a crash.
        started, ended: Unix time in seconds; `ended` is None while it lasts.
        detail: what the node did, in short; None while it lasts.
    """

    task_id: str
    node: str
    point: int | None
    round: int
    started: float
    ended: float | None
    status: VisitStatus
    detail: dict[str, Any] | None

    @property
    def seconds(self) -> float | None:
        """The time that it took, None while it lasts."""
        return None if self.ended is None else self.ended - self.started
