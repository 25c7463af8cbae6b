"""The Ranker as a judge: requests by kind of question, ties, what is wrong, and what stands in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cosignal.agents.judge import JudgeSetting, judge
from cosignal.agents.llm.ledger import Place
from cosignal.agents.llm.models import JUDGE_VERSION, RoleModel
from cosignal.errors import FitError, ModelAnswerError
from cosignal.prompts import load_template
from cosignal.rl.signals.learned.judgements import (
    Judgement,
    JudgeQuestion,
    answers_of,
    append_judgements,
    read_judgements,
)
from cosignal.testing import ScriptedChatModel, role_model

SETTING = JudgeSetting("Two agents dig.", ["green", "orange"])
LABELS = [JudgeQuestion(question="label", texts=(f"step {k}",)) for k in range(3)]
HOP = JudgeQuestion(question="hop", texts=("far 9", "far 3"))


def model(*script: Any) -> RoleModel:
    made = role_model("ranker", [*script], None, [].append)
    made.template = load_template("ranker", JUDGE_VERSION)
    return made


def said(*answers: float | None) -> str:
    return json.dumps({"items": [{"id": f"e{k}", "answer": x} for k, x in enumerate(answers)]})


async def asked(by: RoleModel, questions: list[JudgeQuestion], batch: int = 10) -> list[Judgement]:
    return [x async for part in judge(by, Place(7, part="-j"), SETTING, questions, batch) for x in part]


async def test_questions_of_a_kind_share_requests_and_what_cannot_be_told_is_a_tie() -> None:
    by = model(said(1, None, 0), said(0.5))
    found = await asked(by, [*LABELS, HOP])
    assert sorted((x.texts[0], x.answer) for x in found if x.question == "label") == [
        ("step 0", 1.0), ("step 1", None), ("step 2", 0.0),
    ]  # fmt: skip
    assert [(x.texts, x.answer, x.point) for x in found if x.question == "hop"] == [(("far 9", "far 3"), 0.5, 7)]
    assert isinstance(by.chat, ScriptedChatModel)
    prompts = [messages[0].text for messages in by.chat.seen]
    assert any("is 1 where it does" in text for text in prompts)
    assert any("the share of the way that was left" in text for text in prompts)


async def test_requests_have_as_many_entries_as_the_config_says() -> None:
    found = await asked(model(said(1), said(0), said(1)), LABELS, batch=1)
    assert len(found) == 3


async def test_a_wrong_answer_may_be_repaired_once_and_else_leaves_its_questions_open() -> None:
    found = await asked(model(said(-1, 0, 0), said(1, 0, 0)), LABELS)
    assert [x.answer for x in found] == [1, 0, 0]
    with pytest.raises(ModelAnswerError, match=r"items are about \['e0'\]"):
        await asked(model(said(1), said(1)), LABELS)


async def test_a_model_that_cannot_answer_one_kind_is_asked_the_others() -> None:
    found = await asked(model(*["nothing"] * 2, said(0.5)), [*LABELS, HOP])
    assert [(x.question, x.answer) for x in found] == [("hop", 0.5)]


def test_the_file_keeps_what_was_said_also_where_a_crash_cut_it_off(tmp_path: Path) -> None:
    path = tmp_path / "judgements.jsonl"
    rows = [
        Judgement(question=asked.question, texts=asked.texts, answer=answer, by="m", point=1)
        for asked, answer in zip(LABELS, (1, None, 0), strict=True)
    ]
    append_judgements(path, rows[:2])
    with path.open("ab") as file:
        file.write(b'{"question": "lab')
    assert read_judgements(path) == rows[:2]
    append_judgements(path, rows[2:])
    assert answers_of(read_judgements(path)) == dict(zip(LABELS, (1.0, None, 0.0), strict=True))
    path.write_text("nothing\n")
    with pytest.raises(FitError, match=r"line 1 is b'nothing'"):
        read_judgements(path)
    assert read_judgements(tmp_path / "none") == []
