"""Measure how fast this machine trains: a short burst of the trainer's own code in a process like the trainer's,
`python -m cosignal.doctor.speed`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

from ..errors import CosignalError, TrainerGone
from ..rl.child import Child, Parent
from ..rl.processes import one_thread
from ..rl.training.config import TrainingConfig

BURST_S = 2.0
PATIENCE_S = 180.0  # importing torch and compiling a task take seconds, on a busy machine many


def steps_per_second(config: TrainingConfig, secrets: Sequence[str] = ()) -> float:
    """Measure the main steps a second of one process with one thread.

    Args:
        config: what is trained.
        secrets: environment variables that the process must not see.

    Raises:
        TrainerGone: the process cannot train, or not within PATIENCE_S; the message has the end of what it printed.
    """
    child = Child("cosignal.doctor.speed", config.model_dump_json(), PATIENCE_S, secrets=secrets)
    try:
        return float(child.answer())
    except CosignalError as error:  # it has its remedy
        raise TrainerGone(" ".join(str(error).split())) from None
    except TimeoutError as error:
        raise TrainerGone(
            f"two updates must take less than {PATIENCE_S:g} s, these did not; lower trainer.envs or use a faster task"
        ) from error
    except OSError as error:
        raise TrainerGone(f"training must work, got: {error}; mend what it names") from None


def measure_speed(config: TrainingConfig) -> float:
    """Train for BURST_S and return the main steps a second; the first update is not counted, since it compiles."""
    from ..rl.training.line import TrainingLine

    line = TrainingLine(config)
    with closing(line.task):
        line.update()
        before, began = line.steps_main, time.perf_counter()
        while line.steps_main == before or time.perf_counter() - began < BURST_S:
            line.update()
        return (line.steps_main - before) / (time.perf_counter() - began)


def main() -> None:
    """Answer a `TrainingConfig` with the main steps a second."""
    parent = Parent()
    one_thread()
    parent.at("training", PATIENCE_S)
    with parent.hears_errors():
        parent.answer(measure_speed(TrainingConfig.model_validate_json(parent.request)))


if __name__ == "__main__":
    main()
