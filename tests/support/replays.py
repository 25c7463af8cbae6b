"""Run directories of fake runs whose calls can be asked again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cosignal.agents.replay_results import (
    RacedArm,
    Rebuilt,
    Replay,
    ReplayedArm,
    ReplayedLook,
    ReplayedProof,
    Side,
    Validation,
)
from cosignal.config.run_config import RunConfig
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, fake_run_config
from cosignal.testing.fake_run import UPDATE, Gain, Scripts
from loop_runs import POINT, nothing_helps

CRITIC = f"p{POINT}-r0-critic-t0-a0"
GENERATOR = f"p{POINT}-r0-generator-t0-a0"
RANKER = f"p{POINT}-r0-ranker-t0-a0"


async def recorded_run(
    run_dir: Path, scripts: Scripts | None = None, gain: Gain = nothing_helps, config: RunConfig | None = None
) -> LoopSession:
    """A run that has ended, with the files that make its directory one. Without `scripts` the rules answer."""
    config = config or fake_run_config()
    trainer = FakeTrainer(run_dir, clock=config.clock)
    session = LoopSession(run_dir, trainer, FakeBranchPool(run_dir, gain), scripts)
    session.config = config
    await run_recorded(session)
    return session


async def run_recorded(session: LoopSession) -> None:
    """Run a session to its end, with the files that make its directory a run's."""
    run_dir, config = session.run_dir, session.config
    (run_dir / "config.json").write_text(session.config.resolved_json())
    (run_dir / "training.json").write_text(session.config.training().model_dump_json())
    (run_dir / "run.json").write_text(json.dumps({"id": run_dir.name}))
    if config.clock == "lockstep":  # where the loop looks under the other clock is not known before
        write_state(run_dir, POINT)
    await session.run()


def write_state(run_dir: Path, point: int) -> None:
    """What a trainer's snapshot says besides, as the fake trainer's status at that point has it."""
    steps = point * UPDATE
    evaluation = {"steps": steps, "mean": 1.0, "sd": 0.1, "episodes": 32, "success_rate": 0.0, "version": 0}
    saved = {
        "extra": {"steps_evaluation": 1000, "evaluation": evaluation},
        "line": {"steps_main": steps, "steps_trained": steps},
    }
    (run_dir / f"checkpoints/update_{point:09d}/state.json").write_text(json.dumps(saved))


def raced_replay(text: str = "Near", explanation: str = "gain +1.50, lower bound +1.10") -> Replay:
    """A replay whose first proposal's policy was proven in a race, and whose second one did not pass the checks."""
    side = Side(
        provider="rules", model="rules", prompt_id="generator/v1", prompt_hash="0123456789abcdef", outcome="ok",
        valid=True, answer={}, raw="{}", error=None, attempts=1, repairs=0, tool_calls=0, input_tokens=None,
        output_tokens=None, cost_usd=0.0, latency_s=0.0,
    )  # fmt: skip
    proof = ReplayedProof(
        rung=3, number=2, against="control at 4096", gain=1.5, lower=1.1, level=0.0076, margin=0.1, proven=True,
        explanation=explanation,
    )  # fmt: skip
    look = ReplayedLook(rung=3, mean=2.5, main_line=1.0, episodes=16)
    won = RacedArm(kind="candidate", look=look, proofs=[proof])
    dropped = RacedArm(kind="kick", look=look.model_copy(update={"rung": 2, "mean": 1.25}), proofs=[])
    arms = [
        ReplayedArm(
            id="p16-r0-0", title=text, problems=[], notes=[], verdict="policy_proven", explanation=text, race=won
        ),
        ReplayedArm(id="p16-r0-1", title=text, problems=[text], notes=[], verdict="refused"),
        ReplayedArm(
            id="kick@16", title="the kick", problems=[], notes=[], verdict="dropped", explanation="low", race=dropped
        ),
    ]  # fmt: skip
    tried = Validation(
        snapshot="checkpoints/update_000000016", claim="policy", verdict="accept", winner="p16-r0-0",
        reason=explanation, recorded="no_difference", recorded_claim="policy", horizon=1000, rungs=3, arms=arms,
        branches=8, reused=0, steps=5000, steps_evaluation=700,
    )  # fmt: skip
    return Replay(
        call=GENERATOR, role="generator", point=16, round=0, prompt=None, rebuilt=Rebuilt(same=True), before=side,
        after=side, same_answer=True, difference=[], validation=tried,
    )  # fmt: skip


def files(run_dir: Path) -> dict[str, str]:
    """Hash of every file of a run, without what replays have written, and what SQLite leaves beside what it reads."""
    return {
        str(path.relative_to(run_dir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run_dir.rglob("*"))
        if path.is_file() and "replays" not in path.parts and not path.name.endswith(("-shm", "-wal"))
    }
