"""Recorded calls asked again: the same question, other answers, and nothing written into the run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import records
from blockbuster import blockbuster_ctx
from cosignal.agents.config import ROLES, LLMConfig, PromptPaths
from cosignal.agents.schemas import Proposal
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError, NotARunError, ReplayError
from cosignal.graphs.history import decided_before, tried_by
from cosignal.graphs.nodes.rank_transitions import LEARNED_TITLE
from cosignal.graphs.replay.recorded_calls import RunTables
from cosignal.graphs.replay.replay import Changes, replay_call, replay_role
from cosignal.prompts import load_template
from cosignal.runs.records import FittedScorer, RankingDetail, RankingRecord
from cosignal.runs.run_view import RunView
from cosignal.testing import MisbehavingServer, ScriptedChatModel
from cosignal.testing.answers import DIAGNOSIS, GOAL, proposals, ranking
from cosignal.testing.server import says
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tracers.langchain import LangChainTracer
from langsmith.utils import get_env_var
from loop_runs import POINT, queries, racing_config, scripts
from replays import CRITIC, GENERATOR, RANKER, files, recorded_run

SCORER = FittedScorer(
    scorer="0" * 16, pairs=60, held_out_loss=0.5, accuracy=None, agreement=None, epochs=[1], usual_disagreement=0.1
)
PLATEAU = json.dumps({"findings": [{"failure": "plateau", "cites": ["sparse.trend"], "explanation": "flat"}]})


def to(url: str, role: str, *more: str) -> Changes:
    """Ask the server at `url` in the place of the run's provider."""
    told = {"provider": "openai", "base_url": url, "retries": 0}
    sets = [f"llm.{role}.{name}={value}" for name, value in told.items()]
    return Changes(model="tiny", overrides=[*sets, *more])


@pytest.fixture(scope="module")
def recorded_by_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ruled")
    asyncio.run(recorded_run(path))
    return path


@pytest.fixture
def ruled(recorded_by_rules: Path, tmp_path: Path) -> Path:
    """A run that the rules have answered in: two rounds without an acceptance."""
    return shutil.copytree(recorded_by_rules, tmp_path / "run")


# ---------------------------------------------------------------- the same question


@pytest.mark.parametrize("role", ROLES)
async def test_the_rules_give_the_same_answer_to_the_same_messages(ruled: Path, role: Any) -> None:
    before = files(ruled)
    with blockbuster_ctx():
        found = await replay_role(ruled, role)

    assert [replay.call for replay in found.replays] == {
        "critic": [CRITIC],
        "generator": [GENERATOR, f"p{POINT}-r1-generator-t0-a0"],
        "ranker": [RANKER, f"p{POINT}-r1-ranker-t0-a0"],
    }[role]
    for replay in found.replays:
        assert (replay.rebuilt.same, replay.same_answer, replay.difference) == (True, True, [])
        assert replay.before.model_dump(exclude={"latency_s"}) == replay.after.model_dump(exclude={"latency_s"})
        assert replay.after.tool_calls == (1 if role == "critic" else 0)  # the rules look at the trainer once
    assert (found.left_out, found.not_asked) == ({}, 0)
    assert files(ruled) == before


@pytest.mark.parametrize("role", ROLES)
async def test_a_call_of_a_run_that_races_is_rebuilt_with_what_it_was_told_of_races(tmp_path: Path, role: Any) -> None:
    await recorded_run(tmp_path, config=racing_config(rungs=1))
    found = await replay_role(tmp_path, role)
    assert len(found.replays) >= 1 and all(replay.rebuilt.same for replay in found.replays)


async def test_a_model_s_call_is_rebuilt_with_what_tools_had_answered(tmp_path: Path) -> None:
    await recorded_run(tmp_path, scripts() | {"critic": [queries("1", "2"), DIAGNOSIS]})
    books = RunTables(RunView(tmp_path), RunConfig())
    question = books.question(f"p{POINT}-r0-critic-t1-a0")
    assert question.calls_left == 1  # of three
    assert [type(message) for message in question.conversation] == [AIMessage, ToolMessage, ToolMessage]
    [(asked, told)] = question.tool_answers.items()  # both calls were the same one
    assert asked == 'query_trainer {"what": "metric_curve"}'
    assert json.loads(told)["what"] == "metric_curve"

    replay = await replay_call(
        tmp_path, f"p{POINT}-r0-critic-t1-a0", Changes(chats={"critic": ScriptedChatModel(script=[DIAGNOSIS])})
    )
    assert (replay.rebuilt.same, replay.same_answer, replay.before.tool_calls) == (True, True, 0)


async def test_a_repaired_answer_is_one_question(tmp_path: Path) -> None:
    await recorded_run(tmp_path, scripts() | {"critic": ["I think", DIAGNOSIS]})
    for call in (CRITIC, f"p{POINT}-r0-critic-t0-a1"):  # any of its attempts may be named
        chat = ScriptedChatModel(script=["no", "no again"])
        replay = await replay_call(tmp_path, call, Changes(chats={"critic": chat}))
        assert (replay.rebuilt.same, replay.before.outcome, replay.before.repairs) == (True, "repaired", 1)
        assert (replay.after.outcome, replay.after.valid, replay.after.attempts) == ("invalid", False, 2)
        assert "not a JSON object" in str(chat.seen[1][-1].content)


async def test_a_question_knows_nothing_of_what_came_after_it(ruled: Path) -> None:
    books = RunTables(RunView(ruled), RunConfig())
    assert books.question(CRITIC).payload["history"] == []
    assert books.question(GENERATOR).payload["history"] == []
    later = books.question(f"p{POINT}-r1-generator-t0-a0").payload["history"]
    assert {(row["point"], row["round"]) for row in later} == {(POINT, 0)}
    assert all(row["verdict"] in ("no_difference", "screened_out", "reject") for row in later)


def test_a_later_rollback_does_not_taint_an_earlier_question() -> None:
    shaping = Proposal.model_validate({**GOAL, "beta": 0.5})
    made = [records.proposal(point, proposal=shaping) for point in (16, 48)]
    decisions = [
        records.decision("p16-r0", 16, verdict="accept", winner="p16-r0-0"),
        records.decision("p32-rollback", 32, verdict="rollback", winner="p16-r0-0"),
        records.decision("p48-r0", 48, verdict="no_difference"),
    ]

    def verdicts(point: int, round_: int) -> list[str]:
        return [tried.verdict for tried in tried_by(decided_before(decisions, point, round_), made)]

    assert verdicts(16, 0) == []
    assert verdicts(24, 0) == ["not_tried"]  # promoted, and not undone yet
    assert verdicts(32, 0) == ["rolled_back"]  # `monitor` looks first
    assert verdicts(48, 0) == ["rolled_back"]
    assert verdicts(48, 1) == ["rolled_back", "not_tried"]


# ---------------------------------------------------------------- other models


async def test_another_model_s_answer_tokens_and_cost(ruled: Path) -> None:
    with MisbehavingServer(says("{"), says(PLATEAU)) as server:
        price = "llm.critic.price={input: 1.0, output: 2.0}"
        sets = [*to(server.url, "critic").overrides, "llm.critic.model=tiny", price]
        replay = await replay_call(ruled, CRITIC, Changes(overrides=sets))
    after = replay.after
    assert (after.provider, after.model, after.outcome, after.repairs) == ("openai", "tiny-1", "repaired", 1)
    assert (after.input_tokens, after.output_tokens) == (22, 6)  # 11 and 3, twice
    assert after.cost_usd == pytest.approx((22 * 1.0 + 6 * 2.0) / 1e6)
    assert not replay.same_answer
    assert replay.difference[:2] == ["--- recorded", "+++ replayed"]
    assert '+      "failure": "plateau",' in replay.difference
    asked = json.dumps(server.requests[0]["messages"])
    assert "role: critic" in asked and "dist_goal" in asked


async def test_a_price_of_the_run_is_not_another_model_s(ruled: Path) -> None:
    with MisbehavingServer(says(PLATEAU)) as server:
        replay = await replay_call(ruled, CRITIC, to(server.url, "critic", "llm.critic.price={input: 1, output: 2}"))
    assert replay.after.valid
    assert replay.after.cost_usd is None


async def test_no_fallback_answers_in_the_place_of_the_model_that_is_looked_at(ruled: Path) -> None:
    with MisbehavingServer(says("nonsense")) as server:
        replay = await replay_call(ruled, CRITIC, to(server.url, "critic", "llm.critic.fallback=[{provider: rules}]"))
    assert (replay.after.outcome, replay.after.provider, replay.answered) == ("invalid", "openai", True)
    assert replay.difference[-1] == "+nonsense"


async def test_the_critic_gets_recorded_tool_answers_and_no_others(tmp_path: Path) -> None:
    await recorded_run(tmp_path, scripts() | {"critic": [queries("1"), DIAGNOSIS]})
    other = {"name": "query_trainer", "args": {"what": "episode"}, "id": "b"}
    same = {"name": "query_trainer", "args": {"what": "metric_curve"}, "id": "a"}
    chat = ScriptedChatModel(script=[AIMessage("", tool_calls=[same, other]), PLATEAU])
    replay = await replay_call(tmp_path, CRITIC, Changes(chats={"critic": chat}))
    assert (replay.rebuilt.same, replay.after.tool_calls, replay.after.valid) == (True, 1, True)
    known, unknown = chat.seen[1][-2:]
    assert json.loads(str(known.content))["what"] == "metric_curve"
    assert str(unknown.content).startswith("refused: ")


async def test_a_limit_ends_a_replay_of_a_role(ruled: Path) -> None:
    found = await replay_role(ruled, "generator", Changes(overrides=["llm.limits.calls=1"]))
    assert ([replay.call for replay in found.replays], found.not_asked) == ([GENERATOR], 1)


async def test_prompts_are_not_posted_anywhere(ruled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    get_env_var.cache_clear()
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setattr(LangChainTracer, "__init__", lambda *_, **__: made.append("tracer"))
    await replay_call(ruled, GENERATOR)
    get_env_var.cache_clear()
    assert made == []


# ---------------------------------------------------------------- other prompts


async def test_another_prompt_is_asked_with_the_same_evidence(ruled: Path) -> None:
    mine = ruled / "mine.md"
    text = load_template("generator").path.read_text().replace("id: generator/v7", "id: generator/short")
    mine.write_text(text)
    chat = ScriptedChatModel(script=[proposals(GOAL)])
    replay = await replay_call(ruled, GENERATOR, Changes(prompt=mine, chats={"generator": chat}))
    assert replay.rebuilt.same  # it is the run's own prompt that must give the recorded messages
    assert (replay.after.prompt_id, replay.prompt) == ("generator/short", str(mine))
    assert replay.after.prompt_hash == hashlib.sha256(text.encode()).hexdigest()
    assert replay.before.prompt_id == "generator/v7"


async def test_a_prompt_for_another_role_is_refused(ruled: Path) -> None:
    with pytest.raises(ConfigError, match="is for role 'ranker'; give one for role 'critic'"):
        await replay_call(ruled, CRITIC, Changes(prompt=load_template("ranker").path))


async def test_a_prompt_that_has_changed_since_is_told(ruled: Path) -> None:
    mine = ruled / "critic.md"
    mine.write_text(load_template("critic").path.read_text() + "\nThink twice.\n")
    own = RunConfig.load(ruled / "config.json")
    changed = own.model_copy(update={"llm": LLMConfig(prompts=PromptPaths(critic=mine))})
    (ruled / "config.json").write_text(changed.resolved_json())
    replay = await replay_call(ruled, CRITIC)
    assert not replay.rebuilt.same
    assert "was another text then" in replay.rebuilt.note
    assert replay.after.valid

    mine.unlink()
    gone = await replay_call(ruled, CRITIC, Changes(prompt=load_template("critic").path))
    assert "does not exist" in gone.rebuilt.note and gone.same_answer


# ---------------------------------------------------------------- what cannot be


async def test_an_unknown_call_is_answered_with_known_ones(ruled: Path) -> None:
    with pytest.raises(ReplayError, match=f"no call 'p1'; name one of {CRITIC}, p{POINT}-r0-critic-t1-a0, "):
        await replay_call(ruled, "p1")


async def test_calls_about_moves_are_left_out(tmp_path: Path) -> None:
    await recorded_run(tmp_path, {**scripts(), "ranker": [ranking(*(f"p{POINT}-r0-{i}" for i in (1, 0, 2)))]})
    view = RunView(tmp_path)
    books = RunTables(view, RunConfig())
    moves = books.calls[RANKER].model_copy(update={"id": f"p{POINT}-r0-ranker-q0-b0-green-t0-a0"})
    books.calls[moves.id] = moves
    questions, left_out = books.questions("ranker")
    assert [question.first.id for question in questions] == [RANKER]
    assert list(left_out) == [moves.id]
    with pytest.raises(ReplayError, match="single moves, states or steps"):
        books.question(moves.id)


@pytest.mark.parametrize(
    ("title", "groups", "most"),
    [
        ("the goal", {"0": SCORER}, 4),  # a scorer was fitted, but not offered: limits were reached before
        (LEARNED_TITLE, {"0": SCORER}, 3),  # what was fitted takes the place of one
        (None, {"0": SCORER}, 3),  # no answer: there are no proposals to tell it from
        (None, {}, 4),
    ],
)
async def test_a_fitted_scorer_takes_the_place_of_a_proposal(
    ruled: Path, title: str | None, groups: dict[str, FittedScorer], most: int
) -> None:
    books = RunTables(RunView(ruled), RunConfig())
    books.rankings[POINT] = RankingRecord(point=POINT, ranker="r", steps=1, detail=RankingDetail(groups=groups))
    first, *_ = (row for row in books.proposals if row.round == 0)
    titled = first.model_copy(update={"proposal": first.proposal.model_copy(update={"title": title})})
    books.proposals = [] if title is None else [titled]
    assert books.question(GENERATOR).candidates == most


async def test_evidence_of_another_version_is_left_out(ruled: Path) -> None:
    books = RunTables(RunView(ruled), RunConfig())
    del books.interventions[POINT].evidence["stage"]
    questions, left_out = books.questions("generator")
    assert questions == [] and len(left_out) == 2
    with pytest.raises(ReplayError, match="is not of this version"):
        books.question(GENERATOR)
    books.interventions.clear()
    with pytest.raises(ReplayError, match=f"evidence of point {POINT} is not in the run's table"):
        books.question(CRITIC)


async def test_a_secret_in_a_wrong_override_is_not_repeated(ruled: Path) -> None:
    with pytest.raises(ConfigError) as error:
        await replay_call(ruled, CRITIC, Changes(overrides=["api_key=sk-very-secret"]))
    assert "secret" not in str(error.value)


async def test_a_model_needs_a_provider_that_has_models(ruled: Path) -> None:
    with pytest.raises(ConfigError, match=r"got 'big' for 'rules', which has none; add --set llm\.critic\.provider="):
        await replay_call(ruled, CRITIC, Changes(model="big"))


async def test_what_is_no_run_cannot_be_replayed(tmp_path: Path) -> None:
    with pytest.raises(NotARunError):
        await replay_call(tmp_path, CRITIC)


async def test_a_run_that_asked_nobody_has_nothing_to_replay(finished_run: Path) -> None:
    with pytest.raises(ReplayError, match="it was never asked"):
        await replay_role(finished_run, "critic")  # its calls have ids of another version
