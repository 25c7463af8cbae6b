"""Playing episodes and fitting signals to them, in a process of its own: `python -m cosignal.rl.fitting JOB.json`.

So the loop, which asks for it, needs no torch, and a trainer that does not wait goes on meanwhile. The same job always
gives the same files; the last one, which the loop looks for, is written as a whole.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from ..job_process import do_job
from ..processes import run_process
from ..signals.learned.judgements import answers_of, read_judgements
from ..signals.scorer import FOLDER, Scorers
from ..task import splitmix64
from ..training.checkpoint import line_of_snapshot
from .fit import fit_signals
from .jobs import FitJob, FitResult


def fit(job: FitJob, closing: ExitStack) -> dict[str, object]:
    """Play, fit every kind to the same episodes, and keep networks in the run's folder."""
    line = line_of_snapshot(job.run_dir, job.snapshot)
    closing.callback(line.close)
    line.reseed(splitmix64(job.seed) >> 1)
    judgements = [] if job.judgements is None else read_judgements(job.run_dir / job.judgements)
    scorers = Scorers(job.run_dir / FOLDER)
    result: FitResult = fit_signals(line, job.fits, job.config, job.seed, scorers, answers_of(judgements))
    return result.model_dump(mode="json")


if __name__ == "__main__":
    run_process(lambda closing: do_job(Path(sys.argv[1]), FitJob.model_validate_json, fit, closing))
