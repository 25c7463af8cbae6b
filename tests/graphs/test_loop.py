"""The whole graph with a fake trainer, a fake pool and scripted models or the embedded rules."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from cosignal.agents.context import build_context
from cosignal.agents.ledger import Place
from cosignal.errors import ProviderError
from cosignal.graphs.budget import branch_budget
from cosignal.graphs.events import NodeEntered, Promoted
from cosignal.graphs.history import arms_of, tried
from cosignal.graphs.log import tracing_variables
from cosignal.graphs.loop import step_limit
from cosignal.graphs.run import KEEP_CHECKPOINTS, open_checkpoints
from cosignal.graphs.tools import ProbeRefusedError, launch_branches
from cosignal.rl.branches.config import GateConfig
from cosignal.rl.ipc.messages import BranchJob, BranchResult, Evidence
from cosignal.runs.store import LoopStore
from fake_run import (
    DIAGNOSIS,
    DOOR,
    GOAL,
    MATE,
    FakePool,
    FakeTrainer,
    Killed,
    Scripts,
    Session,
    config,
    proposal,
    proposals,
    ranking,
)
from langchain_core.messages import AIMessage
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langsmith.utils import get_env_var

POINT = 128  # the first one with 250 000 main steps behind it, in updates of 2048


def titles(job: BranchJob) -> str:
    [term] = job.signal.terms
    return getattr(term, "expression", "")


def goal_helps(job: BranchJob) -> float:
    return 1.7 if "goal" in titles(job) else 0.0


def first_helps(job: BranchJob) -> float:
    return 1.7 if job.arm.endswith("-0") else 0.0


def nothing_helps(job: BranchJob) -> float:
    return 0.0


def scripts(rounds: int = 1) -> Scripts:
    """One intervention; in each round the same three ideas under another weight."""
    generator = [proposals(DOOR, GOAL, MATE)]
    generator += [proposals(proposal("more door", "-dist_door / 3"), proposal("the goal", "-dist_goal / 8"))]
    rankings = [ranking(*(f"p{POINT}-r0-{i}" for i in (1, 0, 2))), ranking(f"p{POINT}-r1-0", f"p{POINT}-r1-1")]
    return {"critic": [DIAGNOSIS], "generator": generator[:rounds], "ranker": rankings[:rounds]}


async def tables(run_dir: Path) -> dict[str, list[dict[str, Any]]]:
    store = await LoopStore.open(run_dir)
    try:
        return {name: await store.rows(name) for name in ("diagnoses", "proposals", "branches", "decisions", "calls")}
    finally:
        await store.close()


def nodes(session: Session) -> list[str]:
    """Visited nodes, runs of `observe` as one."""
    names = [event.node for event in session.events if isinstance(event, NodeEntered)]
    return [name for i, name in enumerate(names) if i == 0 or (name, names[i - 1]) != ("observe", "observe")]


async def test_an_accepted_proposal_is_promoted_and_training_goes_on(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    session = Session(tmp_path, trainer, FakePool(tmp_path, goal_helps), scripts())
    await session.run()

    path = ["observe", "critic", "generator", "check", "rank_proposals", "validate", "decide", "promote", "observe"]
    assert nodes(session) == path
    [(key, point, signal, adopt)] = trainer.log
    assert (key, point) == (f"p{POINT}-r0-1:0", POINT)
    assert (signal.version, signal.parent, signal.scale, signal.exploration.kick) == (1, 0, 2.0, 0.05)
    assert adopt is not None  # plateaued at success 0: the winner's state, of its best seed
    [promoted] = [event for event in session.events if isinstance(event, Promoted)]
    assert (promoted.adopted, promoted.version, promoted.repeated) == ("state", 1, False)
    assert trainer.finished


async def test_the_books_of_an_accepted_proposal(tmp_path: Path) -> None:
    await Session(tmp_path, FakeTrainer(tmp_path), FakePool(tmp_path, goal_helps), scripts()).run()
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

    await Session(tmp_path, FakeTrainer(tmp_path), FakePool(tmp_path, gain), scripts()).run()
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


class SunkenPool(FakePool):
    """No branch of any arm ends above the fork."""

    def _result(self, job: BranchJob) -> BranchResult:
        return super()._result(job).model_copy(update={"fork_return": 2.0})


async def test_where_no_branch_rose_only_what_was_judged_is_not_informative(tmp_path: Path) -> None:
    session = Session(tmp_path, FakeTrainer(tmp_path), SunkenPool(tmp_path, nothing_helps), scripts(2))
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
    session = Session(tmp_path, FakeTrainer(tmp_path), FakePool(tmp_path, gain), said)
    session.config = session.config.model_copy(update={"gate": GateConfig(looks=(5, 9))})
    # screening 240 000, then 240 000 for each arm up to 5 seeds and 480 000 up to 9
    await leave_branch_steps(tmp_path, session, 1_500_000)
    await session.run()
    kept = await tables(tmp_path)
    verdicts = [{arm["arm"]: arm["verdict"] for arm in arms_of(row)} for row in kept["decisions"]]
    assert verdicts == [
        {"p128-r0-0": "reject", "p128-r0-1": "not_tried", "p128-r0-2": "screened_out"},
        {"p128-r1-1": "no_difference"},
    ]
    assert "adaptation.max_share was used up before its turn" in arms_of(kept["decisions"][0])[1]["explanation"]


async def leave_branch_steps(run_dir: Path, session: Session, left: int) -> None:
    """As if branches before had spent all but `left` of the share."""
    spent = branch_budget(session.config.adaptation, session.trainer.steps_budget) - left
    result = {"steps": spent, "steps_evaluation": 0}
    row = {"key": "before", "point": 0, "round": 0, "phase": "full", "arm": "p0-r0-0", "seed": 0, "horizon": 1}
    store = await LoopStore.open(run_dir)
    await store.write("branches", row | {"job": {}, "result": result})
    await store.close()


async def test_only_the_adopted_end_state_is_kept(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    await Session(tmp_path, trainer, FakePool(tmp_path, goal_helps), scripts()).run()
    assert [f"branches/{path.name}" for path in (tmp_path / "branches").iterdir()] == [trainer.log[0][3]]


async def test_a_rejected_round_goes_back_to_the_generator_with_its_curves(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)

    def only_the_second_idea(job: BranchJob) -> float:
        return 1.7 if titles(job) == "-dist_goal / 8" else -1.0

    session = Session(tmp_path, trainer, FakePool(tmp_path, only_the_second_idea), scripts(2))
    await session.run()

    body = ["generator", "check", "rank_proposals", "validate", "decide"]
    assert nodes(session) == ["observe", "critic", *body, *body, "promote", "observe"]
    assert [key for key, *_ in trainer.log] == [f"p{POINT}-r1-1:0"]
    kept = await tables(tmp_path)
    assert [row["verdict"] for row in kept["decisions"]] == ["reject", "accept"]
    second = kept["calls"][-2]
    assert second["role"] == "generator"
    block = second["messages"][-1]["content"]
    assert '"proposal_id": "p128-r0-0"' in block or '"proposal_id":"p128-r0-0"' in block


async def test_after_the_last_round_training_goes_on_unchanged(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    session = Session(tmp_path, trainer, FakePool(tmp_path, nothing_helps), scripts(2))
    await session.run()
    assert trainer.log == []
    assert trainer.finished
    kept = await tables(tmp_path)
    assert [row["verdict"] for row in kept["decisions"]] == ["no_difference", "no_difference"]
    assert len({row["key"] for row in kept["branches"]}) == len(kept["branches"])


async def test_where_the_kick_alone_revives_the_run_the_control_becomes_the_main_line(tmp_path: Path) -> None:
    """Every arm rises, so no candidate beats the control; the main line, which had no kick, must not stay behind."""
    trainer = FakeTrainer(tmp_path)
    pool = FakePool(tmp_path, nothing_helps, kick_revives=True)
    session = Session(tmp_path, trainer, pool, scripts(1))
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
    pool = FakePool(tmp_path, nothing_helps)
    session = Session(tmp_path, trainer, pool, {})
    await session.run()
    assert nodes(session) == ["observe"]
    assert pool.jobs == []
    assert trainer.finished


INSUFFICIENT = json.dumps(
    {"findings": [{"failure": "insufficient_evidence", "cites": [], "explanation": "Too early to say."}]}
)


async def test_insufficient_evidence_ends_the_intervention_and_costs_nothing(tmp_path: Path) -> None:
    trainer, pool = FakeTrainer(tmp_path), FakePool(tmp_path, goal_helps)
    session = Session(tmp_path, trainer, pool, {"critic": [INSUFFICIENT, INSUFFICIENT]})
    session.config = config(patience=200_000)
    await session.run()
    assert nodes(session) == ["observe", "critic", "observe", "critic", "observe"]
    assert (pool.jobs, trainer.log, trainer.finished) == ([], [], True)
    decisions = (await tables(tmp_path))["decisions"]
    # the first point with 200 000 steps behind it, and the first with 200 000 since then
    assert [row["created_steps"] for row in decisions] == [229_376, 458_752]
    assert {row["verdict"] for row in decisions} == {"insufficient_evidence"}
    assert decisions[0]["detail"]["reason"] == "Too early to say."


async def test_insufficient_evidence_beside_a_failure_does_not_end_it(tmp_path: Path) -> None:
    both = {"findings": json.loads(DIAGNOSIS)["findings"] + json.loads(INSUFFICIENT)["findings"]}
    trainer = FakeTrainer(tmp_path)
    said = scripts() | {"critic": [json.dumps(both)]}
    await Session(tmp_path, trainer, FakePool(tmp_path, goal_helps), said).run()
    assert trainer.log


class LargeTrainer(FakeTrainer):
    """A task whose every feature has a name as long as it may be, and which has very many of them."""

    def _evidence(self) -> Evidence:
        evidence = super()._evidence()
        dull = next(row for row in evidence.features if row.name == "heading")
        more = [dull.model_copy(update={"name": f"f{i:03d}" + "x" * 36}) for i in range(400)]
        return evidence.model_copy(update={"features": [*more, *evidence.features]})


async def test_a_task_with_hundreds_of_features_is_helped_as_any(tmp_path: Path) -> None:
    trainer = LargeTrainer(tmp_path)
    await Session(tmp_path, trainer, FakePool(tmp_path, goal_helps), scripts()).run()
    kept = await tables(tmp_path)
    assert [row["outcome"] for row in kept["calls"]] == ["ok", "ok", "ok"]
    assert '"left_out": {"features": 346}' in kept["calls"][0]["messages"][-1]["content"]


async def test_a_prompt_that_cannot_be_made_short_ends_the_intervention_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosignal.graphs.roles.build_context", partial(build_context, max_chars=100))
    trainer = FakeTrainer(tmp_path)
    await Session(tmp_path, trainer, FakePool(tmp_path, nothing_helps), {}).run()
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["verdict"], trainer.finished) == ("no_answer", True)
    assert "PromptTooLong" in decision["detail"]["reason"]


async def test_an_invalid_answer_ends_the_intervention_and_not_the_run(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    said = {"critic": ["no idea", "still none"]}
    session = Session(tmp_path, trainer, FakePool(tmp_path, nothing_helps), said)
    await session.run()
    assert trainer.finished
    [decision] = (await tables(tmp_path))["decisions"]
    assert decision["verdict"] == "no_answer"
    assert "InvalidAnswer" in decision["detail"]["reason"]
    assert [row["outcome"] for row in (await tables(tmp_path))["calls"]] == ["invalid", "invalid"]


async def test_a_provider_that_fails_is_no_error_of_the_run(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    said: Scripts = {"critic": [DIAGNOSIS], "generator": [ProviderError("down")]}
    await Session(tmp_path, trainer, FakePool(tmp_path, nothing_helps), said).run()
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["verdict"], trainer.finished) == ("no_answer", True)


async def test_a_used_up_budget_stops_adaptation_for_good(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    session = Session(tmp_path, trainer, FakePool(tmp_path, nothing_helps), {"critic": []})
    limits = session.config.llm.limits.model_copy(update={"calls": 1})
    session.config = config(patience=10_000).model_copy(
        update={"llm": session.config.llm.model_copy(update={"limits": limits})}
    )
    session.scripts = {"critic": [DIAGNOSIS], "generator": []}
    await session.run()
    kept = await tables(tmp_path)
    assert [row["verdict"] for row in kept["decisions"]] == ["budget"]
    assert trainer.finished


async def test_a_proposal_that_fails_its_check_costs_no_branch(tmp_path: Path) -> None:
    trainer, pool = FakeTrainer(tmp_path), FakePool(tmp_path, goal_helps)
    constant = proposal("nothing", "0 * dist_goal")
    said = {
        "critic": [DIAGNOSIS],
        "generator": [proposals(constant), proposals(DOOR, GOAL)],
        "ranker": [ranking("p128-r1-0", "p128-r1-1")],
    }
    session = Session(tmp_path, trainer, pool, said)
    await session.run()
    kept = await tables(tmp_path)
    assert [row["verdict"] for row in kept["decisions"]] == ["no_candidate", "accept"]
    assert kept["proposals"][0]["problems"]
    assert {job.arm for job in pool.jobs} == {"control", "p128-r1-0", "p128-r1-1"}
    assert nodes(session)[3:6] == ["check", "decide", "generator"]


async def test_the_same_signal_twice_in_a_round_is_tried_once(tmp_path: Path) -> None:
    pool = FakePool(tmp_path, nothing_helps)
    said = scripts()
    said["generator"] = [proposals(GOAL, GOAL | {"title": "again"}, DOOR)] * 2
    said["ranker"] = [ranking("p128-r0-0", "p128-r0-2")]
    await Session(tmp_path, FakeTrainer(tmp_path), pool, said).run()
    assert {job.arm for job in pool.jobs} == {"control", "p128-r0-0", "p128-r0-2"}
    kept = await tables(tmp_path)
    assert [bool(row["problems"]) for row in kept["proposals"]] == [False, True, False, True, True, True]


async def test_a_tool_call_is_answered_and_forgotten_after_the_diagnosis(tmp_path: Path) -> None:
    ask = AIMessage("", tool_calls=[{"name": "query_trainer", "args": {"what": "metric_curve"}, "id": "1"}])
    wrong = AIMessage("", tool_calls=[{"name": "query_trainer", "args": {"what": "the weather"}, "id": "2"}])
    said = scripts()
    said["critic"] = [ask, wrong, DIAGNOSIS]
    trainer = FakeTrainer(tmp_path)
    session = Session(tmp_path, trainer, FakePool(tmp_path, goal_helps), said)
    await session.run()
    assert nodes(session)[:6] == ["observe", "critic", "critic_tools", "critic", "critic_tools", "critic"]
    assert trainer.requests.count("query") == 1
    last = (await tables(tmp_path))["calls"][2]
    assert [message["role"] for message in last["messages"]] == ["system", "human", "ai", "tool", "ai", "tool"]
    assert "the weather" in last["messages"][-1]["content"]


def queries(*ids: str) -> AIMessage:
    calls = [{"name": "query_trainer", "args": {"what": "metric_curve"}, "id": key} for key in ids]
    return AIMessage("", tool_calls=calls)


@pytest.mark.parametrize(
    ("said", "asked", "refused"),
    [
        ([queries("1", "2", "3", "4", "5")], 3, 2),
        ([queries("1", "2"), queries("3", "4")], 3, 1),
        ([queries("1"), queries("same", "same", "same")], 1, 3),  # no telling which of them are within the limit
        ([queries("1", "2"), queries("3")], 3, 0),
    ],
)
async def test_evidence_calls_bounds_calls_and_not_messages(
    tmp_path: Path, said: list[Any], asked: int, refused: int
) -> None:
    trainer = FakeTrainer(tmp_path)
    session = Session(tmp_path, trainer, FakePool(tmp_path, goal_helps), scripts() | {"critic": [*said, DIAGNOSIS]})
    await session.run()
    assert trainer.requests.count("query") == asked
    last = (await tables(tmp_path))["calls"][len(said)]
    answers = [message["content"] for message in last["messages"] if message["role"] == "tool"]
    assert len(answers) == asked + refused
    assert sum("no tool call is left" in answer for answer in answers) == refused
    assert "No more tool calls" in last["messages"][0]["content"]


async def test_probes_that_run_beside_each_other_stay_within_the_share(tmp_path: Path) -> None:
    """Two probes fit alone and not together; each must see what the other has spent, the control's branch too."""
    session = Session(tmp_path, FakeTrainer(tmp_path), FakePool(tmp_path, nothing_helps))
    await leave_branch_steps(tmp_path, session, 130_000)
    store = await LoopStore.open(tmp_path)
    ctx = await session.context(store, [])
    status = (await ctx.client.status()).model_dump(mode="json")
    runtime = SimpleNamespace(state={"status": status, "point": POINT, "round": 0}, context=ctx)

    async def probes(*kicks: float) -> list[Any]:
        probe = partial(launch_branches.coroutine, steps=50_000, runtime=runtime)  # type: ignore[attr-defined]
        return await asyncio.gather(*(probe(kick=kick) for kick in kicks), return_exceptions=True)

    assert [type(answer) for answer in await probes(0.05, 0.1)] == [str, ProbeRefusedError]
    assert [row["arm"] for row in await store.rows("branches", phase="probe")] == ["control", "probe"]
    # after a crash the node runs again: what has run is paid
    assert [type(answer) for answer in await probes(0.05, 0.1)] == [str, ProbeRefusedError]
    await store.close()


async def test_a_probe_branch_is_run_and_counted(tmp_path: Path) -> None:
    args = {"steps": 20_000, "kick": 0.05}
    too_long = AIMessage("", tool_calls=[{"name": "launch_branches", "args": {"steps": 10**6}, "id": "1"}])
    probe = AIMessage("", tool_calls=[{"name": "launch_branches", "args": args, "id": "2"}])
    said = scripts()
    said["critic"] = [too_long, probe, DIAGNOSIS]
    pool = FakePool(tmp_path, lambda job: 0.0)
    session = Session(tmp_path, FakeTrainer(tmp_path), pool, {**said, "generator": ["x", "x"]})
    await session.run()
    kept = await tables(tmp_path)
    assert [(row["arm"], row["phase"], row["horizon"]) for row in kept["branches"]] == [
        ("control", "probe", 20_000),
        ("probe", "probe", 20_000),
    ]
    answers = [message for message in kept["calls"][2]["messages"] if message["role"] == "tool"]
    assert "50000" in answers[0]["content"]
    assert [row["arm"] for row in json.loads(answers[1]["content"])] == ["control", "probe"]


async def test_without_the_gate_the_best_ranked_signal_is_promoted_unseen(tmp_path: Path) -> None:
    trainer, pool = FakeTrainer(tmp_path), FakePool(tmp_path, nothing_helps)
    session = Session(tmp_path, trainer, pool, scripts())
    session.config = config(gated=False)
    await session.run()
    assert pool.jobs == []
    [(key, _, signal, adopt)] = trainer.log
    assert (key, signal.version, signal.exploration.kick, adopt) == (f"p{POINT}-r0-1:0", 1, 0.05, None)


async def test_a_conflict_is_recorded_and_training_goes_on(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    trainer.conflict = True
    await Session(tmp_path, trainer, FakePool(tmp_path, goal_helps), scripts()).run()
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["verdict"], decision["version"], trainer.finished) == ("conflict", None, True)


async def test_with_the_embedded_rules(tmp_path: Path) -> None:
    """No script: the rules diagnose, propose and rank; the first proposal of theirs helps."""
    trainer = FakeTrainer(tmp_path)

    session = Session(tmp_path, trainer, FakePool(tmp_path, first_helps))
    await session.run()
    assert len(trainer.log) == 1
    assert "critic_tools" in nodes(session)
    assert "query" in trainer.requests


async def test_no_node_blocks_the_event_loop(tmp_path: Path) -> None:
    session = Session(tmp_path, FakeTrainer(tmp_path), FakePool(tmp_path, first_helps))
    with blockbuster_ctx("cosignal"):
        await session.run()
    assert session.trainer.log


@pytest.fixture
def tracers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An environment that asks LangChain to post prompts; one entry for each time that it tries to. What the tracer's
    constructor raises does not count: LangChain logs it and goes on."""
    made: list[str] = []

    def refuse(self: Any, *_: Any, **__: Any) -> None:
        made.append("tracer")
        raise AssertionError("tests post nothing")

    get_env_var.cache_clear()
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setattr(LangChainTracer, "__init__", refuse)
    yield made
    get_env_var.cache_clear()


async def test_prompts_are_not_posted_anywhere(tmp_path: Path, tracers: list[str]) -> None:
    assert tracing_variables() == ["LANGSMITH_TRACING"]
    trainer = FakeTrainer(tmp_path)
    await Session(tmp_path, trainer, FakePool(tmp_path, first_helps)).run()
    assert trainer.log
    assert tracers == []


async def test_without_the_protection_they_would_be(
    tmp_path: Path, tracers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosignal.graphs.run.tracing_context", lambda **_: nullcontext())
    await Session(tmp_path, FakeTrainer(tmp_path), FakePool(tmp_path, first_helps)).run()
    assert tracers


async def test_a_checkpoint_revives_listed_types_only(tmp_path: Path) -> None:
    place = Place(point=1, round=2)
    async with open_checkpoints(tmp_path) as checkpoints:
        kept = checkpoints.serde.dumps_typed({"blocked": place, "listed": AIMessage("hi")})
        back = checkpoints.serde.loads_typed(kept)
    assert back == {"blocked": {"point": 1, "round": 2}, "listed": AIMessage("hi")}
    assert JsonPlusSerializer().loads_typed(kept)["blocked"] == place  # what the list is there for


async def test_checkpoints_stay_few_and_plain(tmp_path: Path) -> None:
    await Session(tmp_path, FakeTrainer(tmp_path), FakePool(tmp_path, first_helps)).run()
    with closing(sqlite3.connect(tmp_path / "loop.db")) as database:
        [(count, largest)] = database.execute("SELECT COUNT(*), MAX(LENGTH(checkpoint)) FROM checkpoints")
    assert count <= KEEP_CHECKPOINTS + 1
    assert largest < 40_000


async def test_the_step_limit_is_above_the_longest_run(tmp_path: Path) -> None:
    """An intervention at every point, each with all its tool calls and rounds; a step of the graph is one node."""
    points = range(16, 256, 16)
    session = Session(tmp_path, FakeTrainer(tmp_path), FakePool(tmp_path, nothing_helps))
    session.config = config(patience=0, max_share=0.99)
    ideas = [proposals(DOOR), proposals(GOAL)]
    session.scripts = {
        "critic": [said for _ in points for said in (queries("1"), queries("2"), queries("3"), DIAGNOSIS)],
        "generator": ideas * len(points),
    }
    await session.run()
    steps = sum(isinstance(event, NodeEntered) for event in session.events)
    assert steps == 15 * (1 + 7 + 10) + 1  # observe, critic and tools, two rounds of five; the last look ends the run
    assert steps <= step_limit(session.config) < 1.3 * steps


# ---------------------------------------------------------------- killed and resumed


def comparable(kept: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Without clocks."""
    calls = [
        {name: value for name, value in row.items() if name not in ("latency_s", "started")} for row in kept["calls"]
    ]
    branches = sorted(kept["branches"], key=lambda row: str(row["key"]))
    return {**kept, "calls": calls, "branches": branches}


async def undisturbed(run_dir: Path) -> tuple[FakeTrainer, dict[str, Any]]:
    run_dir.mkdir()
    trainer = FakeTrainer(run_dir)
    await Session(run_dir, trainer, FakePool(run_dir, first_helps)).run()
    return trainer, comparable(await tables(run_dir))


@pytest.mark.parametrize("kill_at", [0, 1, 7, 11, 17])
@pytest.mark.parametrize("points_back", [0, 2])
async def test_killed_in_validate_and_resumed_is_as_never_killed(
    tmp_path: Path, kill_at: int, points_back: int
) -> None:
    reference, expected = await undisturbed(tmp_path / "reference")
    run_dir = tmp_path / "killed"
    run_dir.mkdir()
    trainer = FakeTrainer(run_dir)
    first, second = FakePool(run_dir, first_helps, kill_at), FakePool(run_dir, first_helps)
    with pytest.raises(Killed):
        await Session(run_dir, trainer, first).run()
    trainer.restart(points_back)
    await Session(run_dir, trainer, second).run()

    assert trainer.log == reference.log
    assert comparable(await tables(run_dir)) == expected
    done = [job.key for job in first.jobs + second.jobs]
    assert len(done) == len(set(done))  # no branch is run twice


class Fragile:
    """Raises Killed instead of, or right after, effect number `at` on the world outside the graph."""

    def __init__(self, at: int, after: bool) -> None:
        self.at, self.after, self.count = at, after, 0

    def before_effect(self) -> None:
        if self.count >= self.at + self.after:
            raise Killed("nothing happens any more")

    def after_effect(self) -> None:
        self.count += 1
        if self.count > self.at:
            raise Killed("right after")


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_effect_and_resumed_is_as_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """It dies at every ninth write or request of a run with a promotion."""
    reference, expected = await undisturbed(tmp_path / "reference")
    at, died = 0, True
    while died:
        run_dir = tmp_path / f"killed-{at}"
        run_dir.mkdir()
        trainer = FakeTrainer(run_dir)
        died = await _dies_at(run_dir, trainer, Fragile(at, after), monkeypatch)
        if died:
            trainer.restart(points_back=at % 2)
            await Session(run_dir, trainer, FakePool(run_dir, first_helps)).run()
        assert trainer.log == reference.log, at
        assert comparable(await tables(run_dir)) == expected, at
        at += 9
    assert at > 50


async def _dies_at(run_dir: Path, trainer: FakeTrainer, fragile: Fragile, monkeypatch: pytest.MonkeyPatch) -> bool:
    write, update, handle = LoopStore.write_all, LoopStore.update, trainer.handle

    async def fragile_write(self: LoopStore, *args: Any) -> None:
        fragile.before_effect()
        await write(self, *args)
        fragile.after_effect()

    async def fragile_update(self: LoopStore, *args: Any) -> None:
        fragile.before_effect()
        await update(self, *args)
        fragile.after_effect()

    def fragile_handle(request: Any) -> Any:
        fragile.before_effect()
        reply = handle(request)
        fragile.after_effect()
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(LoopStore, "write_all", fragile_write)
        patch.setattr(LoopStore, "update", fragile_update)
        patch.setattr(trainer, "handle", fragile_handle)
        try:
            await Session(run_dir, trainer, FakePool(run_dir, first_helps)).run()
        except Killed:
            return True
    return False
