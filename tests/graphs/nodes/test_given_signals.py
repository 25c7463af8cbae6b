"""Given signals are the candidates of every intervention: no model is asked, in the order of the config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cosignal.config.given_signals import GivenSignal
from cosignal.graphs.nodes.given_signals import given_proposals
from cosignal.rl.ipc.messages import BranchJob
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.signals.terms import PotentialTerm
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, fake_run_config
from loop_runs import nodes, nothing_helps, tables

DOOR = Signal(
    version=9, stage="plateaued", scale=2.0, parent=4, terms=(PotentialTerm(name="a", expression="-dist_door"),)
)
GOAL = Signal(beta=1.0, terms=(PotentialTerm(name="b", expression="-dist_goal / 17"),))
UNKNOWN = Signal(terms=(PotentialTerm(name="c", expression="-dist_moon"),))


def given(*signals: Signal) -> list[GivenSignal]:
    return [GivenSignal(title=f"given {i}", signal=signal) for i, signal in enumerate(signals)]


async def run(run_dir: Path, gain: Any, *signals: Signal, **adaptation: Any) -> tuple[LoopSession, FakeBranchPool]:
    trainer, pool = FakeTrainer(run_dir), FakeBranchPool(run_dir, gain)
    session = LoopSession(run_dir, trainer, pool, {})  # no script: a model that is asked fails the test
    session.config = fake_run_config(signals=given(*signals), **adaptation)
    session.config = session.config.model_copy(
        update={"gate": session.config.gate.model_copy(update={"claim": "signal"})}
    )
    await session.run()
    return session, pool


def test_a_proposal_says_where_it_comes_from_and_addresses_nothing() -> None:
    door, goal = given_proposals(given(DOOR, GOAL))
    assert (door.title, door.addresses) == ("given 0", ["insufficient_evidence"])
    assert goal.reason == "Signal 2 of 2 given by the config (adaptation.signals); no model was asked."
    assert (goal.beta, goal.terms, goal.exploration) == (1.0, list(GOAL.terms), Exploration())


async def test_no_model_is_asked_and_the_order_is_the_configs(tmp_path: Path) -> None:
    session, _ = await run(tmp_path, lambda job: 1.7 if job.arm.endswith("-1") else 0.0, DOOR, GOAL)
    tries = ["given_signals", "check", "rank_proposals", "validate", "decide", "approve", "confirm", "promote"]
    assert nodes(session)[:10] == ["observe", *tries, "observe"]
    kept = await tables(tmp_path)
    assert kept["calls"] == []
    assert [(row["proposal"]["title"], row["rank"]) for row in kept["proposals"]] == [("given 0", 0), ("given 1", 1)]
    [decision] = kept["decisions"]
    assert (decision["verdict"], decision["winner"]) == ("accept", "p128-r0-1")
    # What the file says of version, parent, stage and scale does not count.
    first = kept["proposals"][0]["signal"]
    assert {name: first[name] for name in ("version", "parent", "scale")} == {"version": 1, "parent": 0, "scale": None}


async def test_what_lost_is_tried_again_at_the_next_intervention_in_one_round_each(tmp_path: Path) -> None:
    session, _ = await run(tmp_path, nothing_helps, DOOR, GOAL, patience=60_000, max_share=0.95)
    kept = await tables(tmp_path)
    rounds = [(row["point"], row["round"]) for row in kept["decisions"]]
    assert len(rounds) > 1 and {number for _, number in rounds} == {0}
    assert [row["problems"] for row in kept["proposals"]] == [[]] * (2 * len(rounds))
    assert "generator" not in nodes(session) and "critic" not in nodes(session)


async def test_what_does_not_fit_the_task_is_refused_by_check_and_said(tmp_path: Path) -> None:
    await run(tmp_path, nothing_helps, UNKNOWN)
    kept = await tables(tmp_path)
    [proposal, *_] = kept["proposals"]
    assert "dist_moon" in proposal["problems"][0]
    assert {row["verdict"] for row in kept["decisions"]} == {"no_candidate"}


async def test_equal_given_signals_are_tried_once_a_round(tmp_path: Path) -> None:
    jobs: list[BranchJob] = []

    def gain(job: BranchJob) -> float:
        jobs.append(job)
        return 0.0

    await run(tmp_path, gain, GOAL, GOAL)
    first = {job.arm for job in jobs if job.arm.startswith("p128")}
    assert first == {"p128-r0-0"}
