"""Tool calls that a graph could not keep or answer: repaired or refused, and the run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cosignal.agents.llm.parse import normalize_tool_calls
from cosignal.errors import InvalidAnswer
from cosignal.testing import FakeBranchPool, FakeTrainer, LoopSession, MisbehavingServer
from cosignal.testing.answers import DIAGNOSIS
from cosignal.testing.server import Behaviour, completion, says, sends
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from loop_runs import goal_helps, scripts, tables

CURVE = {"what": "metric_curve"}


def calls(*args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "query_trainer", "args": a, "id": f"i{n}"} for n, a in enumerate(args)])


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


UNFIT = {
    "an integer beyond 64 bits": calls(CURVE | {"points": 2**63}),
    "far beyond 64 bits": calls(CURVE | {"points": -(10**400)}),
    "300 deep": calls(CURVE | {"name": nested(300)}),
    "NaN": calls(CURVE | {"points": float("nan")}),
    "Infinity": calls(CURVE | {"points": float("-inf")}),
    "no plain value": calls(CURVE | {"points": {1, 2}}),
    "a key that is no text": calls({"what": {1: 2}}),
    "1500 calls": calls(*[CURVE] * 1500),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_kept_is_an_invalid_answer(name: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        normalize_tool_calls(UNFIT[name], 0)
    assert len(str(caught.value)) < 300


def test_bounds_by_hand() -> None:
    normalize_tool_calls(calls(*[CURVE] * 32), 0)
    normalize_tool_calls(calls({"a": nested(15)}), 0)  # and the arguments themselves
    with pytest.raises(InvalidAnswer, match="16 deep"):
        normalize_tool_calls(calls({"a": nested(16)}), 0)
    normalize_tool_calls(calls({"a": 2**63 - 1, "b": 1 - 2**63, "c": None, "d": True, "e": "x", "f": 1e308}), 0)


@pytest.mark.parametrize("ids", [[None, None], ["x", "x"], ["x", None], ["", "y"]])
def test_every_call_gets_an_id_of_its_own(ids: list[str | None]) -> None:
    made: list[Any] = [{"name": "query_trainer", "args": CURVE, "id": key} for key in ids]
    message = normalize_tool_calls(AIMessage("so", tool_calls=made, response_metadata={"x": 1}), 3)
    assert [call["id"] for call in message.tool_calls] == ["call_3_0", "call_3_1"]
    assert (message.text, message.response_metadata, message.id) == ("so", {}, None)


def test_a_message_that_fits_keeps_what_its_provider_wants_back_but_not_its_id() -> None:
    message = calls(CURVE).model_copy(update={"additional_kwargs": {"signature": "abc"}, "id": "1"})
    kept = normalize_tool_calls(message, 0)
    assert kept.additional_kwargs == {"signature": "abc"}
    assert kept.tool_calls == message.tool_calls
    assert kept.id is None


def test_what_else_a_server_puts_into_a_message_cannot_break_the_checkpoint() -> None:
    message = calls(CURVE).model_copy(update={"response_metadata": {"token_usage": {"total": 10**30}}})
    JsonPlusSerializer().dumps_typed(normalize_tool_calls(message, 0))
    assert normalize_tool_calls(message, 0).response_metadata == {}


# ---------------------------------------------------------------- in a run


async def _outcomes(run_dir: Path, *said: Any) -> list[str]:
    session = LoopSession(
        run_dir, FakeTrainer(run_dir), FakeBranchPool(run_dir, goal_helps), scripts() | {"critic": [*said]}
    )
    await session.run()
    return await _of_the_critic(run_dir)


async def _of_the_critic(run_dir: Path) -> list[str]:
    kept = await tables(run_dir)
    assert len(kept["proposals"]) > 0  # the run went on
    return [row["outcome"] for row in kept["calls"] if row["role"] == "critic"]


@pytest.mark.parametrize("name", UNFIT)
async def test_a_run_goes_on_after_calls_that_cannot_be_kept(name: str, tmp_path: Path) -> None:
    assert await _outcomes(tmp_path, UNFIT[name], DIAGNOSIS) == ["invalid", "repaired"]


@pytest.mark.parametrize("ids", [[None], ["same", "same"]])
async def test_a_run_answers_calls_without_ids(ids: list[str | None], tmp_path: Path) -> None:
    made: list[Any] = [{"name": "query_trainer", "args": CURVE, "id": key} for key in ids]
    assert await _outcomes(tmp_path, AIMessage("", tool_calls=made), DIAGNOSIS) == ["tool_call", "ok"]


def _sent(arguments: str, **more: Any) -> Behaviour:
    call = {"type": "function", "function": {"name": "query_trainer", "arguments": arguments}, **more}
    return sends(completion({"content": None, "tool_calls": [call]}))


@pytest.mark.parametrize(
    ("behaviour", "outcomes"),
    [
        (_sent(json.dumps(CURVE)), ["tool_call", "ok"]),  # no id at all
        (_sent('{"what": "metric_curve", "points": 99999999999999999999}', id="1"), ["invalid", "repaired"]),
        (_sent('{"what": "metric_curve", "points": NaN}', id="1"), ["invalid", "repaired"]),
    ],
)
async def test_a_run_over_http(behaviour: Behaviour, outcomes: list[str], tmp_path: Path) -> None:
    session = LoopSession(tmp_path, FakeTrainer(tmp_path), FakeBranchPool(tmp_path, lambda job: 0.0))
    with MisbehavingServer(behaviour, says(DIAGNOSIS)) as server:
        critic = {"provider": "openai", "model": "tiny", "base_url": server.url}
        llm = {"critic": critic, "limits": {"requests_per_minute": 100_000}}
        session.config = type(session.config).model_validate(session.config.model_dump() | {"llm": llm})
        await session.run()
    assert await _of_the_critic(tmp_path) == outcomes
