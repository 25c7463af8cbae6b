"""The embedded rules: what they answer on known evidence, their bounds, and the renaming law."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from pathlib import Path
from typing import Any

import cosignal.agents
import pytest
from agent_roles import early, evidence, feature, role_model, stuck
from cosignal.agents import rules_critic, rules_facts
from cosignal.agents.context import Tried, build_context
from cosignal.agents.critic import diagnose
from cosignal.agents.generator import propose
from cosignal.agents.ledger import Call, Place
from cosignal.agents.ranker import rank
from cosignal.agents.rules import NAME, RulesChatModel
from cosignal.agents.schemas import Diagnosis, Failure, Proposal, ProposalSet
from cosignal.errors import InvalidAnswer
from cosignal.rl.ipc.messages import Evidence
from cosignal.rl.signals.expression import parse_expression
from cosignal.rl.signals.signal import Exploration, PotentialTerm
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

Json = dict[str, Any]


@tool
def query_trainer(what: str, name: str | None = None, points: int = 20) -> str:
    """Ask the trainer for more evidence."""
    return "{}"


async def critic(raw: Json, history: tuple[Tried, ...] = ()) -> Diagnosis:
    answered = await diagnose(role_model("critic"), Place(1), build_context(evidence(raw), history))
    assert isinstance(answered, Diagnosis)
    return answered


async def generator(raw: Json, history: tuple[Tried, ...] = (), k: int = 4) -> list[Proposal]:
    diagnosis = await critic(raw, history)
    context = build_context(evidence(raw), history, diagnosis)
    return (await propose(role_model("generator"), Place(1), context, k)).proposals


def failures(diagnosis: Diagnosis) -> list[Failure]:
    return [finding.failure for finding in diagnosis.findings]


def expressions(proposal: Proposal) -> list[str]:
    return [term.expression for term in proposal.terms if isinstance(term, PotentialTerm)]


def tried(proposal: Proposal, verdict: Any = "reject", gain: float | None = None) -> Tried:
    return Tried(proposal_id="p1-r0-0", point=1, round=0, verdict=verdict, proposal=proposal, gain=gain)


# ---------------------------------------------------------------- known evidence


async def test_a_stuck_run_is_a_collapse_with_an_unreached_goal() -> None:
    diagnosis = await critic(stuck())
    assert failures(diagnosis) == [Failure.EXPLORATION_COLLAPSED, Failure.SUBGOAL_NEVER_REACHED]
    assert "behaviour.agents.no_effect_share" in diagnosis.findings[0].cites
    assert diagnosis.findings[1].cites[0] == "features.dist_goal.reached_low_share"


async def test_a_stuck_run_gets_staircases_to_the_unreached_goal_and_a_kick_for_every_arm() -> None:
    found = await generator(stuck())
    assert len(found) == 4
    assert all(proposal.exploration == Exploration(kick=0.05) for proposal in found)
    assert expressions(found[0]) == [
        "switches_triggered / 2",
        "-dist_nearest_open_switch / 10",
        "door_open * (1 - dist_goal / 17)",
    ]
    assert [term.weight for term in found[0].terms] == [1.0, 0.5, 1.0]
    assert expressions(found[1]) == ["door_open * (1 - dist_goal / 17)"]
    assert all("dist_goal" in " ".join(expressions(proposal)) for proposal in found[:3])
    assert "door_open * (1 - dist_door / 9)" in expressions(found[3])
    assert not any("dist_mate" in expression for proposal in found for expression in expressions(proposal))


async def test_an_early_run_is_not_kicked() -> None:
    assert failures(await critic(early())) == [Failure.SUBGOAL_NEVER_REACHED]
    found = await generator(early())
    assert all(proposal.exploration == Exploration() for proposal in found)
    assert "door_open * (1 - dist_goal / 17)" in expressions(found[0])


async def test_the_staircase_rises_along_an_episode_of_the_stuck_task() -> None:
    """Far from a switch, at it, one done, both done, at the goal: hand-made states of one agent."""
    terms = (await generator(stuck()))[0].terms
    states = [(0, 8, 0, 14), (0, 1, 0, 12), (1, 9, 0, 12), (1, 1, 0, 12), (2, 0, 1, 12), (2, 0, 1, 1)]
    names = ("switches_triggered", "dist_nearest_open_switch", "door_open", "dist_goal")
    values = []
    for state in states:
        own = dict(zip(names, state, strict=True))
        parsed = [(term.weight, parse_expression(term.expression)) for term in terms if isinstance(term, PotentialTerm)]
        values.append(sum(w * float(e.evaluate(lambda name, own=own: own[name], lambda f, name: 0)) for w, e in parsed))
    assert values == sorted(values)
    assert values[2] == pytest.approx(0.5 - 0.45)  # one done, the other as far as 9 of 10
    assert values[-1] == pytest.approx(1 + 16 / 17)


async def test_few_episodes_are_insufficient_evidence() -> None:
    raw = stuck()
    raw["sparse"]["return_now"] = None
    assert failures(await critic(raw)) == [Failure.INSUFFICIENT_EVIDENCE]


async def test_a_healthy_run_has_no_failure() -> None:
    raw = early() | {"stage": "improving"}
    raw["sparse"] |= {"success_rate": 0.5, "trend": 1.5, "return_now": 2.2}
    assert failures(await critic(raw)) == [Failure.INSUFFICIENT_EVIDENCE]


async def test_no_events_are_no_exploration() -> None:
    raw = early()
    for event in raw["events"]:
        event["per_episode"] = 0.01
    assert failures(await critic(raw))[0] is Failure.NOT_EXPLORING


async def test_one_agent_that_does_everything_is_named_and_answered_by_the_furthest_agent() -> None:
    raw = early()
    raw["events"][0] |= {"per_episode": 2.0, "largest_agent_share": 0.97}
    assert Failure.LAZY_AGENT in failures(await critic(raw))
    found = await generator(raw)
    assert any("max_mates(dist_nearest_open_switch)" in expression for expression in expressions(found[0]))


def with_terms(stage: str) -> Json:
    raw = stuck() | {"stage": stage}
    terms = [
        {"name": "a", "kind": "potential", "expression": "-dist_goal / 17"},
        {"name": "b", "kind": "potential", "expression": "-dist_mate / 12"},
    ]
    raw["signal"] = {"version": 3, "beta": 0.5, "scale": 2.0, "terms": terms}
    share = {"kind": "potential", "mean_abs": 0.1}
    raw["terms"] = [
        {"name": "a", "per_episode": 0.5, "share": 0.5} | share,
        {"name": "b", "per_episode": 0.5, "share": 0.45} | share,
    ]
    raw["behaviour"][0]["no_effect_share"] = 0.2
    raw["behaviour"][0]["entropy"] = 1.6
    return raw


async def test_a_regression_asks_for_less_first() -> None:
    raw = with_terms("regressing")
    raw["sparse"] |= {"trend": -0.5, "return_now": 0.2}
    assert failures(await critic(raw))[0] is Failure.REGRESSION
    found = await generator(raw)
    assert found[0].terms == []
    assert (found[1].beta, [term.name for term in found[1].terms]) == (0.25, ["a", "b"])
    assert [term.name for term in found[2].terms] == ["b"]


async def test_convergence_proposes_to_remove_shaping() -> None:
    raw = with_terms("converged")
    raw["sparse"] |= {"success_rate": 1.0, "return_now": 3.7, "trend": 0.0}
    found = await generator(raw)
    assert found[0].terms == []
    ranking = await rank(
        role_model("ranker"), Place(1), build_context(evidence(raw), (), await critic(raw)),
        {f"p1-r0-{i}": proposal for i, proposal in enumerate(found)},
    )  # fmt: skip
    assert ranking.order[0] == "p1-r0-0"


async def test_shaping_that_is_collected_while_the_return_falls_dominates() -> None:
    raw = with_terms("exploring")
    raw["sparse"] |= {"trend": -0.5}
    assert Failure.SHAPING_DOMINATES in failures(await critic(raw))


async def test_a_term_that_draws_to_where_failures_end_is_a_wrong_order() -> None:
    raw = with_terms("improving")
    raw["sparse"] |= {"success_rate": 0.4, "trend": 1.0}
    raw["features"][4] |= {"end_success": 9.0, "end_failure": 1.0}
    assert failures(await critic(raw)) == [Failure.WRONG_SUBGOAL_ORDER]


async def test_one_group_that_idles_while_another_acts_is_waiting() -> None:
    raw = early()
    raw["behaviour"].append(raw["behaviour"][0] | {"group": "others", "no_effect_share": 0.8})
    assert Failure.WAITING_ON_EACH_OTHER in failures(await critic(raw))


# ---------------------------------------------------------------- further rounds


async def test_a_second_round_repeats_nothing_and_strengthens_what_gained() -> None:
    first = await generator(stuck())
    history = (*(tried(proposal) for proposal in first[1:]), tried(first[0], gain=0.04))
    second = await generator(stuck(), history)
    contents = [(proposal.beta, proposal.terms, proposal.exploration) for proposal in first]
    assert not any((proposal.beta, proposal.terms, proposal.exploration) in contents for proposal in second)
    assert (second[0].beta, second[0].terms) == (1.0, first[0].terms)


async def test_the_two_best_are_combined_without_doubles() -> None:
    first = await generator(stuck())
    history = (tried(first[0], gain=0.04), tried(first[2], gain=0.02), *(tried(p) for p in (first[1], first[3])))
    combined = (await generator(stuck(), history))[1]
    assert expressions(combined)[:3] == expressions(first[0])
    assert len(expressions(combined)) == len(set(expressions(combined)))
    assert len({term.name for term in combined.terms}) == len(combined.terms)


async def test_branches_that_showed_nothing_are_answered_by_a_kick() -> None:
    first = await generator(early())
    history = tuple(tried(proposal, "not_informative") for proposal in first)
    again = await generator(early(), history)
    assert all(proposal.exploration.kick == 0.05 for proposal in again)
    assert again[0].terms == first[0].terms  # with the kick it is another proposal


async def test_what_showed_no_difference_at_an_earlier_point_may_come_again_and_what_was_rejected_may_not() -> None:
    first = await generator(stuck())
    earlier = [tried(first[0], "no_difference"), tried(first[1], "reject"), tried(first[2], "not_tried")]
    history = tuple(entry.model_copy(update={"point": 0}) for entry in earlier)
    again = await generator(stuck(), history)
    assert [proposal.terms for proposal in again[:3]] == [first[0].terms, first[2].terms, first[3].terms]


async def test_many_rounds_never_repeat() -> None:
    history: list[Tried] = []
    for _ in range(3):
        found = await generator(stuck(), tuple(history))
        history += [tried(proposal) for proposal in found]
    contents = [(t.proposal.beta, tuple(t.proposal.terms)) for t in history]
    assert len(set(contents)) == len(contents) == 12


async def test_a_task_without_features_can_only_explore() -> None:
    raw = stuck() | {"features": [], "events": []}
    found = await generator(raw)
    assert [(proposal.terms, proposal.exploration.kick) for proposal in found] == [([], 0.05)]


async def test_positions_are_followed_in_the_direction_that_precedes_rewards() -> None:
    raw = early()
    raw["features"] = [
        feature("u", "position", -5, 5, mean=0.0, change_before_reward=-2.0),
        feature("v", "quantity", 0, 1),
    ]
    found = await generator(raw)
    assert expressions(found[0]) == ["-(u + 5) / 10"]


# ---------------------------------------------------------------- the chat model


async def test_the_critic_makes_a_real_tool_call_first() -> None:
    rows: list[Call] = []
    model = role_model("critic", record=rows.append)
    context = build_context(evidence(stuck()))
    message = await diagnose(model, Place(1), context, tools=[query_trainer], calls_left=3)
    assert isinstance(message, AIMessage)
    call = message.tool_calls[0]
    assert (call["name"], call["args"]) == ("query_trainer", {"what": "feature_statistics", "name": "dist_goal"})
    told = ToolMessage("{}", tool_call_id=str(call["id"]), name="query_trainer")
    answer = await diagnose(model, Place(1), context, [message, told], [query_trainer], calls_left=2)
    assert isinstance(answer, Diagnosis)
    assert [(row.outcome, row.model) for row in rows] == [("tool_call", NAME), ("ok", NAME)]
    assert len({row.id for row in rows}) == 2


async def test_without_features_the_tool_call_asks_for_the_curve() -> None:
    message = await diagnose(
        role_model("critic"),
        Place(1),
        build_context(evidence(stuck() | {"features": []})),
        tools=[query_trainer],
        calls_left=1,
    )
    assert isinstance(message, AIMessage)
    assert message.tool_calls[0]["args"]["what"] == "metric_curve"


def test_it_works_as_a_plain_chat_model_and_says_what_it_is() -> None:
    model = RulesChatModel()
    block = json.dumps(build_context(evidence(stuck())))
    reply = model.invoke([SystemMessage("role: critic"), HumanMessage(f"```json\n{block}\n```")])
    assert Diagnosis.model_validate_json(reply.text).findings[0].failure is Failure.EXPLORATION_COLLAPSED
    assert "no language model" in model._llm_type
    with pytest.raises(InvalidAnswer, match="role"):
        model.invoke([HumanMessage("hello")])


def test_rules_import_nothing_from_rl_and_name_no_part_of_a_task() -> None:
    words = {item["name"] for part in ("features", "events") for item in stuck()[part]}
    words |= {"two_switch", "green", "orange", "stay", "forward", "interact", "door", "goal"}
    for path in Path(cosignal.agents.__path__[0]).glob("rules*.py"):
        text = path.read_text()
        imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
        assert not [node.module for node in imports if node.module and re.search(r"\b(rl|context)\b", node.module)]
        assert not [word for word in words if re.search(rf"\b{word}\b", text)], path.name


# ---------------------------------------------------------------- the renaming law

_SHARE = st.sampled_from([0.0, 0.01, 0.04, 0.05, 0.2, 0.5, 0.9, 1.0])
_KIND = st.sampled_from(["distance", "distance", "distance", "count", "flag", "position", "quantity"])
_NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", max_size=36).map(lambda tail: f"zq{tail}")


@st.composite
def _feature(draw: st.DrawFn, name: str, group: str) -> Json:
    low = draw(st.sampled_from([0.0, 0.0, 0.0, -3.0, 2.0]))
    high = low + draw(st.sampled_from([1.0, 1.0, 10.0, 17.0, 0.5, 0.0]))
    maybe = st.none() | st.sampled_from([low, high, (low + high) / 2])
    return feature(
        name, draw(_KIND), low, high,
        mean=draw(st.sampled_from([low, high])), start=draw(maybe), end_success=draw(maybe),
        end_failure=draw(maybe), reached_low_share=draw(st.none() | _SHARE),
        reached_high_share=draw(st.none() | _SHARE),
        change_before_reward=draw(st.none() | st.sampled_from([-2.0, -0.5, 0.0, 0.5, 2.0])),
    ) | {"group": group}  # fmt: skip


@st.composite
def _run(draw: st.DrawFn) -> tuple[Json, list[str]]:
    """Evidence of a made-up task, and every name in it."""
    names = draw(st.lists(_NAME, min_size=21, max_size=21, unique=True))
    task, group_names, agents, events = names[0], names[1:3], names[3:7], names[7:9]
    groups = group_names[: draw(st.integers(1, 2))]
    per_group = dict(zip(groups, (draw(st.integers(0, 8)), draw(st.integers(0, 4))), strict=False))
    raw = draw(st.sampled_from([stuck(), early()]))
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
    context = build_context(Evidence.model_validate(raw))
    call = await diagnose(role_model("critic"), Place(1), context, tools=[query_trainer], calls_left=1)
    assert isinstance(call, AIMessage)
    said.append(json.dumps(call.tool_calls))
    diagnosis = await critic(raw)
    said.append(diagnosis.model_dump_json())
    history: list[Tried] = []
    for round_ in range(2):
        context = build_context(Evidence.model_validate(raw), history, diagnosis)
        answer: ProposalSet = await propose(role_model("generator"), Place(1), context, 4)
        listed = {f"p1-r{round_}-{i}": proposal for i, proposal in enumerate(answer.proposals)}
        ranking = await rank(role_model("ranker"), Place(1), context, listed)
        said += [answer.model_dump_json(), ranking.model_dump_json()]
        history += [tried(proposal, gain=0.1 * i) for i, proposal in enumerate(listed.values())]
    return said


@given(run=_run(), new=st.lists(_NAME, min_size=21, max_size=21, unique=True))
@settings(max_examples=80, deadline=None, derandomize=True)
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


@pytest.mark.parametrize("raw", [stuck(), early(), stuck() | {"stage": "converged"}])
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
    raw = early()
    raw["features"] += [
        feature(f"zq{i}", "distance", 0, 9, mean=5 + i / 100, reached_low_share=0.0) for i in range(300)
    ]
    raw["features"][200] |= {"change_before_reward": -3.0}
    bijection = {f"zq{i}": f"zq{299 - i:03d}" + "x" * 35 for i in range(300)}

    def renamed(text: str) -> str:
        return re.sub(r"\bzq\d+\b", lambda match: bijection[match[0]], text)

    said = await _all_answers(raw)
    assert "zq190" in said[2]  # it precedes rewards; the furthest of those that are left is proposed as well
    assert await _all_answers(json.loads(renamed(json.dumps(raw)))) == [renamed(text) for text in said]


async def test_what_gained_in_screening_only_is_not_called_a_result_of_the_gate() -> None:
    first = await generator(stuck())
    again = await generator(stuck(), (tried(first[0], "screened_out", gain=0.04),))
    assert again[0].reason == "It gained 0.04 in screening and was not judged."
    judged = await generator(stuck(), (tried(first[0], "no_difference", gain=0.04),))
    assert judged[0].reason == "It gained 0.04 in its branches without clearing the gate."


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


def test_expressions_scale_any_range_to_0_and_1() -> None:
    raw = feature("u", "distance", -2, 6) | {"mean": 0.0}
    found = rules_facts.kinds_of_agents({"behaviour": stuck()["behaviour"], "features": [raw]})[0][0]
    assert found.up() == "(u + 2) / 8"
    assert found.at_high() == "(u > 5.6)"
    assert found.over_team("max") == "(max(u, max_mates(u)) + 2) / 8"
    assert rules_critic.collapsed(build_context(evidence(stuck()))["evidence"])


def test_groups_with_the_same_features_are_read_together_and_others_apart() -> None:
    raw = stuck()
    both = [raw["behaviour"][0], raw["behaviour"][0] | {"group": "others"}]
    same = [
        feature("u", "distance", 0, 4, reached_low_share=0.2),
        feature("u", "distance", 0, 8, reached_low_share=0.6) | {"group": "others"},
    ]
    together = rules_facts.kinds_of_agents({"behaviour": both, "features": same})
    assert [(f.agents, f.span, f.reached_low) for f in together[0]] == [("all", 8, pytest.approx(0.4))]
    apart = rules_facts.kinds_of_agents({"behaviour": both, "features": [*same, feature("v", "flag", 0, 1)]})
    assert [[(f.name, f.agents) for f in kind] for kind in apart] == [
        [("u", "agents"), ("v", "agents")],
        [("u", "others")],
    ]
