"""What crosses the seam between loop, trainer and branch workers. Pydantic only: imports neither torch nor LangChain.

Every request is answered by exactly one reply. Envelope: JSON, one ZeroMQ frame; `protocol` must equal PROTOCOL.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from ..evidence.schema import Evidence, Wire
from ..signals.signal import Exploration, Signal
from ..stage import Stage
from ..task import TaskSpec

PROTOCOL = 2

TrainerState = Literal["training", "waiting", "finished", "stopping"]
# Why a line of the signal log was written. `control`: the control's end state became the main line, the signal stayed.
Cause = Literal["start", "promotion", "rollback", "control"]
ErrorKind = Literal["protocol", "version_conflict", "signal", "snapshot", "branch", "bad_request"]


# ---------------------------------------------------------------- requests, loop to trainer


class Hello(Wire):
    """`pid`: the loop's process; when it is gone, a waiting trainer waits a bounded time, checkpoints and leaves."""

    kind: Literal["hello"] = "hello"
    protocol: int = PROTOCOL
    pid: int = Field(default_factory=os.getpid)


class GetStatus(Wire):
    kind: Literal["get_status"] = "get_status"


class GetEvidence(Wire):
    kind: Literal["get_evidence"] = "get_evidence"


class Look(Wire):
    """Snapshot the main line at this update boundary and say what is there: status and evidence of one instant. Under
    lockstep the snapshot of a waiting point exists already."""

    kind: Literal["look"] = "look"


class Query(Wire):
    """Evidence on demand; `what` and its bounds are those of the `query_trainer` tool."""

    kind: Literal["query"] = "query"
    what: Literal["metric_curve", "episode", "term_statistics", "feature_statistics"]
    name: str | None = None  # a metric's or a feature's name
    points: int = Field(default=20, ge=2, le=100)


class Promote(Wire):
    """Compare-and-set: applied at the next update boundary if `base_version` is in force. `key` makes it idempotent.

    `adopt`: directory of a branch's end state that becomes the main line, None to keep the main line's own state.
    `cause`: what the signal log says of it.
    """

    kind: Literal["promote"] = "promote"
    key: str
    base_version: int
    signal: Signal
    adopt: str | None = None
    cause: Literal["promotion", "control"] = "promotion"


class Rollback(Wire):
    """Undo the version in force: compare-and-set on `base_version`, idempotent by `key`. Weights and signal come back
    from the snapshot before its promotion, random streams are reseeded, and a new version is written; updates and steps
    go on. Answered by a `PromoteReply`."""

    kind: Literal["rollback"] = "rollback"
    key: str
    base_version: int


class Release(Wire):
    """Lockstep: leave the adaptation point at `update` and train to the next one. A past point is ignored."""

    kind: Literal["release"] = "release"
    update: int


class Stop(Wire):
    """Checkpoint and leave."""

    kind: Literal["stop"] = "stop"


Request = Annotated[
    Hello | GetStatus | GetEvidence | Look | Query | Promote | Rollback | Release | Stop, Field(discriminator="kind")
]

# ---------------------------------------------------------------- replies, trainer to loop


class HelloReply(Wire):
    kind: Literal["hello"] = "hello"
    protocol: int = PROTOCOL
    pid: int
    run_id: str
    spec: TaskSpec


class EvaluationReport(Wire):
    """The main line's last evaluation. `steps`: main steps at which it was made. `mean`, `sd`: of the episodes' sparse
    returns. `version`: signal in force."""

    steps: int
    mean: float
    sd: float
    episodes: int
    success_rate: float | None
    version: int


class TrainerStatus(Wire):
    """`waiting_at`: the update of the adaptation point at which a lockstep trainer waits, else None.

    steps_main counts the main line; steps_evaluation what it spent on evaluation; steps_repeated what was trained again
    after a crash. `snapshot`: directory of the point's snapshot, written before the trainer says that it waits; under
    the overlap clock only a `LookReply` has one. `sparse_return`, `success_rate`: of `evaluation`.
    """

    kind: Literal["status"] = "status"
    state: TrainerState
    update: int
    steps_main: int
    steps_evaluation: int
    steps_repeated: int
    steps_adopted: int
    steps_budget: int
    waiting_at: int | None
    snapshot: str | None
    stage: Stage
    signal: Signal
    sparse_return: float | None
    success_rate: float | None
    evaluation: EvaluationReport | None = None


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
    """`repeated`: the key had been applied before; nothing was done twice. `steps_main`: main steps right after it was
    applied (an adopted state brings its branch's steps along), also when it is asked again later."""

    kind: Literal["promote"] = "promote"
    version: int
    applied_at_update: int
    steps_main: int
    repeated: bool


class Ack(Wire):
    kind: Literal["ack"] = "ack"


class ErrorReply(Wire):
    kind: Literal["error"] = "error"
    error: ErrorKind
    message: str


Reply = Annotated[
    HelloReply | TrainerStatus | EvidenceReply | LookReply | QueryReply | PromoteReply | Ack | ErrorReply,
    Field(discriminator="kind"),
]


# ---------------------------------------------------------------- branch workers


class BranchJob(Wire):
    """Continue `start` (a snapshot's or a branch's end-state directory) under `signal` until `horizon` steps after the
    fork, then evaluate.

    `fork` is the snapshot all arms share; `start` differs from it only where a finished branch is extended.
    `exploration` is given to every arm at the fork (not again at an extension). Seed 0 keeps the main run's random
    streams, k > 0 reseeds all of them. The same job always gives the same result.
    """

    kind: Literal["branch"] = "branch"
    key: str  # from branch_key(): content, so that finished ones are reused
    fork: str
    start: str
    arm: str  # "control" or a proposal's id
    signal: Signal
    exploration: Exploration
    seed: int = Field(ge=0)
    horizon: int = Field(ge=1)
    evaluation_seed: int
    evaluation_episodes: int = Field(ge=1)
    end_state: str  # directory to write


class BranchResult(Wire):
    """`curve`: [steps since the fork, mean sparse return of training episodes, success rate] per window.

    `final_return`, `success_rate`: of the evaluation episodes at the end. `steps`: environment steps this job took,
    its evaluation apart in `steps_evaluation`. `signal` has its scale frozen.
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
    cpu_s: float


class WorkerReady(Wire):
    kind: Literal["ready"] = "ready"
    pid: int


WorkerReply = Annotated[WorkerReady | BranchResult | ErrorReply, Field(discriminator="kind")]

# ---------------------------------------------------------------- wake-ups (PUB/SUB): carry no truth


class Wakeup(Wire):
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
