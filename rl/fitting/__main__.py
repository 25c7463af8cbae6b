"""Playing episodes and fitting signals to them, in a process of its own: `python -m cosignal.rl.fitting JOB.json`.

So the loop, which asks for it, needs no torch, and a trainer that does not wait goes on meanwhile. The same job always
gives the same files; the last one, which the loop looks for, is written as a whole.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from ...errors import SignalError, TrainingDiverged
from ..job_process import do_job
from ..processes import run_process
from ..signals.learned.episodes import play_episodes
from ..signals.learned.return_decomposition import decompose_returns
from ..signals.scorer import FOLDER, Scorers
from ..task import splitmix64
from ..training.checkpoint import line_of_snapshot
from .jobs import DecomposeJob, DecomposeResult


def decompose(job: DecomposeJob, closing: ExitStack) -> DecomposeResult:
    """Keep a network a group, and return how well they fit. That returns do not differ is an answer, too."""
    line = line_of_snapshot(job.run_dir, job.snapshot)
    closing.callback(line.close)
    line.reseed(splitmix64(job.seed) >> 1)
    learner = line.learner
    number, observations = job.config.episodes, job.config.reads_observations
    episodes = play_episodes(line.config.task, learner, learner.new_rnn_states, number, job.seed, observations)
    result: DecomposeResult = {
        "steps": episodes.steps, "episodes": episodes.number, "problem": None, "scorers": {}, "explained": None,
        "sum_error": None, "shares": {},
    }  # fmt: skip
    try:
        found = decompose_returns(line.spec, episodes, job.config, job.seed)
    except (SignalError, TrainingDiverged) as error:  # what was played counts all the same
        return {**result, "problem": str(error)}
    scorers = Scorers(job.run_dir / FOLDER)
    result["scorers"] = {str(g): scorers.add(scorer) for g, scorer in enumerate(found.scorers)}
    result["explained"], result["sum_error"] = round(found.explained, 4), round(found.sum_error, 4)
    result["shares"] = {agent: round(share, 4) for agent, share in zip(line.spec.agents, found.shares, strict=True)}
    return result


if __name__ == "__main__":
    run_process(lambda closing: do_job(Path(sys.argv[1]), DecomposeJob.model_validate_json, decompose, closing))
