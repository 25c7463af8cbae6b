"""Messages between loop, trainer and branch workers. Pydantic only: imports neither torch nor LangChain.

Every request is answered by exactly one reply. Envelope: JSON, one ZeroMQ frame; `protocol` must equal PROTOCOL.

    loop → trainer    Request      Hello, GetStatus, GetEvidence, Look, Query, Promote, Rollback, Release, Stop
    trainer → loop    Reply        HelloReply, TrainerStatus, EvidenceReply, LookReply, QueryReply, PromoteReply, Ack,
                                   or an ErrorReply to any of them
    loop → worker     BranchJob, EvaluationJob
    worker → loop     WorkerReply  WorkerReady once, then a BranchResult, an EvaluationResult or a BranchFailure to each
                                   job, or an ErrorReply where that says nothing of the branch
    trainer → anyone  Wakeup       on a PUB/SUB socket
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from ...errors import (
    BranchError,
    CosignalError,
    ProtocolError,
    SignalError,
    SnapshotError,
    VersionConflict,
)
from ..evidence.schema import Evidence, Wire
from ..processes import MAX_PID
from ..signals.signal import Exploration, Signal
from ..stage import Stage
from ..task import TaskSpec

PROTOCOL = 4

Pid = Annotated[int, Field(gt=0, le=MAX_PID)]
Count = Annotated[int, Field(ge=0, le=2**62)]  # updates, versions: what a database can hold, too
Key = Annotated[str, Field(min_length=1, max_length=500)]


def _below(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\0" in path:
        raise ValueError(f"must be a path below the run directory, got {path!r}")
    return path


InRunDirectory = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_below)]

TrainerState = Literal["training", "waiting", "finished", "stopping"]
# Why a line of the signal log was written. `control`: the control's end state became the main line, the signal stayed.
# `offset`: potentials left the reward and are kept in the critic, so that nothing changed for what is learnt.
Cause = Literal["start", "promotion", "rollback", "control", "offset"]
ErrorKind = Literal["protocol", "version_conflict", "signal", "snapshot", "branch", "bad_request"]


# ---------------------------------------------------------------- requests, loop to trainer


class Hello(Wire):
    """The first request of a loop.

    Attributes:
        pid: the loop's process; when it is gone, a waiting trainer waits a bounded time, checkpoints and leaves.
    """

    kind: Literal["hello"] = "hello"
    protocol: int = PROTOCOL
    pid: Pid = Field(default_factory=os.getpid)


class GetStatus(Wire):
    kind: Literal["get_status"] = "get_status"


class GetEvidence(Wire):
    kind: Literal["get_evidence"] = "get_evidence"


class Look(Wire):
    """Snapshot the main line at this update boundary, and return status and evidence of the same instant.

    Under lockstep the snapshot of a waiting point exists already. `episodes`: fresh ones are played for the evidence,
    once at an update; their steps count as steps of evaluation.
    """

    kind: Literal["look"] = "look"
    episodes: bool = False


class Query(Wire):
    """Ask for evidence on demand; `what` and its bounds are those of the `query_trainer` tool."""

    kind: Literal["query"] = "query"
    what: Literal["metric_curve", "episode", "term_statistics", "feature_statistics"]
    name: str | None = Field(default=None, max_length=500)  # a metric's or a feature's name
    points: int = Field(default=20, ge=2, le=100)


class Promote(Wire):
    """Compare and set: the signal is applied at the next update boundary if `base_version` is in force.

    Attributes:
        key: makes it idempotent.
        adopt: directory of a branch's end state that becomes the main line, None to keep the main line's own state.
        cause: of the entry in the signal log.
    """

    kind: Literal["promote"] = "promote"
    key: Key
    base_version: Count
    signal: Signal
    adopt: InRunDirectory | None = None
    cause: Literal["promotion", "control", "offset"] = "promotion"


class Rollback(Wire):
    """Undo the version in force: compare and set on `base_version`, idempotent by `key`.

    Weights and signal come back from the snapshot before its promotion, random streams are reseeded, and a new version
    is written; updates and steps go on. Answered by a `PromoteReply`.
    """

    kind: Literal["rollback"] = "rollback"
    key: Key
    base_version: Count


class Release(Wire):
    """Lockstep: leave the adaptation point at `update` and train to the next one. A past point is ignored."""

    kind: Literal["release"] = "release"
    update: Count


class Stop(Wire):
    """Checkpoint and leave."""

    kind: Literal["stop"] = "stop"


Request = Annotated[
    Hello | GetStatus | GetEvidence | Look | Query | Promote | Rollback | Release | Stop, Field(discriminator="kind")
]

# ---------------------------------------------------------------- replies, trainer to loop


class HelloReply(Wire):
    """The trainer's answer to `Hello`.

    Attributes:
        pid: the trainer's process.
        warnings: what was damaged in the run directory when it started, and how that was made good.
    """

    kind: Literal["hello"] = "hello"
    protocol: int = PROTOCOL
    pid: Pid
    run_id: str
    spec: TaskSpec
    warnings: tuple[str, ...] = ()


class EvaluationReport(Wire):
    """The main line's last evaluation.

    Attributes:
        steps: main steps at which it was made.
        mean, sd: of the episodes' sparse returns.
        version: of the signal in force then.
    """

    steps: int
    mean: float
    sd: float
    episodes: int
    success_rate: float | None
    version: int


class TrainerStatus(Wire):
    """The state of the main line: counters, stage, signal and last evaluation.

    Attributes:
        update: updates so far.
        steps_main: environment steps that the policy in force was trained for since step 0, wherever that was.
        steps_evaluation: environment steps that evaluation took.
        steps_repeated: steps that were trained again after a crash.
        steps_trained: environment steps that the trainer trained itself, each once.
        steps_budget: main steps of the whole run.
        waiting_at: the update of the adaptation point at which a lockstep trainer waits, else None.
        snapshot: directory of the point's snapshot, written before the trainer says that it waits; under the overlap
            clock only a `LookReply` has one.
        sparse_return, success_rate: of `evaluation`.
        replay_difference: what was different where the line's running episodes could not be brought back.
    """

    kind: Literal["status"] = "status"
    state: TrainerState
    update: int
    steps_main: int
    steps_evaluation: int
    steps_repeated: int
    steps_trained: int
    steps_budget: int
    waiting_at: int | None
    snapshot: str | None
    stage: Stage
    signal: Signal
    sparse_return: float | None
    success_rate: float | None
    evaluation: EvaluationReport | None = None
    replay_difference: str | None = Field(default=None, exclude_if=lambda difference: difference is None)

    @model_validator(mode="before")
    @classmethod
    def _of_older_version(cls, data: Any) -> Any:
        """Read what an older version has written down: it counted the main steps that were not the trainer's own."""
        if isinstance(data, dict) and "steps_adopted" in data:
            data = dict(data)
            data.setdefault("steps_trained", data["steps_main"] - data.pop("steps_adopted"))
        return data


class LookReply(Wire):
    kind: Literal["look"] = "look"
    status: TrainerStatus
    evidence: Evidence


class EvidenceReply(Wire):
    kind: Literal["evidence"] = "evidence"
    evidence: Evidence


class QueryReply(Wire):
    kind: Literal["query"] = "query"
    data: dict[str, Any]


class PromoteReply(Wire):
    """A promotion or a rollback was applied.

    Attributes:
        version: of the signal that is in force since.
        applied_at_update: the update boundary.
        steps_main: main steps right after it was applied, also when it is asked again later: those of the adopted
            state, where there is one, which may be fewer than before.
        repeated: the key had been applied before; nothing was done twice.
    """

    kind: Literal["promote"] = "promote"
    version: int
    applied_at_update: int
    steps_main: int
    repeated: bool


class Ack(Wire):
    kind: Literal["ack"] = "ack"


class ErrorReply(Wire):
    """The request, or the job, could not be done; nothing has changed."""

    kind: Literal["error"] = "error"
    error: ErrorKind
    message: str


Reply = Annotated[
    HelloReply | TrainerStatus | EvidenceReply | LookReply | QueryReply | PromoteReply | Ack | ErrorReply,
    Field(discriminator="kind"),
]


# ---------------------------------------------------------------- branch workers


class EpisodeStats(Wire):
    """The outcome of fresh episodes of one policy; n episodes, of which the same place means the same reset seed.

    Attributes:
        returns: [n] undiscounted sparse returns of the team.
        successes: [n] whether they succeeded, None where the task has no success test.
        lengths: [n] steps.
        reached: by milestone, [n] how often it was reached. `switch_triggered` is an event, counted over all agents of
            all groups that have it; `at dist_goal` is a feature of the kind distance: the most agents that were within
            5 % of its range of its low end at once.
        steps: environment steps that they took.
    """

    returns: list[float]
    successes: list[bool] | None
    lengths: list[int]
    reached: dict[str, list[int]]
    steps: int

    @property
    def mean_return(self) -> float:
        return sum(self.returns) / len(self.returns)

    @property
    def success_rate(self) -> float | None:
        return None if self.successes is None else sum(self.successes) / len(self.successes)


class EvaluationJob(Wire):
    """Play fresh episodes with the policy of a snapshot, and train nothing. The same job always gives the same result.

    Attributes:
        key: of the job's content, by `evaluation_key()`.
        arm: whose policy it is, for messages.
        state: directory of the snapshot.
        seed: base seed of the episodes.
        episodes: how many.
    """

    kind: Literal["evaluation"] = "evaluation"
    key: str
    arm: str
    state: InRunDirectory
    seed: int
    episodes: int = Field(ge=1)


class EvaluationResult(Wire):
    """The outcome of an `EvaluationJob`.

    Attributes:
        steps_main: main steps of the policy: those of its own line since step 0.
        cpu_s: CPU seconds of the worker.
    """

    kind: Literal["evaluation_result"] = "evaluation_result"
    key: str
    arm: str
    steps_main: int
    episodes: EpisodeStats
    cpu_s: float


class BranchJob(Wire):
    """Continue `start` under `signal` until `horizon` steps after the fork, then evaluate.

    The same job always gives the same result.

    Attributes:
        key: of the job's content, by `branch_key()`, so that finished ones are reused.
        fork: the snapshot that the arm comes from; all arms of a gate's round share one.
        start: directory of the state to start from; it differs from `fork` only where a finished branch is extended.
        arm: "control", a proposal's id, or the name of an arm without one.
        exploration: of the arm at the fork (not again at an extension).
        seed: 0 keeps the main run's random streams, k > 0 reseeds all of them.
        end_state: directory to write.
        fresh: begin fresh episodes where the running ones could only be played again. All arms of a fork are alike.
        trained: environment steps since the fork that `start` has already, as far as who asks knows.
        new_line: begin at step 0 instead of at the fork, with a network and streams of its own by the training seed
            `seed`; the horizon counts from there. `fork` only says where in the run that was.
    """

    kind: Literal["branch"] = "branch"
    key: str
    fork: str
    start: str
    arm: str
    signal: Signal
    exploration: Exploration
    seed: int = Field(ge=0)
    horizon: int = Field(ge=1)
    evaluation_seed: int
    evaluation_episodes: int = Field(ge=1)
    end_state: str
    fresh: bool = Field(default=False, exclude_if=lambda fresh: not fresh)  # jobs of most runs are what they were
    trained: int = Field(default=0, ge=0, exclude_if=lambda trained: not trained)
    new_line: bool = Field(default=False, exclude_if=lambda new_line: not new_line)


class BranchResult(Wire):
    """The outcome of a `BranchJob`.

    Attributes:
        signal: that was in force, with its scale frozen.
        final_return, success_rate: of the evaluation episodes at the end.
        fork_return: mean sparse return of training episodes at the fork.
        curve: [steps since the fork, mean sparse return of training episodes, success rate] per window.
        steps: environment steps that this job took.
        steps_evaluation: environment steps of its evaluation besides.
        episodes: the evaluation episodes one by one; results of earlier versions have none.
        cpu_s: CPU seconds of the worker.
    """

    kind: Literal["branch_result"] = "branch_result"
    key: str
    arm: str
    seed: int
    horizon: int
    signal: Signal
    final_return: float
    success_rate: float | None
    fork_return: float
    curve: list[tuple[int, float, float | None]]
    steps: int
    steps_evaluation: int
    end_state: str
    end_update: int
    episodes: EpisodeStats | None = None
    cpu_s: float


class BranchFailure(Wire):
    """A `BranchJob` or an `EvaluationJob` that could not be run.

    Attributes:
        reason: in words.
        cause: `error` is what the worker says, `lost` that workers ended on the job, `replay` that the episodes of its
            start cannot be played again (then nothing was trained), `skipped` that the job was not begun.
        steps: environment steps that were spent on it; where a worker was lost, the most that they can have been.
    """

    kind: Literal["branch_failure"] = "branch_failure"
    key: str
    arm: str
    seed: int
    reason: str
    cause: Literal["error", "lost", "replay", "skipped"]
    steps: int = 0


class WorkerReady(Wire):
    kind: Literal["ready"] = "ready"
    pid: Pid


BranchReply = BranchResult | BranchFailure
EvaluationReply = EvaluationResult | BranchFailure
WorkerJob = Annotated[BranchJob | EvaluationJob, Field(discriminator="kind")]
WorkerReply = Annotated[WorkerReady | BranchReply | EvaluationResult | ErrorReply, Field(discriminator="kind")]

# ---------------------------------------------------------------- wake-ups (PUB/SUB): carry no truth


class Wakeup(Wire):
    """Something may have changed: ask for the status."""

    kind: Literal["wakeup"] = "wakeup"
    update: int
    steps_main: int
    waiting_at: int | None
    state: TrainerState


EvidenceReply.model_rebuild()
LookReply.model_rebuild()
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)
REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)
WORKER_REPLY: TypeAdapter[WorkerReply] = TypeAdapter(WorkerReply)


# ---------------------------------------------------------------- errors as messages, and back

# raised by the side that gets an ErrorReply
ERRORS: Mapping[ErrorKind, type[CosignalError]] = MappingProxyType(
    {
        "protocol": ProtocolError,
        "version_conflict": VersionConflict,
        "signal": SignalError,
        "snapshot": SnapshotError,
        "branch": BranchError,
        "bad_request": ProtocolError,
    }
)


def error_reply(error: CosignalError) -> ErrorReply:
    """Return the reply of a trainer whose request failed by `error`."""
    kinds: tuple[ErrorKind, ...] = ("version_conflict", "signal", "snapshot")
    kind: ErrorKind = next((kind for kind in kinds if isinstance(error, ERRORS[kind])), "bad_request")
    return ErrorReply(error=kind, message=str(error))


class RequestHandler(Protocol):
    """The side that answers: the trainer, or what stands in for it."""

    def handle(self, request: Request) -> Reply: ...
