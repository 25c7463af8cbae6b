"""Run directories of fake runs whose calls can be asked again."""

from __future__ import annotations

import json
from pathlib import Path

from cosignal.rl.ipc.messages import BranchJob
from fake_run import FakePool, FakeTrainer, Scripts, Session
from loop_runs import nothing_helps


async def recorded_run(run_dir: Path, scripts: Scripts | None = None, gain: object = nothing_helps) -> Session:
    """A run that has ended, with the files that make its directory one. Without `scripts` the rules answer."""
    pool = FakePool(run_dir, gain if callable(gain) else _no_gain)
    session = Session(run_dir, FakeTrainer(run_dir), pool, scripts)
    (run_dir / "config.json").write_text(session.config.resolved_json())
    (run_dir / "run.json").write_text(json.dumps({"id": run_dir.name}))
    await session.run()
    return session


def _no_gain(job: BranchJob) -> float:
    return 0.0
