"""The whole graph with a fake trainer, a fake pool and scripted models or the embedded rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from cosignal.graphs.graph import step_limit
from cosignal.graphs.history import tried
from cosignal.rl.branches.config import GateConfig
from cosignal.rl.evidence.schema import Evidence
from cosignal.rl.ipc.messages import BranchJob, BranchResult
from cosignal.runs.events import NodeEntered, Promoted
from cosignal.runs.store import LoopStore
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, fake_run_config
from cosignal.testing.answers import DIAGNOSIS, DOOR, GOAL, MATE, proposal, proposals, ranking
from loop_runs import (
    POINT,
    first_helps,
    goal_helps,
    leave_branch_steps,
    nodes,
    nothing_helps,
    queries,
    scripts,
    tables,
    titles,
)


async def test_an_accepted_proposal_is_promoted_and_training_goes_on(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    session = LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, goal_helps), scripts())
    await session.run()

    tried = ["generator", "check", "rank_proposals", "validate", "decide"]
    assert nodes(session) == ["observe", "critic", *tried, "approve", "confirm", "promote", "observe"]
    [(key, point, signal, adopt)] = trainer.log
    assert (key, point) == (f"p{POINT}-r0-1:0", POINT)
    assert (signal.version, signal.parent, signal.scale, signal.exploration.kick) == (1, 0, 2.0, 0.05)
    assert adopt is not None  # plateaued at success 0: the winner's state, of its best seed
    [promoted] = [event for event in session.events if isinstance(event, Promoted)]
    assert (promoted.adopted, promoted.version, promoted.repeated) == ("state", 1, False)
    assert trainer.finished


async def test_the_books_of_an_accepted_proposal(tmp_path: Path) -> None:
    await LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, goal_helps), scripts()).run()
    kept = await tables(tmp_path)

    [decision] = kept["decisions"]
    assert (decision["id"], decision["verdict"], decision["winner"]) == (f"p{POINT}-r0", "accept", f"p{POINT}-r0-1")
    assert (decision["adopted"], decision["version"], decision["created_steps"]) == ("state", 1, POINT * 2048)
    [judged] = [row for row in decision["detail"]["judgements"] if row["arm"] == decision["winner"]]
    assert judged["gain"] == pytest.approx(1.7)
    assert judged["seeds"] == [0, 1, 2, 3, 4]
    assert judged["curve"] == [[30_000, 0.85], [60_000, 1.7]]
    assert [row["rank"] for row in kept["proposals"]] == [1, 0, 2]
    # screening: 4 arms × 2 seeds; then the best and the control, 2 seeds continued and 3 fresh ones
    phases = [(row["phase"], row["horizon"]) for row in kept["branches"]]
    assert phases.count(("screen", 30_000)) == 8
    assert phases.count(("full", 60_000)) == 10
    assert sum(row["result"]["steps"] for row in kept["branches"]) == 720_000
    assert {row["job"]["exploration"]["kick"] for row in kept["branches"]} == {0.05}  # the control's as well
    assert [(row["role"], row["outcome"]) for row in kept["calls"]] == [
        ("critic", "ok"),
        ("generator", "ok"),
        ("ranker", "ok"),
    ]


async def test_what_the_gate_did_not_judge_is_no_result_of_the_gate(tmp_path: Path) -> None:
    """All three help; the two best are finalists, the better one is accepted before the other's turn."""

    def gain(job: BranchJob) -> float:
        return {"-dist_goal / 17": 1.7, "-dist_mate / 12": 1.6, "-dist_door / 9": 1.5}[titles(job)]

    await LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, gain), scripts()).run()
    [decision] = (await tables(tmp_path))["decisions"]
    [judged] = decision["detail"]["judgements"]
    assert (judged["arm"], judged["verdict"]) == (f"p{POINT}-r0-1", "accept")
    said = {row["arm"]: (row["verdict"], row["explanation"]) for row in decision["detail"]["screened"]}
    screening = "seeds in screening"
    assert said == {
        "p128-r0-2": (
            "not_tried",
            f"p128-r0-2: gain +1.600 over 2 {screening}; not tried further: p128-r0-1 was accepted before its turn",
        ),
        "p128-r0-0": (
            "screened_out",
            f"p128-r0-0: gain +1.500 over 2 {screening}; screened out: others were better",
        ),
    }
    store = await LoopStore.open(tmp_path)
    history = {entry.proposal_id: (entry.verdict, entry.gain_low is None) for entry in await tried(store)}
    await store.close()
    assert history == {
        "p128-r0-0": ("screened_out", True),
        "p128-r0-1": ("accept", False),
        "p128-r0-2": ("not_tried", True),
    }


class SunkenPool(FakeBranchPool):
    """No branch of any arm ends above the fork."""

    def result(self, job: BranchJob) -> BranchResult:
        return super().result(job).model_copy(update={"fork_return": 2.0})


async def test_where_no_branch_rose_only_what_was_judged_is_not_informative(tmp_path: Path) -> None:
    session = LoopSession(tmp_path, FakeTrainer(tmp_path), SunkenPool(tmp_path, nothing_helps), scripts(2))
    await session.run()
    store = await LoopStore.open(tmp_path)
    history = [entry.verdict for entry in await tried(store) if entry.round == 0]
    await store.close()
    assert history == ["not_informative", "not_informative", "screened_out"]


async def test_what_the_budget_did_not_reach_says_so_and_may_come_again(tmp_path: Path) -> None:
    """The first finalist is rejected at the first look. What is left pays for another round up to its first look, but
    not for the second finalist up to its last one."""

    def gain(job: BranchJob) -> float:
        if "door" in titles(job):
            return 0.5 if job.horizon == 30_000 else -3.0
        return {"-dist_goal / 17": 0.02, "-dist_mate / 12": 0.01}[titles(job)]

    said = scripts() | {"generator": [proposals(DOOR, GOAL, MATE), proposals(DOOR, GOAL, MATE)]}
    session = LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, gain), said)
    session.config = session.config.model_copy(update={"gate": GateConfig(claim="signal", looks=(5, 9))})
    # screening 240 000, then 240 000 for each arm up to 5 seeds and 480 000 up to 9
    await leave_branch_steps(tmp_path, session, 1_500_000)
    await session.run()
    kept = await tables(tmp_path)
    arms = [[*row["detail"]["judgements"], *row["detail"]["screened"]] for row in kept["decisions"]]
    verdicts = [{arm["arm"]: arm["verdict"] for arm in of_round} for of_round in arms]
    assert verdicts == [
        {"p128-r0-0": "reject", "p128-r0-1": "not_tried", "p128-r0-2": "screened_out"},
        {"p128-r1-1": "no_difference"},
    ]
    assert "adaptation.max_share was used up before its turn" in arms[0][1]["explanation"]


async def test_only_the_adopted_end_state_is_kept(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    await LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, goal_helps), scripts()).run()
    assert [f"branches/{path.name}" for path in (tmp_path / "branches").iterdir()] == [trainer.log[0][3]]


async def test_a_rejected_round_goes_back_to_the_generator_with_its_curves(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)

    def only_the_second_idea(job: BranchJob) -> float:
        return 1.7 if titles(job) == "-dist_goal / 8" else -1.0

    session = LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, only_the_second_idea), scripts(2))
    await session.run()

    body = ["generator", "check", "rank_proposals", "validate", "decide"]
    assert nodes(session) == ["observe", "critic", *body, *body, "approve", "confirm", "promote", "observe"]
    assert [key for key, *_ in trainer.log] == [f"p{POINT}-r1-1:0"]
    kept = await tables(tmp_path)
    assert [row["verdict"] for row in kept["decisions"]] == ["reject", "accept"]
    second = kept["calls"][-2]
    assert second["role"] == "generator"
    block = second["messages"][-1]["content"]
    assert '"proposal_id": "p128-r0-0"' in block or '"proposal_id":"p128-r0-0"' in block


async def test_after_the_last_round_training_goes_on_unchanged(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    session = LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, nothing_helps), scripts(2))
    await session.run()
    assert trainer.log == []
    assert trainer.finished
    kept = await tables(tmp_path)
    assert [row["verdict"] for row in kept["decisions"]] == ["no_difference", "no_difference"]
    assert len({row["key"] for row in kept["branches"]}) == len(kept["branches"])


async def test_where_the_kick_alone_revives_the_run_the_control_becomes_the_main_line(tmp_path: Path) -> None:
    """Every arm rises, so no candidate beats the control; the main line, which had no kick, must not stay behind."""
    trainer = FakeTrainer(tmp_path)
    pool = FakeBranchPool(tmp_path, nothing_helps, kick_revives=True)
    session = LoopSession(tmp_path, trainer, pool, scripts(1))
    await session.run()
    [(key, _, signal, adopt)] = trainer.log
    assert key == "control:0"
    assert signal.terms == ()
    assert adopt is not None
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["verdict"], decision["winner"], decision["adopted"]) == ("accept", "control", "state")
    assert "with the kick alone" in decision["detail"]["reason"]
    [promoted] = [event for event in session.events if isinstance(event, Promoted)]
    assert promoted.proposal == "control"


async def test_nothing_happens_while_nothing_is_wrong(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path, stage="improving")
    pool = FakeBranchPool(tmp_path, nothing_helps)
    session = LoopSession(tmp_path, trainer, pool, {})
    await session.run()
    assert nodes(session) == ["observe"]
    assert pool.jobs == []
    assert trainer.finished


class LargeTrainer(FakeTrainer):
    """A task whose every feature has a name as long as it may be, and which has very many of them."""

    def evidence(self) -> Evidence:
        evidence = super().evidence()
        dull = next(row for row in evidence.features if row.name == "heading")
        more = [dull.model_copy(update={"name": f"f{i:03d}" + "x" * 36}) for i in range(400)]
        return evidence.model_copy(update={"features": [*more, *evidence.features]})


async def test_a_task_with_hundreds_of_features_is_helped_as_any(tmp_path: Path) -> None:
    trainer = LargeTrainer(tmp_path)
    await LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, goal_helps), scripts()).run()
    kept = await tables(tmp_path)
    assert [row["outcome"] for row in kept["calls"]] == ["ok", "ok", "ok"]
    assert '"left_out": {"features": 346}' in kept["calls"][0]["messages"][-1]["content"]


async def test_a_proposal_that_fails_its_check_costs_no_branch(tmp_path: Path) -> None:
    trainer, pool = FakeTrainer(tmp_path), FakeBranchPool(tmp_path, goal_helps)
    constant = proposal("nothing", "0 * dist_goal")
    said = {
        "critic": [DIAGNOSIS],
        "generator": [proposals(constant), proposals(DOOR, GOAL)],
        "ranker": [ranking("p128-r1-0", "p128-r1-1")],
    }
    session = LoopSession(tmp_path, trainer, pool, said)
    await session.run()
    kept = await tables(tmp_path)
    assert [row["verdict"] for row in kept["decisions"]] == ["no_candidate", "accept"]
    assert kept["proposals"][0]["problems"]
    assert {job.arm for job in pool.jobs} == {"control", "p128-r1-0", "p128-r1-1"}
    assert nodes(session)[3:6] == ["check", "decide", "generator"]


async def test_the_same_signal_twice_in_a_round_is_tried_once(tmp_path: Path) -> None:
    pool = FakeBranchPool(tmp_path, nothing_helps)
    said = scripts()
    said["generator"] = [proposals(GOAL, GOAL | {"title": "again"}, DOOR)] * 2
    said["ranker"] = [ranking("p128-r0-0", "p128-r0-2")]
    await LoopSession(tmp_path, FakeTrainer(tmp_path), pool, said).run()
    assert {job.arm for job in pool.jobs} == {"control", "p128-r0-0", "p128-r0-2"}
    kept = await tables(tmp_path)
    assert [bool(row["problems"]) for row in kept["proposals"]] == [False, True, False, True, True, True]


async def test_without_the_gate_the_best_ranked_signal_is_promoted_unseen(tmp_path: Path) -> None:
    trainer, pool = FakeTrainer(tmp_path), FakeBranchPool(tmp_path, nothing_helps)
    session = LoopSession(tmp_path, trainer, pool, scripts())
    session.config = fake_run_config(gated=False)
    await session.run()
    assert pool.jobs == []
    [(key, _, signal, adopt)] = trainer.log
    assert (key, signal.version, signal.exploration.kick, adopt) == (f"p{POINT}-r0-1:0", 1, 0.05, None)


async def test_a_conflict_is_recorded_and_training_goes_on(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    trainer.conflict = True
    await LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, goal_helps), scripts()).run()
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["verdict"], decision["version"], trainer.finished) == ("conflict", None, True)


async def test_with_the_embedded_rules(tmp_path: Path) -> None:
    """No script: the rules diagnose, propose and rank; the first proposal of theirs helps."""
    trainer = FakeTrainer(tmp_path)

    session = LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, first_helps))
    await session.run()
    assert len(trainer.log) == 1
    assert "critic_tools" in nodes(session)
    assert "query" in trainer.requests


async def test_no_node_blocks_the_event_loop(tmp_path: Path) -> None:
    session = LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, first_helps))
    with blockbuster_ctx("cosignal"):
        await session.run()
    assert session.trainer.log


async def test_the_step_limit_is_above_the_longest_run(tmp_path: Path) -> None:
    """An intervention at every point, each with all its tool calls and rounds; a step of the graph is one node."""
    points = range(16, 256, 16)
    session = LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, nothing_helps))
    config = fake_run_config(patience=0, max_share=0.99)
    limits = config.llm.limits.model_copy(update={"tokens": 2_000_000})  # a history this long takes many
    session.config = config.model_copy(update={"llm": config.llm.model_copy(update={"limits": limits})})
    ideas = [proposals(DOOR), proposals(GOAL)]
    session.scripts = {
        "critic": [said for _ in points for said in (queries("1"), queries("2"), queries("3"), DIAGNOSIS)],
        "generator": ideas * len(points),
    }
    await session.run()
    steps = sum(isinstance(event, NodeEntered) for event in session.events)
    assert steps == 15 * (1 + 7 + 10) + 1  # observe, critic and tools, two rounds of five; the last look ends the run
    assert steps <= step_limit(session.config) < 1.5 * steps  # the rest is for monitor, approve, confirm, promote
