"""Whole runs in which a model judges what the run has recorded: what is asked, kept, fitted, told and tried."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import cosignal
import pytest
from cosignal import RunConfig, RunView
from cosignal.errors import ConfigError
from cosignal.graphs.judging import JUDGEMENTS
from cosignal.graphs.nodes.fit_signals import TITLES
from cosignal.rl.signals.learned.judgements import read_judgements
from cosignal.rl.signals.scorer import Scorers
from cosignal.testing import ScriptedChatModel
from langchain_core.messages import BaseMessage
from pydantic import Field
from short_runs import SHORT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

UNCLEAR = json.dumps(
    {"findings": [{"failure": "unclear_credit", "cites": ["sparse.spread"], "explanation": "Who earned it?"}]}
)
KINDS = {
    "message_hash": {"enabled": True, "questions": 30, "batch": 10},
    "message_classifier": {"enabled": True, "questions": 30, "batch": 10, "least_accuracy": 0.0},
    "message_ranking": {"enabled": True, "questions": 60, "batch": 10, "least_accuracy": 0.0},
    "progress": {"enabled": True, "questions": 200, "batch": 40, "least_explained": 0.0},
}


class Judge(ScriptedChatModel):
    """Likes steps that did something, finds states of larger text ahead, and keeps the order of proposals.

    Attributes:
        hangs: numbers of judging requests, from 0, that are never answered; None for every second one.
        asked: texts of all entries that it was asked about, by request.
    """

    hangs: list[int] | None = Field(default_factory=list)
    asked: list[list[tuple[str, ...]]] = Field(default_factory=list)

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        block = json.loads(re.findall(r"```json\n(.*?)\n```", messages[1].text, re.DOTALL)[-1])
        if "entries" in block:
            entries, number = block["entries"], len(self.asked)
            self.asked.append([tuple(v for k, v in entry.items() if k != "id") for entry in entries])
            if number % 2 if self.hangs is None else number in self.hangs:
                await asyncio.sleep(3_600)
            is_hop = "share of the way" in messages[0].text
            items = [{"id": entry["id"], "answer": self.judged(entry, is_hop)} for entry in entries]
            answer: dict[str, Any] = {"items": items}
        else:
            answer = {"kind": "proposals", "order": [item["id"] for item in block["proposals"]], "reason": "r"}
        self.script = [json.dumps(answer)]
        return await super()._agenerate(messages, *args, **kwargs)

    @staticmethod
    def judged(entry: dict[str, str], is_hop: bool) -> float | None:
        if "step" in entry:
            return float("just did" in entry["step"])
        first, second = (len(entry[key]) for key in ("first", "second"))
        if is_hop:
            return max(-1.0, min(1.0, (second - first) / 5))
        return None if first == second else float(second > first)


def config(folder: Path, steps: int = 3_840, **more: Any) -> RunConfig:
    adaptation = {**SHORT["adaptation"], "patience": 2_560, "max_share": 0.9, "candidates": 5}
    limits = {"calls": 10_000, "tokens": 100_000_000, "requests_per_minute": 100_000}
    short = {**SHORT, "trainer": {**SHORT["trainer"], "steps": steps}, "llm": {"limits": limits}, **more}
    return RunConfig.model_validate({**short, "run_dir": folder, "adaptation": adaptation, "learned_signals": KINDS})


def chats(judge: Judge) -> dict[Any, Any]:
    return {"critic": ScriptedChatModel(script=[UNCLEAR] * 40), "ranker": judge}


def questions(view: RunView) -> Counter[tuple[str, tuple[str, ...]]]:
    return Counter((x.question, x.texts) for x in read_judgements(view.path / JUDGEMENTS))


async def test_what_a_model_judged_becomes_terms_that_the_gate_judges(tmp_path: Path) -> None:
    judge = Judge(script=[])
    async with cosignal.start(config(tmp_path), chat_models=chats(judge)) as run:
        await run.result()
    view = RunView(run.path)
    point = view.fits()[0].point
    fits = {row.kind: row for row in view.fits() if row.point == point}
    assert {*fits} == {*KINDS}
    assert {row.steps for row in fits.values()} == {0}  # nothing is played for it
    asked = questions(view)
    assert set(asked.values()) == {1}
    kinds = Counter(kind for kind, _ in asked)
    # two kinds share their labels
    assert fits["message_hash"].detail.judged == fits["message_classifier"].detail.judged == kinds["label"] > 0
    assert fits["message_ranking"].detail.judged == kinds["compare"]
    assert fits["progress"].detail.judged == kinds["hop"] > 100
    assert fits["message_ranking"].detail.unread is not None
    told = {row.proposal.title: row for row in view.proposals() if row.point == point}
    for kind, row in fits.items():
        assert (row.detail.problem is None) == (TITLES[row.kind] in told), (kind, row.detail.problem)
    assert len(told) >= 3
    [helpful] = fits["message_hash"].detail.terms
    assert helpful.kind == "message"
    assert all("just did" in text for text in helpful.helpful)
    for row in fits.values():
        for name in row.detail.scorers.values():
            Scorers(view.path / "scorers").get(name)
    page = (view.path / "report.html").read_text(encoding="utf-8")
    assert "judgements" in page
    names = [call.id for call in view.calls() if call.prompt_id == "ranker/judge-v1"]
    assert 0 < len(names) == len({*names}) <= len(judge.asked)


async def test_answers_are_neither_lost_nor_asked_for_twice_by_a_run_that_was_stopped(tmp_path: Path) -> None:
    first = Judge(script=[], hangs=[4, 5, 6, 7, 8, 9])
    async with cosignal.start(config(tmp_path), chat_models=chats(first)) as run:
        while len(first.asked) < 6:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        await run.stop()
    before = questions(RunView(run.path))
    assert before
    second = Judge(script=[])
    async with cosignal.start(config(tmp_path), resume=True, chat_models=chats(second)) as again:
        await again.result()
    view = RunView(again.path)
    after = questions(view)
    assert set(after.values()) == {1}
    assert before.keys() < after.keys()
    answered = {texts for _, texts in before}
    assert not answered & {texts for request in second.asked for texts in request}
    assert view.fits()
    # nor does a stop make a point ask for more than the config says
    rows = read_judgements(view.path / JUDGEMENTS)
    asked = Counter(x.question for x in rows if x.point == rows[0].point)
    assert asked["label"] <= 30
    assert asked["compare"] <= 60


async def test_the_trainer_goes_on_while_half_of_the_judges_requests_hang(tmp_path: Path) -> None:
    judge = Judge(script=[], hangs=None)
    settings = config(tmp_path, 12_800, clock="overlap").model_dump(mode="json")
    settings["llm"]["ranker"] = {"deadline_s": 1.0, "retries": 0}
    async with cosignal.start(RunConfig.model_validate(settings), chat_models=chats(judge)) as run:
        result = await run.result()
    view = RunView(run.path)
    assert result.status["steps_main"] == 12_800
    assert set(questions(view).values()) <= {1}
    # what hung is open, and nobody waited for it longer than a deadline
    assert len(judge.asked) >= 2
    unanswered = [call for call in view.calls() if call.prompt_id == "ranker/judge-v1" and call.parsed is None]
    assert unanswered


async def test_who_cannot_judge_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="llm \\(ranker\\)"):
        async with cosignal.start(config(tmp_path)):
            pass


class Critic(ScriptedChatModel):
    """Reads a failed episode where it is asked to, and else finds that credit is unclear."""

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        reads = "You read one episode" in messages[0].text
        reading = {"step": 1, "agent": "green", "cause": "green turns on the spot.", "failure": "lazy_agent"}
        self.script = [json.dumps(reading) if reads else UNCLEAR]
        return await super()._agenerate(messages, *args, **kwargs)


async def test_a_failed_episode_is_read_once_before_the_diagnosis_and_told_to_all(tmp_path: Path) -> None:
    settings = config(tmp_path).model_dump(mode="json")
    settings["adaptation"]["read_failures"] = True
    settings["learned_signals"] = {}
    critic = Critic(script=[])
    async with cosignal.start(RunConfig.model_validate(settings), chat_models={"critic": critic}) as run:
        await run.result()
    view = RunView(run.path)
    read = [call for call in view.calls() if call.prompt_id == "critic/episode-v1"]
    assert len(read) == len({call.point for call in read}) > 0
    shown = [messages[1].text for messages in critic.seen if "You read one episode" not in messages[0].text]
    assert all("green turns on the spot." in text for text in shown)
    assert "every_line" not in shown[0]
    record = view.interventions()[0]
    assert record.evidence["readings"][0]["agent"] == "green"
    page = (view.path / "report.html").read_text(encoding="utf-8")
    assert "A failed episode, read step by step: green turns on the spot. At step 1, by green." in page
