"""Several samples of the Generator in one round: the ladder, the pool, what is dropped, and where a run goes on."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cosignal.agents.config import ROLES, LLMConfig, ModelConfig
from cosignal.agents.llm.ledger import Call
from cosignal.agents.llm.models import Models, build_models, check_can_sample
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError
from cosignal.graphs.replay.replay import Changes, replay_role
from cosignal.runs.page.content import proposal as proposal_on_page
from cosignal.runs.run_view import RunView
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, ScriptedChatModel, fake_run_config
from cosignal.testing.answers import DIAGNOSIS, DOOR, GOAL, MATE, proposals, ranking
from cosignal.testing.answers import proposal as proposed
from langchain_core.messages import BaseMessage
from loop_runs import POINT, nothing_helps, tables
from pydantic import Field
from replays import run_recorded

ASKED = f"p{POINT}-r0-generator"
LADDER = (0.0, 0.7, 1.4)
AGAIN = proposed("the goal in other words", "1 - dist_goal * 0.25", kick=0.05)
ANSWERS: dict[float | None, list[Any]] = {
    0.0: [proposals(GOAL, DOOR)],
    0.7: [proposals(AGAIN, MATE)],
    1.4: ["nonsense", "nonsense again"],
}


class Ladder(ScriptedChatModel):
    """Answers by the temperature that it is asked at."""

    script: list[Any] = Field(default_factory=list)
    temperature: float | None = None
    answers: dict[float | None, list[Any]]
    asked: list[float | None] = Field(default_factory=list)

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        self.asked.append(self.temperature)
        one = ScriptedChatModel(script=[self.answers[self.temperature].pop(0)], seen=self.seen)
        return await one._agenerate(messages, *args, **kwargs)


class Sampling(LoopSession):
    """A session whose Generator answers by temperature."""

    def __init__(self, run_dir: Path, answers: dict[float | None, list[Any]], order: list[str], **limits: int) -> None:
        scripts = {"critic": [DIAGNOSIS], "ranker": [ranking(*order)]}
        super().__init__(run_dir, FakeTrainer(run_dir), FakeBranchPool(run_dir, nothing_helps), scripts)
        self.ladder = Ladder(answers={key: list(script) for key, script in answers.items()})
        self.config = sampling_config(**limits)

    def models(self, budget: CallBudget, calls: list[Call]) -> Models:
        scripts = self.scripts or {}
        chats = {role: ScriptedChatModel(script=scripts.get(role, [])) for role in ROLES}
        return build_models(self.config.llm, budget, calls.append, chats | {"generator": self.ladder})


def sampling_config(**limits: int) -> RunConfig:
    settings = fake_run_config(candidates=2, rounds=1).model_dump(mode="json")
    settings["llm"] |= {"samples": 3, "sample_temperatures": LADDER}
    settings["llm"]["limits"] |= limits
    return RunConfig.model_validate(settings)


def asked_at(kept: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    return {row["id"]: row["temperature"] for row in kept["calls"] if row["role"] == "generator"}


async def test_answers_are_pooled_twins_and_what_is_too_many_left_out_and_the_invalid_recorded(tmp_path: Path) -> None:
    session = Sampling(tmp_path, ANSWERS, [f"p{POINT}-r0-1", f"p{POINT}-r0-0"])
    await session.run()
    kept = await tables(tmp_path)

    # one prompt, at three temperatures, and the invalid answer had its repair
    calls = {f"{ASKED}-t0-a0": 0.0, f"{ASKED}-s1-t0-a0": 0.7, f"{ASKED}-s2-t0-a0": 1.4, f"{ASKED}-s2-t0-a1": 1.4}
    assert asked_at(kept) == calls
    [first, *others] = [row for row in kept["calls"] if row["id"] in calls]
    assert all(row["messages"][:2] == first["messages"] for row in others)
    invalid = {row["id"]: row["error"] for row in kept["calls"] if row["outcome"] == "invalid"}
    assert set(invalid) == {f"{ASKED}-s2-t0-a0", f"{ASKED}-s2-t0-a1"}
    assert all(row["temperature"] is None for row in kept["calls"] if row["role"] != "generator")

    # the pool in order: a twin is refused as any other, and what is one too many may come again
    goal, door, again, mate = kept["proposals"]
    assert [row["proposal"]["title"] for row in (goal, door, again, mate)] == ["goal", "door", AGAIN["title"], "mate"]
    assert (goal["problems"], door["problems"], mate["problems"]) == ([], [], [])
    assert f"p{POINT}-r0-0, which is another proposal of this round" in again["problems"][0]
    assert "adaptation.candidates" in mate["notes"][-1] and not any("adaptation" in note for note in door["notes"])
    assert [row["rank"] for row in (goal, door, again, mate)] == [1, 0, None, None]
    shown = next(row for row in kept["calls"] if row["role"] == "ranker")["messages"][1]["content"]
    assert '"id": "p128-r0-1"' in shown and '"id": "p128-r0-3"' not in shown

    # and the trace says so
    with closing(sqlite3.connect(tmp_path / "loop.db")) as database:
        visits = [(node, json.loads(detail)) for node, detail in database.execute("SELECT node, detail FROM visits")]
    [made] = [note for node, note in visits if node == "generator"]
    assert set(made["samples_without_answer"]) == {"2"} and "InvalidAnswer" in made["samples_without_answer"]["2"]
    [checked] = [note for node, note in visits if node == "check"]
    assert checked["left_out"] == [f"p{POINT}-r0-3"] and list(checked["failed"]) == [f"p{POINT}-r0-2"]


async def test_without_any_valid_answer_the_intervention_ends_as_with_one_sample(tmp_path: Path) -> None:
    session = Sampling(tmp_path, {t: ["nonsense"] * 2 for t in LADDER}, [])
    await session.run()
    kept = await tables(tmp_path)
    assert kept["proposals"] == [] and len(asked_at(kept)) == 6
    [decision] = kept["decisions"]
    assert decision["verdict"] == "no_answer" and "InvalidAnswer" in decision["detail"]["reason"]


async def test_every_sample_counts_against_the_limits(tmp_path: Path) -> None:
    """The Critic takes one call: two samples are paid, and there is none left for the third and the Ranker."""
    session = Sampling(tmp_path, ANSWERS, [], calls=3)
    await session.run()
    kept = await tables(tmp_path)
    outcomes = {row["id"]: row["outcome"] for row in kept["calls"]}
    assert sum(outcome != "budget" for outcome in outcomes.values()) == 3
    assert outcomes[f"{ASKED}-s2-t0-a0"] == "budget"
    assert len(kept["proposals"]) == 4  # of the two samples that have answered


async def test_a_run_that_was_stopped_asks_no_sample_again_that_has_answered(tmp_path: Path) -> None:
    first = Sampling(tmp_path, ANSWERS | {0.7: [60.0]}, [])
    task = asyncio.create_task(first.run())
    while len(first.ladder.asked) < 4:  # the third one and its repair, and the second one hangs
        assert not task.done()
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stopped = asked_at(await tables(tmp_path))
    assert {key.partition("-cut")[0] for key in stopped} >= {f"{ASKED}-t0-a0", f"{ASKED}-s1-t0-a0"}

    second = Sampling(tmp_path, ANSWERS, [f"p{POINT}-r0-0", f"p{POINT}-r0-1"])
    await second.run()
    assert 0.0 not in second.ladder.asked and second.ladder.asked.count(0.7) == 1
    kept = await tables(tmp_path)
    assert [row["proposal"]["title"] for row in kept["proposals"]] == ["goal", "door", AGAIN["title"], "mate"]
    assert set(stopped) <= set(asked_at(kept))  # what was paid is in the ledger


async def test_each_sample_is_replayed_at_its_own_temperature(tmp_path: Path) -> None:
    order = [f"p{POINT}-r0-0", f"p{POINT}-r0-1"]
    await run_recorded(Sampling(tmp_path, ANSWERS | {1.4: [proposals(MATE)]}, order))
    again = Ladder(answers={0.0: [proposals(GOAL, DOOR)], 0.7: [proposals(MATE)], 1.4: [proposals(MATE)]})
    found = await replay_role(tmp_path, "generator", Changes(chats={"generator": again}))
    assert [replay.call for replay in found.replays] == [f"{ASKED}{part}-t0-a0" for part in ("", "-s1", "-s2")]
    assert again.asked == list(LADDER)
    assert all(replay.rebuilt.same for replay in found.replays)
    assert [replay.same_answer for replay in found.replays] == [True, False, True]

    ranked = await replay_role(tmp_path, "ranker")
    assert [replay.rebuilt.same for replay in ranked.replays] == [True]  # of two out of five proposals

    # the page leads from a proposal to the sample that has made it
    view = RunView(tmp_path, lenient=True)
    assert [proposal_on_page(view, f"p{POINT}-r0-{i}")["made_by"] for i in (1, 2)] == [
        f"{ASKED}-t0-a0",
        f"{ASKED}-s1-t0-a0",
    ]


# ---------------------------------------------------------------- config


def test_one_sample_is_the_default_at_the_model_s_own_temperature() -> None:
    assert LLMConfig().ladder == (None,)
    assert LLMConfig(samples=3).ladder == (None, None, None)
    assert LLMConfig(samples=2, sample_temperatures=(0.2, 1.0)).ladder == (0.2, 1.0)


def test_a_ladder_has_a_temperature_for_each_sample() -> None:
    with pytest.raises(ValueError, match=r"one temperature for each of llm.samples = 3, got \[0.2, 1.0\]"):
        LLMConfig(samples=3, sample_temperatures=(0.2, 1.0))


def test_samples_of_the_rules_would_all_be_equal() -> None:
    model = ModelConfig(provider="openai", model="x", fallback=(ModelConfig(),))
    with pytest.raises(ConfigError, match="llm.samples: must be 1 for the provider 'rules'"):
        check_can_sample(LLMConfig(samples=2, critic=model))
    check_can_sample(LLMConfig(samples=2, generator=model))
    check_can_sample(LLMConfig(samples=2), prebuilt=["generator"])
    check_can_sample(LLMConfig())
