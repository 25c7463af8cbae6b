"""Collecting pairs and fitting scorers, in a process of its own: `python -m cosignal.rl.preferences JOB.json`.

The loop, which asks for it, needs no torch so, and a trainer that does not wait goes on meanwhile. The same job always
gives the same files; the last one, which the loop looks for, is written as a whole.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import CosignalError
from ..processes import leave_with_parent, one_thread
from ..signals.scorer import FOLDER, Scorers
from ..task import ActionArray, BoolArray, FloatArray, splitmix64
from ..training.checkpoint import load_snapshot
from ..training.config import TrainingConfig
from ..training.line import TrainingLine
from .collect import collect_pairs
from .fit import Fitted, fit_scorer
from .jobs import ANSWERS, JOB, RESULT, CollectJob, FitJob
from .key_steps import key_steps
from .pairs import Pairs, load_pairs, save_pairs
from .votes import confidence, read_answers, votes_of

USUAL = 0.9  # quantile of the ensemble's disagreement on its own pairs that counts as usual


def collect(job: CollectJob) -> dict[str, Any]:
    """What is written besides the pairs: the environment steps that they took, and what the team must do."""
    config = TrainingConfig.model_validate_json((job.run_dir / "training.json").read_text()).for_branches()
    line = TrainingLine(config, scorers=Scorers(job.run_dir / FOLDER))
    load_snapshot(line, job.run_dir / job.snapshot)
    generator = torch.Generator().manual_seed(splitmix64(job.seed) >> 1)

    def act(obs: list[FloatArray], masks: list[BoolArray] | None) -> list[ActionArray]:
        return line.learner.act(obs, generator, masks)[0]

    collected = collect_pairs(config.task, job.counts, job.seed, act, episode_steps=None, spread=job.spread)
    save_pairs(collected.pairs, job.run_dir / job.out)
    told, steps = key_steps(config.task, job.seed) if job.key_steps else ([], 0)
    return {"steps": collected.steps + steps, "key_steps": told, "pairs": [len(pairs) for pairs in collected.pairs]}


def fit(job: FitJob) -> dict[str, Any]:
    """By the group's number: the scorer's name, and how well it fits."""
    config = TrainingConfig.model_validate_json((job.run_dir / "training.json").read_text())
    scorers, found = Scorers(job.run_dir / FOLDER), {}
    for group in [pairs.group for pairs in load_pairs(job.run_dir / job.folders[-1])]:
        pairs, ranked = _ranked(job, group)
        fitted = fit_scorer(pairs, ranked, job.scorer, splitmix64(job.seed ^ config.seed) >> 2)
        found[str(group)] = {"scorer": scorers.add(fitted.scorer), **_figures(fitted, pairs)}
    return found


def _ranked(job: FitJob, group: int) -> tuple[Pairs, NDArray[np.float64]]:
    """All pairs of a group and their confidence, [P]."""
    parts, ranked = [], []
    for folder in job.folders:
        [pairs] = [p for p in load_pairs(job.run_dir / folder) if p.group == group]
        parts.append(pairs)
        ranked.append(confidence(votes_of(pairs, read_answers(job.run_dir / folder / ANSWERS))))
    return Pairs.joined(parts), np.concatenate(ranked)


def _figures(fitted: Fitted, pairs: Pairs) -> dict[str, Any]:
    disagreement = fitted.scorer.disagreement(pairs.obs, pairs.last_obs)
    return {
        "pairs": len(pairs), "held_out_loss": round(fitted.held_out_loss, 4), "accuracy": _rounded(fitted.accuracy),
        "agreement": _rounded(fitted.agreement), "epochs": fitted.epochs,
        "usual_disagreement": float(np.quantile(disagreement, USUAL)),
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def main(path: Path) -> int:
    """The exit code; what is wrong with a job is said on standard error."""
    leave_with_parent()
    one_thread()
    try:
        job = JOB.validate_json(path.read_text())
        found = collect(job) if isinstance(job, CollectJob) else fit(job)
    except CosignalError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    partial = job.run_dir / job.out / f"{job.kind}.{RESULT}.part"
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps(found))
    partial.replace(partial.with_suffix(""))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
