"""`cosignal bench scale`: what a round of 1 to 64 candidates costs on the local pool.

Every round has its candidates and the control, forked from one snapshot of Two-Switch, one seed each, for `horizon`
steps. `cpu_s` are CPU seconds of the workers, `wall_s` wall time of the round; both by branch as well. Bytes: of the
snapshot, which a branch reads once and writes once, and which travels to and fro where branches run on a cluster.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..rl.branches.pool import WorkerPool
from ..rl.branches.shipping import pack, size
from ..rl.training import TrainingLine
from .bench_branches import candidate, fork_of, job, timed
from .bench_trainer import training_config
from .measure import bench_result
from .results import Tell

CANDIDATES = (1, 2, 4, 8, 16, 32, 64)
WORKERS = 2


def run_scale(tell: Tell, candidates: Sequence[int] = CANDIDATES, horizon: int = 8_192) -> dict[str, Any]:
    """`horizon`: environment steps of a branch."""
    config = training_config("ippo", 64, 32)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        (run_dir / "training.json").write_text(config.model_dump_json())
        line = TrainingLine(config)
        line.update()
        metrics = asyncio.run(_rounds(line, run_dir, candidates, horizon, tell))
    told = {"task": "two_switch", "algorithm": "ippo", "horizon": horizon, "workers": WORKERS}
    return bench_result("scale", {**told, "candidates": list(candidates)}, metrics)


async def _rounds(
    line: TrainingLine, run_dir: Path, candidates: Sequence[int], horizon: int, tell: Tell
) -> dict[str, Any]:
    fork = fork_of(line, run_dir)
    found: dict[str, Any] = {"snapshot_bytes": size(pack(run_dir, fork))}
    async with WorkerPool(run_dir, WORKERS) as pool:
        await pool.run([job(fork, f"warm-{worker}", line.signal, 1, 1) for worker in range(WORKERS)])
        for number in candidates:
            jobs = [job(fork, f"control-{number}", line.signal, 0, horizon)]
            jobs += [job(fork, f"candidate-{number}-{k}", candidate(k % 8), 0, horizon) for k in range(number)]
            wall_s, cpu_s = await timed(pool, jobs)
            found[str(number)] = {
                "branches": len(jobs), "wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2),
                "wall_s_per_branch": round(wall_s / len(jobs), 3), "cpu_s_per_branch": round(cpu_s / len(jobs), 3),
            }  # fmt: skip
            tell(f"{number} candidates: {found[str(number)]}")
    return found
