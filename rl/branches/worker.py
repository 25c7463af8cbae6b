"""A branch worker: `python -m cosignal.rl.branches.worker RUN_DIR ADDRESS INDEX`.

It is started before it is needed, so that a job costs no start-up. It sends WorkerReady, then answers one job at a
time, a branch or an evaluation, and ends when it is told to or when the process that started it is gone.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import structlog
import zmq

from ...errors import BranchError, CosignalError, ReplayDiffers
from ..experience.replay_buffer import REPLAY
from ..ipc.messages import BranchFailure, BranchJob, BranchResult, ErrorReply, WorkerReady, WorkerReply
from ..processes import leave_with_parent, log_to, one_thread, run_process
from ..signals.scorer import FOLDER, Scorers
from ..training.config import TrainingConfig
from ..training.line import TrainingLine
from .jobs import JOB, Job
from .run_branch import run_branch
from .run_evaluation import EVALUATORS, run_evaluation

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def answer(line: TrainingLine, run_dir: Path, job: Job) -> WorkerReply:
    """Run a job and return its result, or its failure where it cannot be run.

    A full disk is no failure of the job, and an error of the whole run.
    """
    log = structlog.get_logger()
    try:
        result = run_branch(line, run_dir, job) if isinstance(job, BranchJob) else run_evaluation(line, run_dir, job)
    except Exception as error:
        log.warning(f"{job.kind} failed", key=job.key, arm=job.arm, seed=job.seed, exc_info=True)
        if _is_disk_full(error):
            message = f"the disk must have room for a branch's end state, got: {error}; make room and resume the run"
            return ErrorReply(error="branch", message=message)
        return BranchFailure(
            key=job.key,
            arm=job.arm,
            seed=job.seed,
            reason=str(error) if isinstance(error, CosignalError) else f"{type(error).__name__}: {error}",
            cause="replay" if isinstance(error, ReplayDiffers) else "error",
            steps=error.steps if isinstance(error, BranchError) else 0,
        )
    final = result.final_return if isinstance(result, BranchResult) else result.episodes.mean_return
    log.info(f"{job.kind} done", key=job.key, arm=job.arm, seed=job.seed, final_return=final, cpu_s=result.cpu_s)
    return result


def _is_disk_full(error: BaseException | None) -> bool:
    """Return whether a full disk is behind the error. safetensors says it in words only."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return True
        if any(f"os error {number}" in str(error) for number in DISK_FULL):
            return True
        error = error.__cause__
    return False


def main(run_dir: Path, address: str, index: int, closing: ExitStack) -> None:
    """Answer jobs until a message of the kind `stop`.

    Args:
        run_dir: run directory with `training.json`; paths in jobs are below it.
        address: ZeroMQ address of the pool.
        index: number of the worker, for its log.
        closing: gets what must be closed at last.
    """
    leave_with_parent()
    one_thread()
    log_to(run_dir / f"worker-{index}.log.jsonl", process=f"worker-{index}")
    config = TrainingConfig.model_validate_json((run_dir / "training.json").read_text())
    # Built once: every job overwrites it with its snapshot.
    line = TrainingLine(config.for_branches(), run_dir / REPLAY, Scorers(run_dir / FOLDER))
    closing.callback(line.close)
    closing.callback(EVALUATORS.close)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 500)  # ms
        socket.connect(address)
        socket.send(WorkerReady(pid=os.getpid()).model_dump_json().encode())
        while True:
            message = socket.recv()
            if json.loads(message).get("kind") == "stop":
                return
            reply = answer(line, run_dir, JOB.validate_json(message))
            socket.send(reply.model_dump_json().encode())


if __name__ == "__main__":
    run_process(lambda closing: main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), closing))
