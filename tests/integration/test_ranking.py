"""A whole run in which credit is unclear: pairs are played, ranked, fitted to, and what comes of it is tried."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cosignal
import pytest
from cosignal import RunConfig, RunView
from cosignal.errors import ConfigError
from cosignal.rl.preferences.votes import read_answers
from cosignal.rl.signals.scorer import Scorers
from cosignal.runs.events import Event
from cosignal.runs.report import cost
from cosignal.testing import ScriptedChatModel
from langchain_core.messages import BaseMessage
from short_runs import SHORT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

UNCLEAR = json.dumps(
    {"findings": [{"failure": "unclear_credit", "cites": ["sparse.spread"], "explanation": "Who earned it?"}]}
)


def config(folder: Path, **preferences: Any) -> RunConfig:
    adaptation = {**SHORT["adaptation"], "patience": 2_560, "max_share": 0.9}
    settings = {"pairs": 60, "rounds": 1, "scorer": {"max_epochs": 5}, **preferences}
    short = {**SHORT, "trainer": {**SHORT["trainer"], "steps": 3_840}}  # one intervention: each starts processes
    return RunConfig.model_validate({**short, "run_dir": folder, "adaptation": adaptation, "preferences": settings})


async def played(config: RunConfig, **chats: Any) -> tuple[RunView, list[Event]]:
    critic = ScriptedChatModel(script=[UNCLEAR] * 40)
    async with cosignal.start(config, chat_models={"critic": critic, **chats}) as run:
        events = [event async for event in run.events()]
        await run.result()
    return RunView(run.path), events


async def test_an_oracles_votes_become_a_learned_term_that_the_gate_judges(tmp_path: Path) -> None:
    settings = config(tmp_path, ranker="task_heuristic", accuracy=0.8, queries=2, rounds=3, rehearsal=1_000_000)
    view, events = await played(settings)
    first = view.rankings()[0]
    assert "oracle" in first.ranker
    assert first.detail.rounds == 1  # the branches come first where the budget does not pay for rehearsals
    assert {row.phase for row in view.branches()} == {"screen", "full"}
    group = first.detail.groups["0"]
    assert group.pairs == 60
    assert first.steps > 0
    assert Scorers(view.path / "scorers").get(group.scorer).obs_size == 20
    offered = next(row for row in view.proposals() if row.point == first.point)
    assert offered.proposal.terms[-1].kind == "learned"
    assert offered.problems == []
    assert offered.id in {row.arm for row in view.branches()}
    assert {event.kind for event in events} >= {"transitions_ranked", "proposal_made"}
    page = (view.path / "report.html").read_text(encoding="utf-8")
    assert "an oracle, no model" in page
    assert group.scorer in page
    spent = cost(view)
    assert sum(part.steps for part in spent.parts) == spent.total
    status = view.status()
    without = view.steps_total() - sum(row.steps for row in view.rankings())
    assert status["steps_total"] == view.steps_total() > without  # what was played to be ranked is counted
    answers = read_answers(view.path / "preferences" / f"update_{first.point:09d}" / "round_0" / "answers.jsonl")
    asked = {(answer.pair, answer.query) for answer in answers}  # a move may be drawn twice
    assert asked == {(answer.pair, query) for answer in answers for query in (0, 1)}
    assert len(answers) == 120


class Ranking(ScriptedChatModel):
    """Prefers every state after a move, and keeps the order of proposals."""

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        block = json.loads(re.findall(r"```json\n(.*?)\n```", messages[1].text, re.DOTALL)[-1])
        if "moves" in block:
            answer = {"items": [{"id": move["id"], "reason": "r", "prefer": 1} for move in block["moves"]]}
        else:
            answer = {"kind": "proposals", "order": [item["id"] for item in block["proposals"]], "reason": "r"}
        self.script = [json.dumps(answer)]
        return await super()._agenerate(messages, *args, **kwargs)


async def test_a_model_ranks_moves_of_the_run_and_of_its_rehearsals(tmp_path: Path) -> None:
    ranker = Ranking(script=[])
    limits = {"calls": 10_000, "tokens": 100_000_000, "requests_per_minute": 100_000}
    settings = config(tmp_path, ranker="model", batch=30, rounds=3, rehearsal=256).model_dump(mode="json")
    view, events = await played(RunConfig.model_validate(settings | {"llm": {"limits": limits}}), ranker=ranker)
    first = view.rankings()[0]
    scorer = first.detail.groups["0"]
    assert (first.detail.rounds, scorer.pairs - scorer.refuted) == (3, 180)
    assert 0 < scorer.refuted <= 2 * 200  # by where the run's episodes ended, at the second and the third fit
    assert scorer.one_to_many is not None
    assert next(event for event in events if event.kind == "transitions_ranked").rounds == 3
    assert len(first.detail.key_steps) >= 3  # of random play without a time limit
    moves = [call.id for call in view.calls() if call.prompt_id == "ranker/transitions-v1"]
    here = [name for name in moves if name.startswith(f"p{first.point}-")]
    assert len(set(here)) == len(here) == 3 * 2  # rounds, batches
    rehearsals = [row for row in view.branches() if row.phase == "rehearsal" and row.point == first.point]
    assert [(row.horizon, row.seed) for row in rehearsals] == [(256, 1), (256, 2)]
    assert rehearsals[1].job.fork == rehearsals[0].job.end_state  # the second goes on from the first
    scorers = [row.job.signal.terms[-1].scorer for row in rehearsals]
    assert len({*scorers, scorer.scorer}) == 3
    folders = [view.path / "preferences" / f"update_{first.point:09d}" / f"round_{k}" for k in range(3)]
    policies = [json.loads((folder / "played" / "collect.json").read_text())["snapshot"] for folder in folders]
    assert policies[1:] == [row.job.end_state for row in rehearsals]
    spent = cost(view)
    assert sum(part.steps for part in spent.parts) == spent.total


async def test_who_cannot_rank_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="llm \\(ranker\\)"):
        async with cosignal.start(config(tmp_path, ranker="model")):
            pass
    plain = config(tmp_path, ranker="task_heuristic").model_dump(mode="json")
    plain["task"] = {"env": "small_tasks:Walk"}
    with pytest.raises(ConfigError, match="needs a task that carries a heuristic"):
        async with cosignal.start(RunConfig.model_validate(plain)):
            pass
