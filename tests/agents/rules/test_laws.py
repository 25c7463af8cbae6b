"""Laws of the embedded rules: renaming everything renames the answers, and whatever the evidence, they are valid."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from asked_rules import critic, expressions, generator, query_trainer, tried
from cosignal.agents.critic import diagnose
from cosignal.agents.generator import propose
from cosignal.agents.llm.ledger import Place
from cosignal.agents.prompt_payload import TriedProposal, build_payload
from cosignal.agents.ranker import rank
from cosignal.agents.schemas import ProposalSet
from cosignal.rl.evidence.schema import Evidence
from cosignal.rl.signals.expression import parse_expression
from cosignal.testing import early_evidence, feature_evidence, role_model, stuck_evidence
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

Json = dict[str, Any]

# ---------------------------------------------------------------- the renaming law

_SHARE = st.sampled_from([0.0, 0.01, 0.04, 0.05, 0.2, 0.5, 0.9, 1.0])
_KIND = st.sampled_from(["distance", "distance", "distance", "count", "flag", "position", "quantity"])
_NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", max_size=36).map(lambda tail: f"zq{tail}")


@st.composite
def _feature(draw: st.DrawFn, name: str, group: str) -> Json:
    low = draw(st.sampled_from([0.0, 0.0, 0.0, -3.0, 2.0]))
    high = low + draw(st.sampled_from([1.0, 1.0, 10.0, 17.0, 0.5, 0.0]))
    maybe = st.none() | st.sampled_from([low, high, (low + high) / 2])
    return feature_evidence(
        name, draw(_KIND), low, high,
        mean=draw(st.sampled_from([low, high])), start=draw(maybe), end_success=draw(maybe),
        end_failure=draw(maybe), reached_low_share=draw(st.none() | _SHARE),
        reached_high_share=draw(st.none() | _SHARE),
        change_before_reward=draw(st.none() | st.sampled_from([-2.0, -0.5, 0.0, 0.5, 2.0])),
        done=draw(st.none() | st.just(low)), before_done=draw(maybe),
    ) | {"group": group}  # fmt: skip


@st.composite
def _run(draw: st.DrawFn) -> tuple[Json, list[str]]:
    """Evidence of a made-up task, and every name in it."""
    names = draw(st.lists(_NAME, min_size=21, max_size=21, unique=True))
    task, group_names, agents, events = names[0], names[1:3], names[3:7], names[7:9]
    groups = group_names[: draw(st.integers(1, 2))]
    per_group = dict(zip(groups, (draw(st.integers(0, 8)), draw(st.integers(0, 4))), strict=False))
    raw = draw(st.sampled_from([stuck_evidence(), early_evidence()]))
    raw["task"] = {"name": task, "description": f"About {names[9]}."}
    raw["stage"] = draw(st.sampled_from(["exploring", "emerging", "improving", "plateaued", "regressing", "converged"]))
    raw["sparse"] |= {
        "trend": draw(st.sampled_from([None, 0.0, -1.0, 1.0])),
        "spread": draw(st.sampled_from([0.0, 0.3, 2.0])),
        "success_rate": draw(st.sampled_from([None, 0.0, 0.3, 1.0])),
    }
    # the second group may share features with the first
    first = draw(st.sampled_from([9, 9, 17]))
    raw["features"] = [
        draw(_feature(names[(9 if group == groups[0] else first) + i], group))
        for group in groups
        for i in range(per_group[group])
    ]
    raw["behaviour"] = [
        raw["behaviour"][0]
        | {"group": group, "no_effect_share": draw(_SHARE), "action_shares": [(names[9], 1.0)]}
        | {"events_per_agent": [(agent, 1.0) for agent in agents[2 * i : 2 * i + draw(st.integers(1, 2))]]}
        for i, group in enumerate(groups)
    ]
    raw["events"] = [
        raw["events"][0] | {"name": event, "group": draw(st.sampled_from(groups)), "repeatable": draw(st.booleans()),
                            "per_episode": draw(st.sampled_from([0.0, 1.0, 2.0])), "episodes_share": draw(_SHARE),
                            "largest_agent_share": draw(st.none() | _SHARE)}
        for event in events[: draw(st.integers(0, 2))]
    ]  # fmt: skip
    if raw["features"] and draw(st.booleans()):
        first = raw["features"][0]["name"]
        raw["signal"] = {
            "terms": [{"name": "held", "kind": "potential", "expression": f"-{first} / 3", "agents": "all"}]
        }
        raw["terms"] = [
            {"name": "held", "kind": "potential", "per_episode": 1.0, "mean_abs": 0.1, "share": draw(_SHARE)}
        ]
    return raw, names


async def _all_answers(raw: Json) -> list[str]:
    """Everything that the rules say in an intervention of two rounds."""
    said: list[str] = []
    payload = build_payload(Evidence.model_validate(raw))
    call = await diagnose(role_model("critic"), Place(1), payload, tools=[query_trainer], calls_left=1)
    assert isinstance(call, AIMessage)
    said.append(json.dumps(call.tool_calls))
    diagnosis = await critic(raw)
    said.append(diagnosis.model_dump_json())
    history: list[TriedProposal] = []
    for round_ in range(2):
        payload = build_payload(Evidence.model_validate(raw), history, diagnosis)
        answer = ProposalSet(proposals=(await propose(role_model("generator"), Place(1), payload, 4)).proposals)
        listed = {f"p1-r{round_}-{i}": proposal for i, proposal in enumerate(answer.proposals)}
        ranking = await rank(role_model("ranker"), Place(1), payload, listed)
        said += [answer.model_dump_json(), ranking.model_dump_json()]
        history += [tried(proposal, gain=0.1 * i) for i, proposal in enumerate(listed.values())]
    return said


@given(run=_run(), new=st.lists(_NAME, min_size=21, max_size=21, unique=True))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_renaming_everything_renames_the_answers_and_changes_nothing_else(
    run: tuple[Json, list[str]], new: list[str]
) -> None:
    raw, names = run
    bijection = dict(zip(names, new, strict=True))

    def renamed(text: str) -> str:
        return re.sub(r"zq[a-z0-9_]*", lambda match: bijection[match[0]], text)

    said = asyncio.run(_all_answers(raw))
    said_after = asyncio.run(_all_answers(json.loads(renamed(json.dumps(raw)))))
    assert said_after == [renamed(text) for text in said]


@pytest.mark.parametrize("raw", [stuck_evidence(), early_evidence(), stuck_evidence() | {"stage": "converged"}])
async def test_turning_the_alphabetical_order_round_changes_nothing_but_names(raw: Json) -> None:
    for tie in ("reached_low_share", "change_before_reward"):
        for item in raw["features"][2:5]:
            item[tie] = 0.0  # equal numbers, so that only the position can decide
    names = sorted({item["name"] for part in ("features", "events") for item in raw[part]} | {"green", "orange"})
    bijection = {name: f"zq{len(names) - i:03d}" + "x" * (i % 30) for i, name in enumerate(names)}

    def renamed(text: str) -> str:
        return re.sub("|".join(rf"\b{name}\b" for name in names), lambda match: bijection[match[0]], text)

    said_after = await _all_answers(json.loads(renamed(json.dumps(raw))))
    assert said_after == [renamed(text) for text in await _all_answers(raw)]


async def test_renaming_a_task_that_is_larger_than_a_prompt_changes_nothing_but_names() -> None:
    """Short names against the longest ones: what is left out must not depend on how long a name is."""
    raw = early_evidence()
    raw["features"] += [
        feature_evidence(f"zq{i}", "distance", 0, 9, mean=5 + i / 100, reached_low_share=0.0) for i in range(300)
    ]
    raw["features"][200] |= {"change_before_reward": -3.0}
    bijection = {f"zq{i}": f"zq{299 - i:03d}" + "x" * 35 for i in range(300)}

    def renamed(text: str) -> str:
        return re.sub(r"\bzq\d+\b", lambda match: bijection[match[0]], text)

    said = await _all_answers(raw)
    assert "zq190" in said[2]  # it precedes rewards; the furthest of those that are left is proposed as well
    assert await _all_answers(json.loads(renamed(json.dumps(raw)))) == [renamed(text) for text in said]


@given(run=_run())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_whatever_the_evidence_answers_are_valid_and_different(run: tuple[Json, list[str]]) -> None:
    raw, _ = run
    found = asyncio.run(generator(raw, k=8))
    assert 1 <= len(found) <= 8
    for proposal in found:
        for expression in expressions(proposal):
            parse_expression(expression)
    contents = [(proposal.beta, tuple((term.kind, str(term)) for term in proposal.terms)) for proposal in found]
    assert len(set(contents)) == len(contents)
