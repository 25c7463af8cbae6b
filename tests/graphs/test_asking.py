"""Interventions that end because nothing is found or nobody answers; training goes on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from cosignal.agents.prompt_payload import build_payload
from cosignal.errors import ProviderError
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, fake_run_config
from cosignal.testing.answers import DIAGNOSIS
from cosignal.testing.fake_run import Scripts
from loop_runs import goal_helps, nodes, nothing_helps, scripts, tables

INSUFFICIENT = json.dumps(
    {"findings": [{"failure": "insufficient_evidence", "cites": [], "explanation": "Too early to say."}]}
)


async def test_insufficient_evidence_ends_the_intervention_and_costs_nothing(tmp_path: Path) -> None:
    trainer, pool = FakeTrainer(tmp_path), FakeBranchPool(tmp_path, goal_helps)
    session = LoopSession(tmp_path, trainer, pool, {"critic": [INSUFFICIENT, INSUFFICIENT]})
    session.config = fake_run_config(patience=200_000)
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
    await LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, goal_helps), said).run()
    assert trainer.log


@pytest.mark.parametrize(("asked", "place"), [("critic", "nodes.critic"), ("generator", "asking")])
async def test_a_prompt_that_cannot_be_made_short_ends_the_intervention_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, place: str
) -> None:
    monkeypatch.setattr(f"cosignal.graphs.{place}.build_payload", partial(build_payload, max_chars=100))
    trainer = FakeTrainer(tmp_path)
    said: Scripts = {} if asked == "critic" else {"critic": [DIAGNOSIS]}
    await LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, nothing_helps), said).run()
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["verdict"], trainer.finished) == ("no_answer", True)
    assert "PromptTooLong" in decision["detail"]["reason"]


async def test_an_invalid_answer_ends_the_intervention_and_not_the_run(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    said = {"critic": ["no idea", "still none"]}
    session = LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, nothing_helps), said)
    await session.run()
    assert trainer.finished
    [decision] = (await tables(tmp_path))["decisions"]
    assert decision["verdict"] == "no_answer"
    assert "InvalidAnswer" in decision["detail"]["reason"]
    assert [row["outcome"] for row in (await tables(tmp_path))["calls"]] == ["invalid", "invalid"]


async def test_a_provider_that_fails_is_no_error_of_the_run(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    said: Scripts = {"critic": [DIAGNOSIS], "generator": [ProviderError("down")]}
    await LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, nothing_helps), said).run()
    [decision] = (await tables(tmp_path))["decisions"]
    assert (decision["verdict"], trainer.finished) == ("no_answer", True)


async def test_a_used_up_budget_stops_adaptation_for_good(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path)
    session = LoopSession(tmp_path, trainer, FakeBranchPool(tmp_path, nothing_helps), {"critic": []})
    limits = session.config.llm.limits.model_copy(update={"calls": 1})
    session.config = fake_run_config(patience=10_000).model_copy(
        update={"llm": session.config.llm.model_copy(update={"limits": limits})}
    )
    session.scripts = {"critic": [DIAGNOSIS], "generator": []}
    await session.run()
    kept = await tables(tmp_path)
    assert [row["verdict"] for row in kept["decisions"]] == ["budget"]
    assert trainer.finished
