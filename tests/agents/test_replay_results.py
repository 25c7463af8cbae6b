"""What is told of one side of a replay, by hand, and how two answers differ."""

from __future__ import annotations

from typing import Any

import pytest
from cosignal.agents.llm.ledger import Call
from cosignal.agents.replay_results import STORED_REPLAY, Rebuilt, Replay, RoleReplay, Side, difference

ANSWER = {"findings": [{"failure": "plateau"}], "advice": ""}


def row(turn: int, attempt: int, outcome: str, **more: Any) -> Call:
    told: dict[str, Any] = {
        "id": f"p16-r0-critic-t{turn}-a{attempt}", "role": "critic", "point": 16, "round": 0, "attempt": attempt,
        "prompt_id": "critic/v1", "prompt_hash": "ab" * 32, "messages": [], "provider": "openai", "model": "m",
        "raw": "", "parsed": None, "outcome": outcome, "error": None, "input_tokens": None, "output_tokens": None,
        "latency_s": 0.5, "started": 1.0,
    }  # fmt: skip
    return Call.model_validate(told | more)


def test_a_question_with_a_tool_call_a_failure_and_a_repair() -> None:
    side = Side.of(
        [
            row(0, 0, "tool_call", input_tokens=100, output_tokens=10, charged_tokens=110, cost_usd=0.25),
            row(1, 0, "error", error="503"),
            row(1, 1, "invalid", input_tokens=120, output_tokens=20, charged_tokens=140, cost_usd=0.5),
            row(1, 2, "repaired", input_tokens=150, output_tokens=30, charged_tokens=180, cost_usd=1.0, parsed=ANSWER),
        ]
    )
    assert (side.outcome, side.valid, side.answer) == ("repaired", True, ANSWER)
    assert (side.attempts, side.repairs, side.tool_calls) == (4, 1, 1)
    assert (side.input_tokens, side.output_tokens, side.cost_usd, side.latency_s) == (370, 60, 1.75, 2.0)


@pytest.mark.parametrize(
    ("rows", "repairs"),
    [
        ([row(0, 0, "ok")], 0),
        ([row(0, 0, "invalid"), row(0, 1, "invalid")], 1),
        ([row(0, 0, "invalid"), row(0, 1, "invalid"), row(0, 2, "ok", fallback=1)], 1),  # another model, its own turn
        ([row(0, 0, "error"), row(0, 1, "ok")], 0),  # a retry is no repair
    ],
)
def test_a_repair_is_a_turn_and_no_retry(rows: list[Call], repairs: int) -> None:
    assert Side.of(rows).repairs == repairs


def test_a_cost_is_unknown_where_a_part_of_it_is() -> None:
    known, unknown = row(0, 0, "invalid", cost_usd=0.5, charged_tokens=9), row(0, 1, "ok", charged_tokens=9)
    assert Side.of([known]).cost_usd == 0.5
    assert Side.of([known, unknown]).cost_usd is None
    assert Side.of([row(0, 0, "error"), known]).cost_usd == 0.5  # what was never charged costs nothing
    assert Side.of([row(0, 0, "ok", cost_usd=0.0)]).cost_usd == 0.0  # the rules


def test_answers_differ_line_by_line_and_what_is_no_json_as_it_is() -> None:
    good = Side.of([row(0, 0, "ok", parsed=ANSWER)])
    other = Side.of([row(0, 0, "ok", parsed=ANSWER | {"advice": "wait"})])
    assert difference(good, good) == []
    assert difference(good, other)[-3:] == ['-  "advice": ""', '+  "advice": "wait"', " }"]
    assert difference(other, Side.of([row(0, 0, "invalid", raw="so be\nit")]))[-2:] == ["+so be", "+it"]
    assert '+  "wrong": 1' in difference(good, Side.of([row(0, 0, "invalid", raw='{"wrong": 1}')]))
    assert difference(good, Side.of([row(0, 0, "error")])) == []  # nothing was said


def test_two_wrong_answers_are_not_the_same_answer() -> None:
    wrong = row(0, 0, "invalid", raw="hm")
    replay = Replay.of(wrong, None, Rebuilt(same=True), Side.of([wrong]), Side.of([wrong]))
    assert (replay.difference, replay.same_answer, replay.answered) == ([], False, True)


def test_a_kept_replay_comes_back_as_what_it_was() -> None:
    good = row(0, 0, "ok", parsed=ANSWER)
    one = Replay.of(good, "mine.md", Rebuilt(same=False, note="why"), Side.of([good]), Side.of([good]))
    whole = RoleReplay(role="critic", replays=[one], left_out={"p": "why"})
    assert STORED_REPLAY.validate_json(one.model_dump_json()) == one
    assert STORED_REPLAY.validate_json(whole.model_dump_json()) == whole
