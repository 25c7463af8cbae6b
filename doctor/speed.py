"""Measure how fast this machine trains: a short burst of the trainer's own code in a process like the trainer's.

`python -m cosignal.doctor.speed` reads a `TrainingConfig` as JSON and prints the main steps a second as JSON.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence

from ..errors import TrainerGone
from ..rl.ipc.launcher import error_message
from ..rl.processes import child_environment, module_command
from ..rl.training.config import TrainingConfig

BURST_S = 2.0
PATIENCE_S = 180.0  # importing torch and compiling a task take seconds, on a busy machine many
MAX_ERROR_CHARS = 600


def steps_per_second(config: TrainingConfig, secrets: Sequence[str] = ()) -> float:
    """Measure the main steps a second of one process with one thread.

    Args:
        config: what is trained.
        secrets: environment variables that the process must not see.

    Raises:
        TrainerGone: the process cannot train, or not within PATIENCE_S; the message has the end of what it printed.
    """
    try:
        done = subprocess.run(
            module_command("cosignal.doctor.speed"),
            input=config.model_dump_json(),
            env=child_environment(secrets),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise TrainerGone(
            f"two updates must take less than {PATIENCE_S:g} s, these did not; lower trainer.envs or use a faster task"
        ) from error
    except subprocess.CalledProcessError as error:
        # An error of ours is all that is to be said and has its remedy; of any other the end of its traceback is told.
        message = error_message(error.stderr)
        line = " ".join(message.split())
        if message != error.stderr:
            raise TrainerGone(line) from None
        raise TrainerGone(
            f"training must work, got exit status {error.returncode}: {line[-MAX_ERROR_CHARS:]}; mend what it names"
        ) from None
    return float(json.loads(done.stdout)["steps_per_s"])


def measure_speed(config: TrainingConfig) -> float:
    """Train for BURST_S and return the main steps a second; the first update is not counted, since it compiles."""
    from ..rl.training.line import TrainingLine

    line = TrainingLine(config)
    line.update()
    before, began = line.steps_main, time.perf_counter()
    while line.steps_main == before or time.perf_counter() - began < BURST_S:
        line.update()
    return (line.steps_main - before) / (time.perf_counter() - began)


def main() -> None:
    """Measure the config on standard input and print the result on standard output."""
    from ..rl.processes import leave_with_parent, one_thread

    leave_with_parent()
    one_thread()
    config = TrainingConfig.model_validate_json(sys.stdin.read())
    # What a task of somebody else prints is no result.
    with contextlib.redirect_stdout(sys.stderr):
        rate = measure_speed(config)
    sys.stdout.write(json.dumps({"steps_per_s": rate}))


if __name__ == "__main__":
    main()
