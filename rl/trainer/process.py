"""The trainer process: its loop, its clock, and the answers to requests.

It trains the main line, writes `trainer.db`, snapshots and TensorBoard events, and serves the loop between updates.
Under the lockstep clock it stops at every adaptation point until it is released; under the overlap clock it never
waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal as os_signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import structlog

from ...errors import CosignalError, RunLockedError, StorageError
from ...files import naming_disk_errors
from ..evidence.build import build_evidence, query
from ..evidence.schema import EpisodeEvidence, Evidence
from ..ipc import messages as m
from ..ipc.server import MAX_MESSAGE, TrainerServer
from ..processes import log_to, one_thread, parent_pid, process_is_alive
from ..training.checkpoint import snapshot_name
from .database import LoggedSignal
from .main_run import MainRun
from .signal_log import promote, reapply_log, rollback

ORPHAN_WAIT_S = 30.0  # how long the loop may be gone before the trainer leaves
PUBLISH_S = 0.1


class Trainer:
    """One run's main line, its clock, and the loop that asks about it.

    Attributes:
        state: as the loop sees it.
        snapshot: name of the last adaptation point's snapshot, None before the first and under the overlap clock.
        loop_pid: the process that asks.
        stopping: whether to leave at the next update boundary.
    """

    def __init__(self, run_dir: Path, closing: ExitStack | None = None) -> None:
        """Continue the run; what must be closed at last goes onto the stack."""
        closing = closing or ExitStack()
        self.run_dir = run_dir
        self.main = MainRun(run_dir, closing)
        self.lockstep = self.main.config.clock == "lockstep"
        self.state: m.TrainerState = "training"
        self.snapshot: str | None = None
        self.loop_pid = parent_pid()
        self.loop_gone_since: float | None = None
        self.stopping = False
        self.cost = CostMeter()
        self._published = 0.0
        self.server = TrainerServer(run_dir)
        closing.callback(self.server.close)
        self.log = structlog.get_logger()

    # ------------------------------------------------------------ the trainer's loop

    def run(self) -> None:
        """Train until the budget is used up, then serve; leave when somebody says stop."""
        self.start()
        while not self.stopping and not self.main.finished:
            self.main.update()
            if self.lockstep and self.main.point is not None:
                self._wait_at_point()
            else:
                self._serve_boundary()
        if not self.stopping:
            self._finish()
        self._leave()

    def start(self) -> None:
        """Bring the line to where it stood: the first entry of the log, an unreleased point, changes not yet seen."""
        line = self.main.line
        # a fresh run: its first signal is version 0
        if not self.main.signal_log:
            self.main.log_signal(LoggedSignal(0, "start", None, 0, 0, line.signal, None, "start"))
        self.log.info("training", update=line.update_index, steps_main=line.steps_main, pid=os.getpid())
        self.write_counters()
        # it may have ended while it waited
        if self.lockstep and self.main.point is not None:
            self._wait_at_point()
        elif line.update_index == 0:
            self.main.evaluate_afresh()
        reapply_log(self.main)

    def _wait_at_point(self) -> None:
        """Wait at an adaptation point: snapshot first, then what the log already holds for here, then the loop."""
        assert self.main.point is not None
        self.main.checkpoint()
        self.snapshot = snapshot_name(self.main.point)
        reapply_log(self.main)
        self.state = "waiting"
        self._publish(now=True)
        self._serve_while(lambda: self.main.point is not None)
        self.state = "training"

    def _serve_boundary(self) -> None:
        """Pass an update boundary at which nobody waits: changes of the log, news, and answers to who asks now."""
        reapply_log(self.main)
        self._publish(now=self.main.point is not None)
        version = self.main.line.signal.version
        with self.cost:
            while self.server.poll(self, timeout_ms=0) and self.main.line.signal.version == version:
                pass  # a change ends the boundary, so that the next look is at a state of its own
        self._watch_loop()

    def _finish(self) -> None:
        """Snapshot the trained line, and serve until somebody says stop."""
        self.main.checkpoint()
        self.state = "finished"
        self._publish(now=True)
        self.main.writer.flush()
        self._serve_while(lambda: True)

    def _leave(self) -> None:
        if self.state != "finished":
            self.main.checkpoint()
            self.state = "stopping"
            self.write_counters()
        self.main.close()
        self.server.close()
        self.log.info("trainer left", update=self.main.line.update_index, steps_main=self.main.line.steps_main)

    def _serve_while(self, condition: Callable[[], bool]) -> None:
        while condition() and not self.stopping:
            with self.cost:
                self.server.poll(self, timeout_ms=200)
            self._watch_loop()

    def _watch_loop(self) -> None:
        """Stop when the loop has been gone for `ORPHAN_WAIT_S`, whatever the clock and whether or not it adapts."""
        if process_is_alive(self.loop_pid):
            self.loop_gone_since = None
            return
        self.loop_gone_since = self.loop_gone_since or time.monotonic()
        if time.monotonic() - self.loop_gone_since > ORPHAN_WAIT_S:
            self.log.warning("the loop is gone; leaving", loop_pid=self.loop_pid)
            self.stopping = True

    def request_stop(self, _number: int, _frame: FrameType | None) -> None:
        """Leave at the next update boundary, with a checkpoint (the handler of SIGTERM)."""
        self.stopping = True

    # ------------------------------------------------------------ requests

    def handle(self, request: m.Request) -> m.Reply:
        """Answer one request; errors of the request become typed replies, whatever it asks.

        Only a change that is in the signal log already and cannot be made ends the trainer: the next one makes it.
        """
        changes = len(self.main.signal_log)
        try:
            return self._answer(request)
        except Exception as error:
            if len(self.main.signal_log) > changes:
                raise
            if isinstance(error, CosignalError):
                return m.error_reply(error)
            self.log.warning("a request could not be answered", kind=request.kind, exc_info=True)
            return m.ErrorReply(
                error="bad_request", message=f"{request.kind!r} could not be answered: {error!r}"[:MAX_MESSAGE]
            )

    def _answer(self, request: m.Request) -> m.Reply:
        main, over = self.main, self.state == "finished"
        match request:
            case m.Hello():
                if request.protocol != m.PROTOCOL:
                    return m.ErrorReply(
                        error="protocol",
                        message=f"protocol must be {m.PROTOCOL}, got {request.protocol}; use one version of cosignal",
                    )
                # from now on this process is the one that must be alive
                self.loop_pid = request.pid
                return m.HelloReply(
                    pid=os.getpid(), run_id=self.run_dir.name, spec=main.line.spec, warnings=tuple(main.warnings)
                )
            case m.GetStatus():
                return self._status(self.snapshot)
            case m.GetEvidence():
                return m.EvidenceReply(evidence=self._evidence())
            case m.Look():
                # Their steps are counted before the status is told.
                episodes = main.play_episodes() if request.episodes else ()
                return m.LookReply(status=self._status(main.look()), evidence=self._evidence(episodes))
            case m.Query():
                return m.QueryReply(data=query(main.line, request.what, request.name, request.points))
            case m.Promote():
                return self._changed(promote(main, request, over))
            case m.Rollback():
                return self._changed(rollback(main, request, over))
            case m.Release():
                if request.update == main.point:
                    main.point = None
            case m.Stop():
                self.stopping = True
        return m.Ack()

    def _changed(self, reply: m.PromoteReply) -> m.Reply:
        self.write_counters()
        return reply

    def _status(self, snapshot: str | None) -> m.TrainerStatus:
        main, line, evaluation = self.main, self.main.line, self.main.evaluation
        return m.TrainerStatus(
            state=self.state,
            update=line.update_index,
            steps_main=line.steps_main,
            steps_evaluation=main.steps_evaluation,
            steps_repeated=main.steps_repeated,
            steps_trained=line.steps_trained,
            steps_budget=main.config.trainer.steps,
            waiting_at=self._waiting_at(),
            snapshot=snapshot,
            stage=line.stage()[0],
            signal=line.signal,
            sparse_return=evaluation.mean if evaluation else None,
            success_rate=evaluation.success_rate if evaluation else None,
            evaluation=evaluation,
            replay_difference=line.replay_difference,
        )

    def _evidence(self, episodes: Sequence[EpisodeEvidence] = ()) -> Evidence:
        return build_evidence(self.main.line, self.main.config.trainer.steps, episodes)

    # ------------------------------------------------------------ news

    def _publish(self, now: bool = False) -> None:
        """Write the counters and send a wake-up; unless `now`, at most every `PUBLISH_S` seconds."""
        if now or time.monotonic() - self._published > PUBLISH_S:
            self._published = time.monotonic()
            line = self.main.line
            with self.cost:
                self.write_counters()
                self.server.publish(
                    m.Wakeup(
                        update=line.update_index,
                        steps_main=line.steps_main,
                        waiting_at=self._waiting_at(),
                        state=self.state,
                    )
                )

    def write_counters(self) -> None:
        cost = self.cost
        self.main.write_counters(
            self.state,
            seam_cpu_s=round(cost.serving_s, 4),
            cpu_s=round(cost.total_s, 4),
            train_wall_s=round(cost.wall_s, 4),
        )

    def _waiting_at(self) -> int | None:
        return self.main.point if self.lockstep else None


class CostMeter:
    """The seconds that training and serving have cost the trainer since this was made.

    Attributes:
        serving_s: CPU seconds of this thread inside `with cost:`.
    """

    def __init__(self) -> None:
        self.serving_s = 0.0
        self._process, self._clock = time.process_time(), time.monotonic()

    def __enter__(self) -> None:
        self._entered = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.serving_s += time.thread_time() - self._entered

    @property
    def total_s(self) -> float:
        """CPU seconds of the whole process."""
        return time.process_time() - self._process

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._clock


def main(run_dir: Path, closing: ExitStack) -> int:
    """Run the trainer of this directory to its end.

    Args:
        run_dir: of the run.
        closing: gets what must be closed at last.

    Returns:
        The exit status: EX_IOERR where the disk is full or read-only, for what we print may be lost there; else 0.

    Raises:
        RunLockedError: another one runs.
        SnapshotError: snapshots or `trainer.db` are damaged, and it cannot be made good.
        TrainingDiverged: what is learned is not finite any more.
    """
    one_thread()
    try:
        with naming_disk_errors(run_dir):
            _train(run_dir, closing)
    except StorageError:
        with contextlib.suppress(OSError):
            traceback.print_exc()
        return os.EX_IOERR
    return 0


def _train(run_dir: Path, closing: ExitStack) -> None:
    log_to(run_dir / "trainer.log.jsonl", process="trainer")
    lock = closing.enter_context((run_dir / "trainer.lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise RunLockedError(f"another trainer writes {str(run_dir)!r}; end it first") from error
    trainer = Trainer(run_dir, closing)
    for warning in trainer.main.warnings:
        trainer.log.warning("recovered", message=warning)
    os_signal.signal(os_signal.SIGTERM, trainer.request_stop)
    trainer.run()
