"""Candidates that recorded ways to the reward speak against get no branch, unless nothing else would be left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cosignal.graphs.history import tried
from cosignal.rl.branches.config import BranchConfig
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.runs.store import LoopStore
from fake_run import FULL, FakePool, FakeTrainer, Session, proposal, proposals, ranking, recorded, snapshot_name, spec
from loop_runs import POINT, nothing_helps, scripts, tables

PAIRS = 40
NEAR, FAR, MATE = (
    proposal("near the door", "-dist_door / 9"),
    proposal("away from the door", "dist_door / 9"),
    proposal("near the mate", "-dist_mate / 12"),
)


def with_ways(run_dir: Path) -> None:
    """On the way to rewards the door comes nearer by 2 and nothing else changes; elsewhere everything stays about."""
    column = spec().groups[0].feature_names().index("dist_door")
    plain = recorded(spec())
    before = np.repeat(plain.features[0][:1], PAIRS, axis=0)
    jitter = np.random.default_rng(1).normal(0, 0.3, (2, PAIRS, 1)).astype(np.float32)
    after, elsewhere = before.copy(), before.copy()
    after[..., column] += jitter[0] - 2
    elsewhere[..., column] += jitter[1]
    paired: TransitionSample = replace(
        plain, rewarded_from=[before], rewarded_to=[after], plain_from=[before], plain_to=[elsewhere]
    )
    paired.save(run_dir / snapshot_name(POINT) / "recorded.safetensors")


async def run(run_dir: Path, *given: dict[str, Any], **branches: Any) -> tuple[FakePool, dict[str, Any]]:
    """One round with these proposals, in this order."""
    trainer, pool = FakeTrainer(run_dir), FakePool(run_dir, nothing_helps)
    with_ways(run_dir)
    said = scripts() | {"generator": [proposals(*given)]}
    said["ranker"] = [ranking(*(f"p{POINT}-r0-{i}" for i in range(len(given))))] if len(given) > 1 else []
    session = Session(run_dir, trainer, pool, said)
    config = session.config
    settings = BranchConfig.model_validate(config.branches.model_dump() | {"recorded_screen": True} | branches)
    adaptation = config.adaptation.model_copy(update={"rounds": 1})
    session.config = config.model_copy(update={"branches": settings, "adaptation": adaptation})
    await session.run()
    [decision] = (await tables(run_dir))["decisions"]
    return pool, decision


def arms(pool: FakePool) -> set[str]:
    return {job.arm for job in pool.jobs} - {"control"}


async def test_what_falls_on_the_way_to_rewards_is_not_branched(tmp_path: Path) -> None:
    pool, decision = await run(tmp_path, NEAR, FAR, MATE)
    assert arms(pool) == {f"p{POINT}-r0-0", f"p{POINT}-r0-2"}
    [out] = [row for row in decision["detail"]["screened"] if row["arm"] == f"p{POINT}-r0-1"]
    assert (out["verdict"], out["gain"], out["seeds"]) == ("screened_out", None, [])
    assert out["explanation"].startswith(f"p{POINT}-r0-1: not branched; recorded ways to the reward: ")
    # two arms less one: (2 + 1) × 2 seeds × half the horizon in screening
    screening = sum(job.horizon for job in pool.jobs if job.horizon == FULL // 2)
    assert screening == 3 * 2 * FULL // 2
    store = await LoopStore.open(tmp_path)
    told = {row.proposal_id: (row.verdict, row.gain) for row in await tried(store)}
    await store.close()
    assert told[f"p{POINT}-r0-1"] == ("screened_out", None)


@pytest.mark.parametrize(("given", "settings"), [((NEAR, FAR), {"recorded_screen": False}), ((FAR,), {})])
async def test_switched_off_or_with_nothing_else_left_all_are_branched(
    tmp_path: Path, given: tuple[dict[str, Any], ...], settings: dict[str, Any]
) -> None:
    pool, decision = await run(tmp_path, *given, **settings)
    assert arms(pool) == {f"p{POINT}-r0-{i}" for i in range(len(given))}
    assert not any("not branched" in row["explanation"] for row in decision["detail"]["screened"])


async def test_as_many_finalists_as_candidates_means_no_halving(tmp_path: Path) -> None:
    """Nothing is screened out: every candidate is judged at the full horizon."""
    pool, decision = await run(tmp_path, NEAR, MATE, proposal("goal", "-dist_goal / 17"), finalists=3)
    assert decision["detail"]["screened"] == []
    assert {row["arm"] for row in decision["detail"]["judgements"]} == {f"p{POINT}-r0-{i}" for i in range(3)}
    assert {job.arm for job in pool.jobs if job.horizon == FULL} == {"control", *(f"p{POINT}-r0-{i}" for i in range(3))}
