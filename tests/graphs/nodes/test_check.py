"""What may not be proposed again: quarantine, which holds for ever, and what was tried from this state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from converged import Converged
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import PotentialTerm
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession
from cosignal.testing.answers import DIAGNOSIS, GOAL, proposals
from loop_runs import goal_helps, nothing_helps, scripts, tables

PAST = "p16-r0-0"


async def remember(run_dir: Path, verdict: str, signal: Signal, suffix: str = "") -> None:
    """As if the gate had accepted `signal` at update 16 and then this had happened."""
    store = await LoopStore.open(run_dir)
    row: dict[str, Any] = {"id": PAST, "point": 16, "round": 0, "position": 0, "problems": [], "notes": [], "rank": 0}
    proposal = {"title": "t", "reason": "r", "addresses": ["plateau"], "terms": []}
    await store.write("proposals", row | {"proposal": proposal, "signal": signal.model_dump(mode="json")})
    detail = {"reason": "", "judgements": [], "screened": []}
    decision = {"id": f"p16-r0{suffix}", "point": 16, "round": 0, "verdict": verdict, "winner": PAST, "adopted": None}
    await store.write("decisions", decision | {"version": None, "detail": detail, "created_steps": 32_768})
    await store.close()


@pytest.mark.parametrize(
    ("verdict", "suffix", "allowed"), [("rollback", "-rollback", False), ("declined", "", False), ("stale", "", True)]
)
async def test_what_was_rolled_back_or_declined_never_comes_again(
    tmp_path: Path, verdict: str, suffix: str, allowed: bool
) -> None:
    goal = PotentialTerm(name="phi", expression="-dist_goal / 17")
    await remember(tmp_path, verdict, Signal(terms=(goal,), exploration=GOAL["exploration"]), suffix)
    trainer = FakeTrainer(tmp_path)
    said = scripts() | {"critic": [DIAGNOSIS], "generator": [proposals(GOAL)] * 2, "ranker": []}
    await LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, goal_helps), said).run()
    tried = [row for row in (await tables(tmp_path))["proposals"] if row["id"] != PAST]
    assert all((row["problems"] == []) == allowed for row in tried)
    assert bool(trainer.log) == allowed


async def test_a_removal_that_was_declined_does_not_come_again_but_the_slower_one_may(tmp_path: Path) -> None:
    await remember(tmp_path, "declined", Signal(beta=0.8))
    trainer = Converged(tmp_path)
    await LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, nothing_helps), {}).run()
    [gone, faded] = [row for row in (await tables(tmp_path))["proposals"] if row["id"] != PAST]
    assert "promoted and rolled back, or declined" in gone["problems"][0]
    assert faded["problems"] == []
    assert [key for key, *_ in trainer.log] == ["p64-r0-1:0"]
