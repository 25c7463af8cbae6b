"""A branch worker that does no training: `python fake_worker.py RUN_DIR ADDRESS INDEX`. Speaks the pool's protocol.

What it does with a job is the job's arm: "die" ends the process the first time (a file remembers), "die always" every
time, "stopped" ends it as one whose environment hangs, "fail" answers with a failure, "full" with an error, "hang"
never answers, "nonsense" answers with something else; else a result.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import zmq


def answer(run_dir: Path, job: dict[str, Any]) -> dict[str, Any]:
    arm, mark = job["arm"], run_dir / f"died-{job['key']}"
    if arm == "die always" or (arm == "die" and not mark.exists()):
        mark.touch()
        sys.stderr.write("out of memory\n")
        sys.stderr.flush()
        os._exit(9)
    if arm == "hang":
        (run_dir / "hanging").touch()
        time.sleep(600)
    if arm == "stopped":
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(600)
    if arm == "fail":
        failure = {"reason": "the signal is not finite", "cause": "error", "steps": 70}
        return {"kind": "branch_failure", **{key: job[key] for key in ("key", "arm", "seed")}, **failure}
    if arm == "full":
        return {"kind": "error", "error": "branch", "message": "the disk is full"}
    if arm == "nonsense":
        return {"kind": "weather"}
    if job["kind"] == "evaluation":
        n = job["episodes"]
        episodes = {"returns": [job["seed"] * 1.5] * n, "successes": None, "lengths": [5] * n, "reached": {}}
        told = {"steps_main": 7, "episodes": episodes | {"steps": 5 * n}, "cpu_s": 0.0}
        return {"kind": "evaluation_result", "key": job["key"], "arm": arm, **told}
    keys = ("key", "arm", "seed", "horizon", "signal", "end_state")
    numbers = {"final_return": job["seed"] * 1.5, "success_rate": None, "fork_return": 0.0, "curve": []}
    counts = {"steps": job["horizon"], "steps_evaluation": 1, "end_update": 2, "cpu_s": 0.0}
    return {"kind": "branch_result", **{key: job[key] for key in keys}, **numbers, **counts}


def main(run_dir: Path, address: str) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 500)
        socket.connect(address)
        socket.send_json({"kind": "ready", "pid": os.getpid()})
        while (message := json.loads(socket.recv()))["kind"] != "stop":
            socket.send_json(answer(run_dir, message))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
