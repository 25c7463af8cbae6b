"""At convergence shaping is taken away: two ways out, no model, judged by non-inferiority."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from converged import IN_FORCE, NEAR, Converged
from cosignal.config.budget import cost_of_intervention
from cosignal.graphs.nodes.remove_shaping import removals
from cosignal.rl.signals.signal import Exploration, Signal, is_removal
from cosignal.rl.stage import Stage
from cosignal.testing import FakeBranchPool, LoopSession, fake_run_config
from cosignal.testing.fake_run import FULL
from loop_runs import nodes, nothing_helps, tables


async def run(
    run_dir: Path, gain: Any = nothing_helps, **adaptation: Any
) -> tuple[LoopSession, Converged, FakeBranchPool]:
    trainer, pool = Converged(run_dir), FakeBranchPool(run_dir, gain)
    session = LoopSession(run_dir, trainer, pool, {})  # no script: a model that is asked fails the test
    session.config = fake_run_config(**adaptation)
    await session.run()
    return session, trainer, pool


def test_both_ways_out_only_take_away() -> None:
    gone, faded = removals(IN_FORCE, 50_000)
    assert (gone.terms, gone.beta) == ([], 0.8)
    [term] = faded.terms  # what fades by itself would begin anew
    assert term == NEAR.model_copy(update={"anneal_steps": 50_000})
    for found in (gone, faded):
        signal = Signal(beta=found.beta, terms=tuple(found.terms), exploration=found.exploration)
        assert is_removal(signal, IN_FORCE)


async def test_at_convergence_no_model_is_asked_and_the_signal_alone_goes(tmp_path: Path) -> None:
    session, trainer, pool = await run(tmp_path)
    tries = ["remove_shaping", "check", "rank_proposals", "validate", "decide", "approve", "confirm", "promote"]
    assert [node for node in nodes(session) if node != "monitor"][:10] == ["observe", *tries, "observe"]
    [(key, point, signal, adopt)] = trainer.log
    assert (key, point, adopt) == ("p64-r0-0:0", 64, None)  # half of the patience of 250 000
    assert (signal.terms, signal.exploration) == ((), Exploration(entropy=0.02))
    kept = await tables(tmp_path)
    assert kept["calls"] == []
    [decision] = kept["decisions"]
    assert (decision["verdict"], decision["adopted"]) == ("accept", "signal")
    assert "nothing is lost by removing" in decision["detail"]["reason"]
    assert decision["detail"]["removing"] == IN_FORCE.content_hash()
    titles = [row["proposal"]["title"] for row in kept["proposals"]]
    assert titles == ["Remove all shaping", "Let all shaping fade out"]
    assert {job.exploration for job in pool.jobs} == {Exploration(entropy=0.02)}


async def test_it_costs_two_arms_and_a_control(tmp_path: Path) -> None:
    _, _, pool = await run(tmp_path)
    used = fake_run_config()
    cost = cost_of_intervention(used.branches, used.gate, used.adaptation, FULL, candidates=2)
    assert {job.arm for job in pool.jobs} == {"control", "p64-r0-0", "p64-r0-1"}
    steps = sum(job.horizon if job.start == job.fork else FULL // 2 for job in pool.jobs)
    assert steps == cost.total == 3 * 2 * FULL // 2 + 2 * (2 * FULL // 2 + 3 * FULL)


async def test_the_slower_way_is_taken_where_the_quick_one_hurts(tmp_path: Path) -> None:
    _, trainer, _ = await run(tmp_path, lambda job: 0.0 if job.signal.terms else -1.0)
    [(key, _, signal, _)] = trainer.log
    assert key == "p64-r0-1:0"
    assert [getattr(term, "anneal_steps", None) for term in signal.terms] == [50_000]
    # what fades by itself is left alone from now on
    assert [row["verdict"] for row in (await tables(tmp_path))["decisions"]] == ["accept"]


async def test_a_refused_removal_is_one_round_and_rests_while_the_signal_stays(tmp_path: Path) -> None:
    """Patience 60 000, of which half counts at convergence; five halves later it is tried again. That the control's
    state was kept in between made a new version of the same signal."""
    session, trainer, _ = await run(tmp_path, lambda job: -1.0, patience=60_000, max_share=0.95)
    kept = await tables(tmp_path)
    assert trainer.log == []
    assert {row["verdict"] for row in kept["decisions"]} == {"reject"}
    tried_at = [row["created_steps"] for row in kept["decisions"]]
    assert tried_at[0] == 32_768
    assert all(150_000 <= later - earlier < 150_000 + 2 * 32_768 + FULL for earlier, later in pairwise(tried_at))
    assert len(tried_at) == 3
    assert trainer.signal.version == 3
    assert trainer.signal.terms == IN_FORCE.terms
    assert "generator" not in nodes(session)
    # the second time the same two proposals are not "rejected before"
    assert [row["problems"] for row in kept["proposals"]] == [[]] * 6


@pytest.mark.parametrize("stage", ["exploring", "improving"])
async def test_a_fixed_stage_switches_removal_off(tmp_path: Path, stage: Stage) -> None:
    session, trainer, pool = await run(tmp_path, stage=stage)
    assert "remove_shaping" not in nodes(session)
    assert (pool.jobs, trainer.log) == ([], [])
