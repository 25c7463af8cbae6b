"""Run directories of fake runs whose calls can be asked again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession
from cosignal.testing.fake_run import UPDATE, Gain, Scripts
from loop_runs import POINT, nothing_helps

CRITIC = f"p{POINT}-r0-critic-t0-a0"
GENERATOR = f"p{POINT}-r0-generator-t0-a0"
RANKER = f"p{POINT}-r0-ranker-t0-a0"


async def recorded_run(run_dir: Path, scripts: Scripts | None = None, gain: Gain = nothing_helps) -> LoopSession:
    """A run that has ended, with the files that make its directory one. Without `scripts` the rules answer."""
    session = LoopSession(run_dir, FakeTrainer(run_dir), FakeBranchPool(run_dir, gain), scripts)
    (run_dir / "config.json").write_text(session.config.resolved_json())
    (run_dir / "training.json").write_text(session.config.training().model_dump_json())
    (run_dir / "run.json").write_text(json.dumps({"id": run_dir.name}))
    _write_state(run_dir / f"checkpoints/update_{POINT:09d}")
    await session.run()
    return session


def _write_state(snapshot: Path) -> None:
    """What a trainer's snapshot says besides, as the fake trainer's status at that point has it."""
    steps = POINT * UPDATE
    evaluation = {"steps": steps, "mean": 1.0, "sd": 0.1, "episodes": 32, "success_rate": 0.0, "version": 0}
    saved = {
        "extra": {"steps_evaluation": 1000, "evaluation": evaluation},
        "line": {"steps_main": steps, "steps_trained": steps},
    }
    (snapshot / "state.json").write_text(json.dumps(saved))


def files(run_dir: Path) -> dict[str, str]:
    """Hash of every file of a run, without what replays have written, and what SQLite leaves beside what it reads."""
    return {
        str(path.relative_to(run_dir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run_dir.rglob("*"))
        if path.is_file() and "replays" not in path.parts and not path.name.endswith(("-shm", "-wal"))
    }
