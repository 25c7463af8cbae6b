"""At convergence no model is asked: potentials leave by their offset, the rest on branches, if that is not inferior."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converged import BONUS, FADING, IN_FORCE, NEAR, Converged
from cosignal.agents.llm.ledger import Call
from cosignal.config.budget import cost_of_intervention
from cosignal.graphs.context import Context
from cosignal.graphs.history import tried
from cosignal.graphs.nodes.promote import _watch
from cosignal.graphs.nodes.remove_shaping import leaves_by_offset, removals, without_potentials
from cosignal.graphs.state import State, Watch
from cosignal.rl.algorithms.config import IPPOConfig
from cosignal.rl.ipc.messages import EvaluationReport, TrainerStatus
from cosignal.rl.signals.critic_offset import only_potentials_leave
from cosignal.rl.signals.scorer import Scorer, Scorers
from cosignal.rl.signals.signal import Exploration, Signal, is_removal
from cosignal.rl.signals.terms import LearnedTerm, PotentialTerm
from cosignal.rl.stage import Stage
from cosignal.rl.trainer.database import LoggedSignal, MetricsWriter
from cosignal.runs.approvals import answer
from cosignal.runs.events import ApprovalNeeded
from cosignal.runs.interventions import interventions
from cosignal.runs.progress import Tracker
from cosignal.runs.records import KEPT_IN_CRITIC, OUT_OF_REWARD, Outcome
from cosignal.runs.report import signal_history
from cosignal.runs.run_view import RunView
from cosignal.runs.store import LoopStore
from cosignal.runs.timeline import timeline
from cosignal.testing import FakeBranchPool, LoopSession, fake_run_config
from cosignal.testing.fake_run import FULL, fake_run_spec, random_transitions
from kills import Fragile, dies_at
from loop_runs import comparable, leave_branch_steps, nodes, nothing_helps, tables


async def run(
    run_dir: Path, gain: Any = nothing_helps, trainer: Converged | None = None, **adaptation: Any
) -> tuple[LoopSession, Converged, FakeBranchPool]:
    trainer, pool = trainer or Converged(run_dir), FakeBranchPool(run_dir, gain)
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


# ---------------------------------------------------------------- by the offset


OFFSET = ["remove_shaping", "approve", "confirm", "promote"]


async def test_potentials_leave_without_a_branch_and_all_else_stays_as_it_is(tmp_path: Path) -> None:
    session, trainer, pool = await run(tmp_path)
    assert nodes(session) == ["observe", *OFFSET, "observe"]
    assert pool.jobs == []
    [change] = trainer.changes
    assert (change.key, change.point, change.adopt, change.cause) == ("p64-r0-0:0", 64, None, "offset")
    assert change.signal.terms == (FADING, BONUS)
    assert (change.signal.beta, change.signal.scale, change.signal.exploration) == (0.8, 3.0, Exploration(entropy=0.02))
    assert only_potentials_leave(change.signal, IN_FORCE)
    kept = await tables(tmp_path)
    assert kept["calls"] == kept["branches"] == []
    [decision] = kept["decisions"]
    assert (decision["verdict"], decision["adopted"], decision["version"]) == ("accept", "signal", 1)
    detail = decision["detail"]
    assert (detail["claim"], detail["removing"], detail["adopt"]) == ("offset", IN_FORCE.content_hash(), None)
    assert [row["proposal"]["title"] for row in kept["proposals"]] == ["Take the potentials out of the reward"]


def write_signal_log(run_dir: Path, trainer: Converged) -> None:
    """Write what the trainer would have written, and what a view needs besides."""
    (run_dir / "run.json").write_text("{}")
    (run_dir / "config.json").write_text(fake_run_config().resolved_json())
    writer = MetricsWriter(run_dir / "trainer.db")
    writer.log_signal(LoggedSignal(0, "start", None, 0, 0, IN_FORCE, None, "start"))
    for change in trainer.changes:
        base, signal = change.signal.parent, change.signal
        logged = LoggedSignal(signal.version, change.key, base, change.point, 131_072, signal, None, change.cause)
        writer.log_signal(logged)
    writer.close()


async def test_it_is_called_out_of_the_reward_and_never_needless_or_proven(tmp_path: Path) -> None:
    session, trainer, _ = await run(tmp_path)
    [decision] = (await tables(tmp_path))["decisions"]
    write_signal_log(tmp_path, trainer)
    [change] = [moment for moment in timeline(RunView(tmp_path)) if moment.kind == "offset"]
    assert not [moment for moment in timeline(RunView(tmp_path)) if moment.kind in ("verdict", "promotion")]
    [item] = interventions(RunView(tmp_path))
    [round_] = item.rounds
    [shown] = round_.proposals
    assert item.branch_steps == 0
    assert shown.verdict == OUT_OF_REWARD
    [version, _] = signal_history(RunView(tmp_path))
    tracker = Tracker()
    lines = [line for event in session.events for line in tracker.apply(event)]
    assert [line.label for line in lines] == ["proposal", "offset", "offset"]
    texts = [
        round_.outcome,
        shown.outcome,
        decision["detail"]["reason"],
        shown.reason,
        change.text,
        version.taken,
        *(line.text for line in lines[1:]),
    ]
    for text in texts:
        assert KEPT_IN_CRITIC in text, text
        assert not re.search(r"unneeded|needless|no longer need|prove|not needed|gate had", text), text
    store = await LoopStore.open(tmp_path)
    [told] = await tried(store)
    await store.close()
    assert (told.verdict, told.gain, told.curve) == ("out_of_reward", None, [])


async def test_it_waits_for_patience_alone(tmp_path: Path) -> None:
    """No branch budget is left, and there never was one."""
    trainer = Converged(tmp_path)
    session = LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, nothing_helps), {})
    await leave_branch_steps(tmp_path, session, 0)
    await session.run()
    assert [change.cause for change in trainer.changes] == ["offset"]


@pytest.mark.parametrize("stage", ["exploring", "improving"])
async def test_a_fixed_stage_switches_removal_off(tmp_path: Path, stage: Stage) -> None:
    session, trainer, pool = await run(tmp_path, stage=stage)
    assert "remove_shaping" not in nodes(session)
    assert (pool.jobs, trainer.log, trainer.changes) == ([], [], [])


async def test_a_human_is_asked_and_one_who_declines_is_not_asked_again(tmp_path: Path) -> None:
    trainer, pool = Converged(tmp_path), FakeBranchPool(tmp_path, nothing_helps)
    session = LoopSession(tmp_path, trainer, pool, {})
    session.config = fake_run_config(approve="human", patience=60_000)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "config.json").write_text(session.config.resolved_json())
    task = asyncio.create_task(session.run())
    while not (questions := [event for event in session.events if isinstance(event, ApprovalNeeded)]):
        assert not task.done(), task.exception()
        await asyncio.sleep(0.001)
    assert "not asked" in questions[0].gate
    assert questions[0].diff == [f"- {NEAR.describe()}"]
    assert await asyncio.to_thread(answer, tmp_path, questions[0].id, False)
    await task
    kept = await tables(tmp_path)
    assert [row["verdict"] for row in kept["decisions"]] == ["declined"]
    assert "gate had" not in kept["decisions"][0]["detail"]["reason"]
    assert (pool.jobs, trainer.changes) == ([], [])


WATCH = Watch(
    version=1, proposal="p8-r0-0", point=8, expected=None, starts=0, margin=0.1, seen=100,
    before=EvaluationReport(steps=100, mean=2.0, sd=0.1, episodes=8, success_rate=None, version=0),
).model_dump(mode="json")  # fmt: skip


@pytest.mark.parametrize("watch", [None, WATCH])
async def test_it_is_not_watched_and_what_was_watched_still_is(watch: dict[str, Any] | None) -> None:
    outcome = Outcome(verdict="accept", winner="p64-r0-0", claim="offset", reason="")
    state: State = {"outcome": outcome.model_dump(mode="json"), "watch": watch, "before": WATCH["before"]}
    assert await _watch(ctx=None, state=state, promotion=None, reply=None) == watch  # type: ignore[arg-type]


async def test_under_the_overlap_clock_it_ages_only_with_the_version(tmp_path: Path) -> None:
    """The run moves on by more than `max_staleness` and changes its stage; another version alone is a conflict."""

    class Moving(Converged):
        def __init__(self, run_dir: Path) -> None:
            super().__init__(run_dir, clock="overlap", pace=16)
            self.asked = 0

        def status(self) -> TrainerStatus:
            self.asked += 1
            stage: Stage = "converged" if self.asked % 2 else "improving"
            return super().status().model_copy(update={"stage": stage})

    trainer, pool = Moving(tmp_path), FakeBranchPool(tmp_path, nothing_helps)
    session = LoopSession(tmp_path, trainer, pool, {})
    session.config = fake_run_config(max_staleness=1).model_copy(update={"clock": "overlap"})
    await session.run()
    assert [change.cause for change in trainer.changes] == ["offset"]
    assert pool.jobs == []

    other = tmp_path / "other"
    other.mkdir()
    refused = Converged(other)
    refused.conflict = True
    await run(other, trainer=refused)
    assert {row["verdict"] for row in (await tables(other))["decisions"]} == {"conflict"}
    assert refused.changes == []


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_effect_they_leave_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    def parts(name: str) -> tuple[LoopSession, Converged]:
        (tmp_path / name).mkdir(exist_ok=True)
        trainer = Converged(tmp_path / name, steps_budget=200_000)
        return LoopSession(trainer.run_dir, trainer, FakeBranchPool(trainer.run_dir, nothing_helps), {}), trainer

    session, reference = parts("reference")
    await session.run()
    expected = comparable(await tables(tmp_path / "reference"))
    at, died = 1, True
    while died:
        session, trainer = parts(f"killed-{at}")
        died = await dies_at(session, Fragile(at, after), monkeypatch)
        if died:
            again = LoopSession(trainer.run_dir, trainer, FakeBranchPool(trainer.run_dir, nothing_helps), {})
            await again.run()
        assert trainer.changes == reference.changes, at
        assert comparable(await tables(trainer.run_dir)) == expected, at
        at += 4
    assert at > 10
    assert [change.cause for change in reference.changes] == ["offset"]


def test_the_terms_that_stay_are_those_that_fade() -> None:
    other = PotentialTerm(name="other", expression="dist_goal")
    proposal = without_potentials(IN_FORCE.model_copy(update={"terms": (NEAR, BONUS, other, FADING)}))
    assert proposal.terms == [BONUS, FADING]
    assert proposal.reason.startswith("near, other leave by an exact offset")
    config = fake_run_config()
    assert leaves_by_offset(config, IN_FORCE)
    assert not leaves_by_offset(config, IN_FORCE.model_copy(update={"terms": (FADING, BONUS)}))


async def test_what_is_no_potential_is_still_tried_on_branches_later(tmp_path: Path) -> None:
    """A score in difference form lasts beside the potential: that leaves by its offset, then the score is tried."""
    group, scorers = fake_run_spec().groups[0], Scorers()
    weights = (np.ones((1, group.obs_size, 1), np.float32),), (np.zeros((1, 1), np.float32),)
    scored = LearnedTerm(name="sigma", scorer=scorers.add(Scorer(*weights)), agents=group.name, form="difference")
    mixed = IN_FORCE.model_copy(update={"terms": (NEAR, scored, BONUS)})

    class Mixed(Converged):
        @property
        def signal(self) -> Signal:
            return self.changes[-1].signal if self.changes else mixed

    class Scored(LoopSession):
        async def context(self, store: LoopStore, calls: list[Call]) -> Context:
            return replace(await super().context(store, calls), scorers=scorers)

    trainer, pool = Mixed(tmp_path), FakeBranchPool(tmp_path, nothing_helps)
    seen = [np.ones((50, len(group.agents), group.obs_size), np.float32)]
    for snapshot in (tmp_path / "checkpoints").iterdir():
        observed = replace(random_transitions(fake_run_spec()), obs=seen, last_obs=seen)
        observed.save(snapshot / "recorded.safetensors")
    session = Scored(tmp_path, trainer, pool, {})
    session.config = fake_run_config(patience=60_000)
    await session.run()
    first, second = trainer.changes[:2]
    assert (first.cause, first.signal.terms) == ("offset", (scored, BONUS))
    assert (second.cause, second.signal.terms) == ("promotion", ())
    assert {job.arm[:5] for job in pool.jobs} == {"contr", second.key[:5]}
    assert second.point > first.point
    claims = [row["detail"].get("claim", "signal") for row in (await tables(tmp_path))["decisions"]]
    assert claims[:2] == ["offset", "signal"]


# ---------------------------------------------------------------- on branches


@pytest.fixture
def no_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """An algorithm that cannot offset potentials."""
    monkeypatch.setattr(IPPOConfig, "offsets_potentials", False)


@pytest.mark.usefixtures("no_offset")
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


@pytest.mark.usefixtures("no_offset")
async def test_it_costs_two_arms_and_a_control(tmp_path: Path) -> None:
    _, _, pool = await run(tmp_path)
    used = fake_run_config()
    cost = cost_of_intervention(used.branches, used.gate, used.adaptation, FULL, candidates=2)
    assert {job.arm for job in pool.jobs} == {"control", "p64-r0-0", "p64-r0-1"}
    steps = sum(job.horizon if job.start == job.fork else FULL // 2 for job in pool.jobs)
    assert steps == cost.total == 3 * 2 * FULL // 2 + 2 * (2 * FULL // 2 + 3 * FULL)


@pytest.mark.usefixtures("no_offset")
@pytest.mark.parametrize("candidates", [4, 1])
async def test_the_slower_way_is_taken_where_the_quick_one_hurts(tmp_path: Path, candidates: int) -> None:
    """However few ideas of a model are tried: these are none."""
    _, trainer, _ = await run(tmp_path, lambda job: 0.0 if job.signal.terms else -1.0, candidates=candidates)
    [(key, _, signal, _)] = trainer.log
    assert key == "p64-r0-1:0"
    assert [getattr(term, "anneal_steps", None) for term in signal.terms] == [50_000]
    # what fades by itself is left alone from now on
    assert [row["verdict"] for row in (await tables(tmp_path))["decisions"]] == ["accept"]


@pytest.mark.usefixtures("no_offset")
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
