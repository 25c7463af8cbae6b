"""Collecting pairs and fitting scorers, in a process of its own: `python -m cosignal.rl.preferences JOB.json`.

So the loop, which asks for it, needs no torch, and a trainer that does not wait goes on meanwhile. The same job always
gives the same files; the last one, which the loop looks for, is written as a whole.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from ..experience.transition_sample import TransitionSample
from ..job_process import do_job
from ..processes import run_process
from ..signals.scorer import FOLDER, Scorers
from ..task import splitmix64
from ..training.checkpoint import line_of_snapshot
from ..training.config import TrainingConfig
from .collect import collect_pairs, sampling
from .fit import fit_scorer
from .jobs import ANSWERS, JOB, REFUTED, CollectJob, CollectResult, FitJob, GroupFit, Job
from .key_steps import key_steps
from .pairs import Pairs, load_pairs, save_pairs
from .refuted import ends_of, one_to_many, refuted_pairs
from .votes import confidence, read_answers, votes_of

USUAL = 0.9  # quantile of the ensemble's disagreement on its own pairs that counts as usual


def collect(job: CollectJob, closing: ExitStack) -> CollectResult:
    """Write the pairs, and return the environment steps that they took and what the team must do."""
    # The policy of the snapshot, sampled with a stream of the job's own.
    line = line_of_snapshot(job.run_dir, job.snapshot)
    closing.callback(line.close)
    generator = torch.Generator().manual_seed(splitmix64(job.seed) >> 1)

    act = sampling(line.learner, generator)
    collected = collect_pairs(line.config.task, job.counts, job.seed, act, episode_steps=None, spread=job.spread)
    save_pairs(collected.pairs, job.run_dir / job.out)
    moments, steps = key_steps(line.config.task, job.seed) if job.key_steps else ([], 0)
    return {
        "steps": collected.steps + steps,
        "key_steps": moments,
        "pairs": [len(pairs) for pairs in collected.pairs],
    }


def work(job: Job, closing: ExitStack) -> CollectResult | dict[str, GroupFit]:
    """Do a job; environments go onto the stack."""
    return collect(job, closing) if isinstance(job, CollectJob) else fit(job)


def fit(job: FitJob) -> dict[str, GroupFit]:
    """Keep a scorer a group, and return by the group's number how well it fits."""
    config = TrainingConfig.model_validate_json((job.run_dir / "training.json").read_text())
    scorers, fits = Scorers(job.run_dir / FOLDER), dict[str, GroupFit]()
    recorded, seed = TransitionSample.load(job.run_dir / job.recorded), splitmix64(job.seed ^ config.seed) >> 2
    groups = [pairs.group for pairs in load_pairs(job.run_dir / job.folders[-1])]
    # what the sparse outcome has refuted of the scorers before
    ends = {g: ends_of(recorded, g) for g in groups}
    new = [
        refuted_pairs(scorers.get(job.before[str(g)]), ends[g], g, job.refuted, seed)
        for g in groups
        if str(g) in job.before
    ]
    save_pairs(new, job.run_dir / job.out / REFUTED)
    for group in groups:
        # All pairs of the group from all folders, and their confidence [P].
        parts, ranked, voted = [], [], list[bool]()
        for folder in job.folders:
            [part] = [p for p in load_pairs(job.run_dir / folder) if p.group == group]
            parts.append(part)
            ranked.append(confidence(votes_of(part, read_answers(job.run_dir / folder / ANSWERS))))
            voted += [True] * len(part)
            if (job.run_dir / folder / REFUTED).is_dir():
                of_group = [p for p in load_pairs(job.run_dir / folder / REFUTED) if p.group == group]
                parts += of_group
                ranked += [np.ones(len(p)) for p in of_group]
                voted += [False] * sum(len(p) for p in of_group)
        pairs, judged = Pairs.joined(parts), np.array(voted)
        fitted = fit_scorer(pairs, np.concatenate(ranked), job.scorer, seed, voted=judged)
        disagreement = fitted.scorer.disagreement(pairs.obs[judged], pairs.last_obs[judged])
        found = one_to_many(fitted.scorer, ends[group], seed)
        fits[str(group)] = {
            "scorer": scorers.add(fitted.scorer),
            "pairs": len(pairs),
            "held_out_loss": round(fitted.held_out_loss, 4),
            "accuracy": None if fitted.accuracy is None else round(fitted.accuracy, 4),
            "agreement": None if fitted.agreement is None else round(fitted.agreement, 4),
            "epochs": fitted.epochs,
            "usual_disagreement": float(np.quantile(disagreement, USUAL)),
            "refuted": int((~judged).sum()),
            "one_to_many": None if found is None else round(found.accuracy, 4),
            "mean_reciprocal_rank": None if found is None else round(found.mean_reciprocal_rank, 4),
        }
    return fits


if __name__ == "__main__":
    run_process(lambda closing: do_job(Path(sys.argv[1]), JOB.validate_json, work, closing))
