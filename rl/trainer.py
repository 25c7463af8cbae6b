"""The trainer process: `python -m cosignal.rl.trainer RUN_DIR`.

Trains the main line, writes `trainer.db`, snapshots and TensorBoard events, and serves the loop between updates. Under
the lockstep clock it stops at every adaptation point until it is released.
"""

from __future__ import annotations

import fcntl
import os
import signal as os_signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from ..errors import CosignalError, RunLockedError, SignalError
from .checkpoint import load_snapshot, newest_snapshot, prune, save_snapshot, steps_of
from .config import TrainingConfig
from .evaluate import Evaluation, Evaluator
from .evidence import build_evidence, query
from .ipc import messages as m
from .ipc.server import TrainerServer
from .logs import log_to
from .metrics import LoggedSignal, MetricsWriter, read_counter, read_signals, trained_updates
from .process import one_thread, parent_pid
from .tensorboard import Board
from .training import TrainingLine, UpdateReport

REPORT_SEED = 0xE7A1  # evaluation seeds of curves and report; the gate uses others
KEEP_SNAPSHOTS = 3
ORPHAN_WAIT_S = 30.0
PUBLISH_S = 0.1


class Trainer:
    """One run's main line and everything that is said about it."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.config = TrainingConfig.model_validate_json((run_dir / "training.json").read_text())
        self.checkpoints = run_dir / "checkpoints"
        self.line = TrainingLine(self.config)
        evaluation = self.config.trainer.evaluation
        self.evaluator = Evaluator(self.config.task, evaluation.episodes, REPORT_SEED + self.config.seed)
        self.evaluation: Evaluation | None = None
        self.steps_evaluation = 0
        self.steps_repeated = int(read_counter(run_dir / "trainer.db", "steps_repeated") or 0)
        self.log: list[LoggedSignal] = read_signals(run_dir / "trainer.db")
        self.waiting_at: int | None = None
        self.snapshot: Path | None = None
        self.state: m.TrainerState = "training"
        self.loop_pid = parent_pid()
        self.stopping = False
        self._published = 0.0
        self._before = 0  # main steps before the last update
        self.restored_point = False
        self._restore()
        self.writer = MetricsWriter(run_dir / "trainer.db")
        self.board = Board(run_dir / "tensorboard", self.line.steps_main)
        self.server = TrainerServer(run_dir)
        self.say = structlog.get_logger()

    # ------------------------------------------------------------ the loop, to be read aloud

    def run(self) -> None:
        self._start()
        while not self.stopping and self.line.steps_main < self.config.trainer.steps:
            self._update()
            self.server.poll(self, timeout_ms=0)
            if self._is_point():
                self._pause()
        if not self.stopping:
            self._finish()
        self._leave()

    def _update(self) -> None:
        self._before = self.line.steps_main
        report = self.line.update()
        if self.line.update_index in self.known_updates:  # a crash lost the state that this update had led to
            self.steps_repeated += self.line.collector.rollout.steps
        if self._is_due(self.config.trainer.evaluation.every_steps) or self._finished():
            self._evaluate()
            self._record(report, self.evaluation)
        else:
            self._record(report, None)
        if self._is_due(self.config.trainer.checkpoint_every_steps):
            self._checkpoint()
        self._publish()

    def _pause(self) -> None:
        """An adaptation point: snapshot first, then what the log already holds for here, then wait for the loop."""
        self.snapshot = self._checkpoint()
        point = self.line.update_index
        for entry in [e for e in self.log if e.applied_update == point and e.version > self.line.signal.version]:
            self._apply(entry)
        self.state, self.waiting_at = "waiting", point
        self._counters()
        self._publish(now=True)
        self._serve_while(lambda: self.waiting_at is not None)
        self.state = "training"

    def _finish(self) -> None:
        self._checkpoint()
        self.state = "finished"
        self._counters()
        self.writer.flush()
        self._publish(now=True)
        self._serve_while(lambda: True)

    def _leave(self) -> None:
        if self.state != "finished":
            self._checkpoint()
            self.state = "stopping"
            self._counters()
        self.writer.close()
        self.board.close()
        self.server.close()
        self.say.info("trainer left", update=self.line.update_index, steps_main=self.line.steps_main)

    def _serve_while(self, condition: Any) -> None:
        """Answer requests; leave when asked to, or when the loop has been gone for `ORPHAN_WAIT_S`."""
        gone_since: float | None = None
        while condition() and not self.stopping:
            self.server.poll(self, timeout_ms=200)
            gone_since = None if _alive(self.loop_pid) else gone_since or time.monotonic()
            if gone_since is not None and time.monotonic() - gone_since > ORPHAN_WAIT_S:
                self.say.warning("the loop is gone; leaving", loop_pid=self.loop_pid)
                self.stopping = True

    # ------------------------------------------------------------ start and resume

    def _restore(self) -> None:
        self.known_updates = trained_updates(self.run_dir / "trainer.db")
        newest = newest_snapshot(self.checkpoints)
        if newest is None:
            return
        extra = load_snapshot(self.line, newest)
        self._before = self.line.steps_main
        self.restored_point = bool(extra["point"])
        self.steps_evaluation = int(str(extra["steps_evaluation"]))
        if extra["evaluation"] is not None:
            self.evaluation = Evaluation(**extra["evaluation"])  # type: ignore[arg-type]

    def _start(self) -> None:
        if not self.log:
            first = LoggedSignal(0, "start", None, 0, 0, self.line.signal, None)
            self.writer.log_signal(first)
            self.log.append(first)
        self.say.info("training", update=self.line.update_index, steps_main=self.line.steps_main, pid=os.getpid())
        self._counters()
        if self.restored_point:
            self._pause()
        elif self.line.update_index == 0:
            self._evaluate()
            self._record_evaluation()

    # ------------------------------------------------------------ what the loop asks

    def handle(self, request: m.Request) -> m.Reply:
        """Answer one request; errors of the request become typed replies."""
        try:
            return self._handle(request)
        except SignalError as error:
            return m.ErrorReply(error="signal", message=str(error))
        except CosignalError as error:
            return m.ErrorReply(error="bad_request", message=str(error))

    def _handle(self, request: m.Request) -> m.Reply:
        match request:
            case m.Hello():
                return self._hello(request)
            case m.GetStatus():
                return self._status()
            case m.GetEvidence():
                return m.EvidenceReply(evidence=build_evidence(self.line, self.config.trainer.steps))
            case m.Query():
                return m.QueryReply(data=query(self.line, request.what, request.name, request.points))
            case m.Promote():
                return self._promote(request)
            case m.Release():
                if request.update == self.waiting_at:
                    self.waiting_at = None
            case m.Stop():
                self.stopping = True
        return m.Ack()

    def _hello(self, request: m.Hello) -> m.Reply:
        if request.protocol != m.PROTOCOL:
            return m.ErrorReply(
                error="protocol",
                message=f"protocol must be {m.PROTOCOL}, got {request.protocol}; use one version of cosignal",
            )
        self.loop_pid = request.pid
        return m.HelloReply(pid=os.getpid(), run_id=self.run_dir.name, spec=self.line.spec)

    def _status(self) -> m.TrainerStatus:
        line, evaluation = self.line, self.evaluation
        return m.TrainerStatus(
            state=self.state, update=line.update_index, steps_main=line.steps_main,
            steps_evaluation=self.steps_evaluation, steps_repeated=self.steps_repeated,
            steps_adopted=line.steps_adopted, steps_budget=self.config.trainer.steps,
            waiting_at=self.waiting_at, snapshot=None if self.snapshot is None else self._relative(self.snapshot),
            stage=line.stage()[0], signal=line.signal,  # type: ignore[arg-type]
            sparse_return=evaluation.mean_return if evaluation else None,
            success_rate=evaluation.success_rate if evaluation else None,
        )  # fmt: skip

    def _promote(self, request: m.Promote) -> m.Reply:
        """Look the key up, compare, log to disk, apply. The reply is only sent after all four."""
        done = next((entry for entry in self.log if entry.key == request.key), None)
        if done is not None:
            return self._promoted(done, repeated=True)
        if request.base_version != self.line.signal.version:
            return m.ErrorReply(
                error="version_conflict",
                message=f"version {self.line.signal.version} is in force, not {request.base_version}; propose from it",
            )
        if request.adopt is not None and not (self.run_dir / request.adopt / "state.json").exists():
            return m.ErrorReply(
                error="snapshot", message=f"no branch state at {request.adopt!r} below the run directory"
            )
        version = self.line.signal.version + 1
        self.line.check_signal(request.signal)
        signal = self.line.frozen(request.signal).model_copy(
            update={"version": version, "parent": request.base_version}
        )
        entry = LoggedSignal(
            version,
            request.key,
            request.base_version,
            self.line.update_index,
            self.line.steps_main,
            signal,
            request.adopt,
        )
        self.writer.log_signal(entry)
        self.log.append(entry)
        self._apply(entry)
        return self._promoted(entry, repeated=False)

    def _promoted(self, entry: LoggedSignal, repeated: bool) -> m.PromoteReply:
        steps = entry.applied_steps if entry.adopt is None else steps_of(self.run_dir / entry.adopt)
        return m.PromoteReply(
            version=entry.version, applied_at_update=entry.applied_update, steps_main=steps, repeated=repeated
        )

    def _apply(self, entry: LoggedSignal) -> None:
        """At this update boundary: adopt the branch's state, or keep ours and change the signal."""
        if entry.adopt is None:
            self.line.apply_signal(entry.signal)
        else:
            before = self.line.steps_main
            adopted = self.line.steps_adopted
            load_snapshot(self.line, self.run_dir / entry.adopt)
            self.line.steps_adopted = adopted + self.line.steps_main - before
            lived = self.line.signal  # the branch has had its kick, and keeps its entropy
            self.line.signal = entry.signal.model_copy(update={"scale": lived.scale, "exploration": lived.exploration})
            self._before = self.line.steps_main  # an adopted branch passes no adaptation point on its way
            self._evaluate()  # the branch's own figures chose it, so its curve goes on from fresh episodes
            self._record_evaluation()
        self.say.info("promoted", version=entry.version, key=entry.key, update=entry.applied_update, adopt=entry.adopt)
        self._counters()

    # ------------------------------------------------------------ records

    def _evaluate(self) -> None:
        self.evaluation = self.evaluator.evaluate(self.line.learner)
        self.steps_evaluation += self.evaluation.steps

    def _is_due(self, every: int | None) -> bool:
        return every is not None and self.line.steps_main // every > self._before // every

    def _is_point(self) -> bool:
        return self._is_due(self.config.pause_every_steps) and not self._finished()

    def _finished(self) -> bool:
        return self.line.steps_main >= self.config.trainer.steps

    def _checkpoint(self) -> Path:
        directory = self.checkpoints / f"update_{self.line.update_index:09d}"
        evaluation = self.evaluation
        extra: dict[str, object] = {
            "steps_evaluation": self.steps_evaluation,
            "evaluation": vars(evaluation) if evaluation else None,
        }
        extra["point"] = self._is_point()
        self.writer.flush()  # a resumed run goes on from here, so every row up to here must be on disk first
        save_snapshot(self.line, directory, extra)
        named = {f"update_{entry.applied_update:09d}" for entry in self.log}
        prune(self.checkpoints, KEEP_SNAPSHOTS, named)
        return directory

    def _record(self, report: UpdateReport, evaluation: Evaluation | None) -> None:
        line, row = self.line, report.row
        data: dict[str, Any] = {
            "steps_main": line.steps_main, "train_return": row["returns"], "train_success": row["success"],
            "evaluation_return": evaluation.mean_return if evaluation else None,
            "evaluation_success": evaluation.success_rate if evaluation else None,
            "stage": line.stage()[0], "signal_version": line.signal.version, "entropy": row["entropy"],
            "no_effect": row["no_effect"], "policy_loss": [x.policy for x in report.losses],
            "value_loss": [x.value for x in report.losses], "shaped_share": report.shaped_share,
            "terms": row["terms"], "steps_evaluation": self.steps_evaluation, "adopted": False, "trained": True,
        }  # fmt: skip
        self.writer.metrics(line.update_index, line.steps_main, data)
        self.board.add(line.steps_main, data)

    def _record_evaluation(self) -> None:
        """A row for a state that no update of this line led to: the first one, or one adopted from a branch."""
        line, evaluation = self.line, self.evaluation
        data = {
            "steps_main": line.steps_main, "stage": line.stage()[0], "signal_version": line.signal.version,
            "evaluation_return": evaluation.mean_return if evaluation else None,
            "evaluation_success": evaluation.success_rate if evaluation else None,
            "steps_evaluation": self.steps_evaluation, "train_return": None, "train_success": None,
            "adopted": line.update_index > 0, "trained": False,
        }  # fmt: skip
        self.writer.metrics(line.update_index, line.steps_main, data)
        self.board.add(line.steps_main, data)

    def _counters(self) -> None:
        self.writer.counters(
            state=self.state, update=self.line.update_index, steps_main=self.line.steps_main,
            stage=self.line.stage()[0], steps_evaluation=self.steps_evaluation, steps_repeated=self.steps_repeated,
            steps_adopted=self.line.steps_adopted,
        )  # fmt: skip

    def _publish(self, now: bool = False) -> None:
        if now or time.monotonic() - self._published > PUBLISH_S:
            self._published = time.monotonic()
            self._counters()
            wakeup = m.Wakeup(
                update=self.line.update_index,
                steps_main=self.line.steps_main,
                waiting_at=self.waiting_at,
                state=self.state,
            )
            self.server.publish(wakeup)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.run_dir))

    def request_stop(self, _number: int, _frame: FrameType | None) -> None:
        """SIGTERM: leave at the next update boundary, with a checkpoint."""
        self.stopping = True


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(run_dir: Path) -> None:
    one_thread()
    log_to(run_dir / "trainer.log.jsonl", process="trainer")
    with (run_dir / "trainer.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunLockedError(f"another trainer writes {str(run_dir)!r}; end it first") from error
        trainer = Trainer(run_dir)
        os_signal.signal(os_signal.SIGTERM, trainer.request_stop)
        trainer.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
