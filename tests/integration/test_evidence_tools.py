"""A Critic that uses its tools against a real run: every query, a probe branch, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cosignal
import pytest
from cosignal import RunConfig, RunView
from cosignal.testing import ScriptedChatModel
from langchain_core.messages import AIMessage
from short_runs import SHORT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

QUERIES: list[dict[str, Any]] = [
    {"what": "metric_curve", "points": 3},
    {"what": "episode"},
    {"what": "term_statistics"},
    {"what": "feature_statistics", "name": "dist_goal"},
]
PROBE = {"steps": 256, "kick": 0.05, "terms": [{"name": "near", "kind": "potential", "expression": "-dist_goal / 17"}]}
NOTHING = {"findings": [{"failure": "insufficient_evidence", "cites": [], "explanation": "Enough was seen."}]}
EVALUATION = 8 * 30  # steps of a branch's evaluation at most: episodes of 30 steps


def message(*calls: tuple[str, dict[str, Any]]) -> AIMessage:
    made = [{"name": name, "args": args, "id": f"{name}-{i}"} for i, (name, args) in enumerate(calls)]
    return AIMessage("", tool_calls=made)


async def test_tools_are_answered_bounded_counted_and_visible(tmp_path: Path) -> None:
    first = message(*(("query_trainer", query) for query in QUERIES))
    second = message(("launch_branches", {"steps": 10**6}), ("launch_branches", PROBE), ("query_trainer", QUERIES[0]))
    settings = {**SHORT, "run_dir": tmp_path / "runs"}
    # one intervention, at the first point behind half of the run; six calls, of which the seventh is one too many
    settings["adaptation"] = {**SHORT["adaptation"], "patience": 6_500, "evidence_calls": 6}
    critic = ScriptedChatModel(script=[first, second, json.dumps(NOTHING)])
    async with cosignal.start(RunConfig.model_validate(settings), chat_models={"critic": critic}) as run:
        result = await run.result()
    view = RunView(run.path)
    assert (result.state, critic.script) == ("done", [])
    assert result.status["provider"] == f"rules+{critic._llm_type}"  # who answered, not who the config names

    asked, launched = [(row.detail or {})["calls"] for row in view.visits() if row.node == "critic_tools"]
    assert [(call["args"], call["status"]) for call in asked] == [(query, "success") for query in QUERIES]
    assert [call["status"] for call in launched] == ["error", "success", "error"]
    assert launched[1]["args"]["steps"] == PROBE["steps"]

    read = [m for m in view.calls()[-1].messages if m["role"] == "tool"]
    assert [len(m["content"]) for m in read] == [call["chars"] for call in asked + launched]
    curve, episode, terms, feature, too_long, probe, over = (m["content"] for m in read)
    assert 0 < len(json.loads(curve)["rows"]) <= 3
    assert "interact" in episode or "forward" in episode
    assert "dist_goal" in feature
    assert json.loads(terms)["terms"] == []  # plain so far
    assert "1..50000" in too_long
    assert [row["arm"] for row in json.loads(probe)] == ["control", "probe"]
    assert "no tool call is left" in over

    branches = view.branches()
    assert [(row.arm, row.phase, row.horizon) for row in branches] == [
        ("control", "probe", 256),
        ("probe", "probe", 256),
    ]
    spent = sum(row.steps for row in branches)
    assert 2 * 256 < spent <= 2 * (256 + EVALUATION)
    counters = view.counters()
    assert result.steps_total == int(counters["steps_main"]) + int(counters["steps_evaluation"]) + spent
    assert [row.verdict for row in view.decisions()] == ["insufficient_evidence"]
