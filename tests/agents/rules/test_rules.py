"""The embedded rules: what they answer on known evidence, their bounds, and the renaming law."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import cosignal.agents
import numpy as np
import pytest
from asked_rules import critic, expressions, failures, generator, query_trainer, tried
from cosignal.agents.critic import diagnose
from cosignal.agents.llm.ledger import Call, Place
from cosignal.agents.prompt_payload import TriedProposal, build_payload, prompt_block
from cosignal.agents.race_rules import RaceRules
from cosignal.agents.ranker import rank
from cosignal.agents.rules import critic as rules_critic
from cosignal.agents.rules import features as rules_facts
from cosignal.agents.rules.chat_model import NAME, RulesChatModel
from cosignal.agents.schemas import Diagnosis, Failure, Proposal
from cosignal.errors import InvalidAnswer, ModelAnswerError
from cosignal.rl.envs.two_switch.spec import two_switch_spec
from cosignal.rl.evidence.schema import Evidence
from cosignal.rl.signals.learner_settings import LearnerSettings
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.testing import early_evidence, feature_evidence, role_model, stuck_evidence
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

Json = dict[str, Any]

# ---------------------------------------------------------------- known evidence


async def test_a_stuck_run_is_a_collapse_with_an_unreached_goal() -> None:
    diagnosis = await critic(stuck_evidence())
    credit = Failure.UNCLEAR_CREDIT  # two agents share what both switches are paid, and it does not grow
    assert failures(diagnosis) == [Failure.EXPLORATION_COLLAPSED, Failure.SUBGOAL_NEVER_REACHED, credit]
    assert "behaviour.agents.no_effect_share" in diagnosis.findings[0].cites
    assert diagnosis.findings[1].cites[0] == "features.agents.dist_goal.reached_low_share"


async def test_a_stuck_run_gets_staircases_to_the_unreached_goal_and_a_kick_for_every_arm() -> None:
    found = await generator(stuck_evidence())
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
    assert failures(await critic(early_evidence())) == [Failure.SUBGOAL_NEVER_REACHED, Failure.UNCLEAR_CREDIT]
    found = await generator(early_evidence())
    assert all(proposal.exploration == Exploration() for proposal in found)
    assert "door_open * (1 - dist_goal / 17)" in expressions(found[0])


async def test_the_staircase_rises_along_an_episode_of_the_stuck_task() -> None:
    """Far from a switch, at it, one done, both done, at the goal: hand-made states, the same of both agents."""
    terms = tuple((await generator(stuck_evidence()))[0].terms)
    states = [(0, 8, 0, 14), (0, 1, 0, 12), (1, 9, 0, 12), (1, 1, 0, 12), (2, 0, 1, 12), (2, 0, 1, 1)]
    names = ("switches_triggered", "dist_nearest_open_switch", "door_open", "dist_goal")
    spec = two_switch_spec()
    features = np.zeros((len(states), 2, len(spec.groups[0].features)), np.float32)
    features[:, :, [spec.groups[0].feature_names().index(name) for name in names]] = np.array(states)[:, None]
    values = CompiledSignal(Signal(scale=1.0, terms=terms), spec).potential([features])[0][:, 0].tolist()
    assert values == sorted(values)
    assert values[2] == pytest.approx(0.5 - 0.45)  # one done, the other as far as 9 of 10
    assert values[-1] == pytest.approx(1 + 16 / 17)


async def test_few_episodes_are_insufficient_evidence() -> None:
    raw = stuck_evidence()
    raw["sparse"]["return_now"] = None
    assert failures(await critic(raw)) == [Failure.INSUFFICIENT_EVIDENCE]


async def test_a_healthy_run_has_no_failure() -> None:
    raw = early_evidence() | {"stage": "improving"}
    raw["sparse"] |= {"success_rate": 0.5, "trend": 1.5, "return_now": 2.2}
    assert failures(await critic(raw)) == [Failure.INSUFFICIENT_EVIDENCE]


async def test_no_events_are_no_exploration() -> None:
    raw = early_evidence()
    for event in raw["events"]:
        event["per_episode"] = 0.01
    assert failures(await critic(raw))[0] is Failure.NOT_EXPLORING


async def test_one_agent_that_does_everything_is_named_and_answered_by_the_furthest_agent() -> None:
    raw = early_evidence()
    raw["events"][0] |= {"per_episode": 2.0, "largest_agent_share": 0.97}
    assert Failure.LAZY_AGENT in failures(await critic(raw))
    found = await generator(raw)
    assert any("max_mates(dist_nearest_open_switch)" in expression for expression in expressions(found[0]))


def with_terms(stage: str) -> Json:
    raw = stuck_evidence() | {"stage": stage}
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
        role_model("ranker"), Place(1), build_payload(Evidence.model_validate(raw), (), await critic(raw)),
        {f"p1-r0-{i}": proposal for i, proposal in enumerate(found)},
    )  # fmt: skip
    assert ranking.order[0] == "p1-r0-0"


async def test_the_rules_rank_alike_whether_proposals_race_or_are_judged() -> None:
    race = RaceRules(kick=0.05, kick_alone=True, fresh_start=True, arms=1, rung_steps=16_384, rungs=1)
    listed = {f"p1-r0-{i}": proposal for i, proposal in enumerate(await generator(stuck_evidence()))}
    payload = build_payload(Evidence.model_validate(stuck_evidence()), (), await critic(stuck_evidence()))
    judged, raced = [await rank(role_model("ranker"), Place(1), payload, listed, rules) for rules in (None, race)]
    assert judged == raced and judged.order != list(listed)


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
    raw = early_evidence()
    raw["behaviour"].append(raw["behaviour"][0] | {"group": "others", "no_effect_share": 0.8})
    assert Failure.WAITING_ON_EACH_OTHER in failures(await critic(raw))


# ---------------------------------------------------------------- further rounds


async def test_a_second_round_repeats_nothing_and_strengthens_what_gained() -> None:
    first = await generator(stuck_evidence())
    history = (*(tried(proposal) for proposal in first[1:]), tried(first[0], gain=0.04))
    second = await generator(stuck_evidence(), history)
    contents = [(proposal.beta, proposal.terms, proposal.exploration) for proposal in first]
    assert not any((proposal.beta, proposal.terms, proposal.exploration) in contents for proposal in second)
    assert (second[0].beta, second[0].terms) == (1.0, first[0].terms)


async def test_the_two_best_are_combined_without_doubles() -> None:
    first = await generator(stuck_evidence())
    history = (tried(first[0], gain=0.04), tried(first[2], gain=0.02), *(tried(p) for p in (first[1], first[3])))
    combined = (await generator(stuck_evidence(), history))[1]
    assert expressions(combined)[:3] == expressions(first[0])
    assert len(expressions(combined)) == len(set(expressions(combined)))
    assert len({term.name for term in combined.terms}) == len(combined.terms)


async def test_branches_that_showed_nothing_are_answered_by_a_kick() -> None:
    first = await generator(early_evidence())
    history = tuple(tried(proposal, "not_informative") for proposal in first)
    again = await generator(early_evidence(), history)
    assert all(proposal.exploration.kick == 0.05 for proposal in again)
    assert again[0].terms == first[0].terms  # with the kick it is another proposal


async def test_what_showed_no_difference_at_an_earlier_point_may_come_again_and_what_was_rejected_may_not() -> None:
    first = await generator(stuck_evidence())
    earlier = [tried(first[0], "no_difference"), tried(first[1], "reject"), tried(first[2], "not_tried")]
    history = tuple(entry.model_copy(update={"point": 0}) for entry in earlier)
    again = await generator(stuck_evidence(), history)
    assert [proposal.terms for proposal in again[:3]] == [first[0].terms, first[2].terms, first[3].terms]


def raced(proposal: Proposal, gain: float, point: int = 0, **changes: Any) -> TriedProposal:
    """It raced for a rung at an earlier point, and nobody won."""
    entry = tried(proposal, "not_adopted", gain)
    rows = [(1, 1.0 + gain, 1.0)]
    return entry.model_copy(update={"proposal_id": f"p{point}-r0-0", "point": point, "race": rows, **changes})


async def test_each_race_without_winning_moves_an_idea_back_by_one_round() -> None:
    """One race is one seed, so that the strongest idea comes again before the weakest that is new."""
    ideas = await generator(stuck_evidence(), k=8)
    once = tuple(raced(proposal, 0.0) for proposal in ideas[:4])
    second = await generator(stuck_evidence(), once)
    assert [one.terms for one in second] == [ideas[k].terms for k in (0, 4, 1, 5)]
    # where there is nothing else all may race again, from where the run is now
    assert len(await generator(stuck_evidence(), tuple(raced(proposal, 0.0) for proposal in ideas), k=8)) == 8


async def test_what_moved_in_a_race_is_built_on_and_a_gain_of_its_last_look_is_not() -> None:
    """At another point too, as long as nobody has won since, for the signal is the same."""
    first = await generator(stuck_evidence())
    moved = {"moved": [("switch_triggered ×2", 0.5, 0.0)]}
    history = [raced(first[0], 0.25), raced(first[1], 0.0, **moved), raced(first[2], -0.5, **moved)]
    stronger, together, *_ = await generator(stuck_evidence(), tuple(history))
    assert (stronger.title, stronger.terms, stronger.beta) == ("The best so far, stronger", first[1].terms, 1.0)
    assert "no policy of it was proven" in stronger.reason and "without clearing the gate" not in stronger.reason
    assert together.title == "The two best so far together"
    assert set(expressions(together)) == {*expressions(first[1]), *expressions(first[2])}
    # once somebody has won, its gains were measured under another signal
    won = history[2].model_copy(update={"won_by": "kick"})
    titles = [proposal.title for proposal in await generator(stuck_evidence(), (*history[:2], won))]
    assert "The best so far, stronger" not in titles


async def test_many_rounds_never_repeat() -> None:
    history: list[TriedProposal] = []
    for _ in range(3):
        found = await generator(stuck_evidence(), tuple(history))
        history += [tried(proposal) for proposal in found]
    contents = [(t.proposal.beta, tuple(t.proposal.terms)) for t in history]
    assert len(set(contents)) == len(contents) == 12


async def test_a_task_without_features_can_only_explore() -> None:
    raw = stuck_evidence() | {"features": [], "events": []}
    found = await generator(raw)
    assert [(proposal.terms, proposal.exploration.kick) for proposal in found] == [([], 0.05)]


async def test_positions_are_followed_in_the_direction_that_precedes_rewards() -> None:
    raw = early_evidence()
    raw["features"] = [
        feature_evidence("u", "position", -5, 5, mean=0.0, change_before_reward=-2.0),
        feature_evidence("v", "quantity", 0, 1),
    ]
    found = await generator(raw)
    assert expressions(found[0]) == ["-(u + 5) / 10"]


def things_left(*rows: dict[str, Any]) -> dict[str, Any]:
    """Evidence of two groups with the same two distances, which are 0 once their thing is done."""
    raw = stuck_evidence()
    raw["behaviour"] = [raw["behaviour"][0] | {"group": name} for name in ("medics", "diggers")]
    raw["events"] = []
    raw["features"] = [row | {"kind": "distance", "done": 0.0} for row in rows]
    return raw


async def test_what_is_left_pays_whom_gets_such_things_done() -> None:
    """Medics stand nearer when `v` is done, diggers when `r` is; who gets `w` done nobody has seen."""
    rows = [
        feature_evidence(name, "distance", 0, high, reached_low_share=0.1) | {"group": who, "before_done": before}
        for who, of_who in (("medics", (1.0, 6.0, None)), ("diggers", (4.0, 1.0, None)))
        for (name, high), before in zip((("v", 10), ("r", 5), ("w", 8)), of_who, strict=True)
    ]
    found = {one.title: one for one in await generator(things_left(*rows), k=8)}
    terms = [
        (term.agents, expression)
        for term, expression in zip(
            found["All that is left"].terms, expressions(found["All that is left"]), strict=True
        )
    ]
    assert terms == [("medics", "-v / 10"), ("diggers", "-r / 5"), ("all", "-w / 8")]
    # What nearly every episode gets done is not left.
    usual = [row | {"reached_low_share": 0.9 if row["name"] == "v" else 0.1} for row in rows]
    found = {one.title: one for one in await generator(things_left(*usual), k=8)}
    assert expressions(found["All that is left"]) == ["-r / 5", "-w / 8"]
    usual = [row | {"reached_low_share": 0.9} for row in rows]
    assert "All that is left" not in [one.title for one in await generator(things_left(*usual), k=8)]


async def test_each_thing_that_is_left_gets_the_gate_before_it() -> None:
    """Flags by how often they are reached, distances the nearest first; what is reached already gets none."""
    raw = stuck_evidence()
    raw["features"] = [
        feature_evidence("far", "distance", 0, 30, mean=25.0, reached_low_share=0.0),
        feature_evidence("known", "distance", 0, 9, mean=2.0, reached_low_share=0.9),
        feature_evidence("near", "distance", 0, 20, mean=8.0, reached_low_share=0.0),
        feature_evidence("late", "flag", 0, 1, reached_high_share=0.0),
        feature_evidence("early", "flag", 0, 1, reached_high_share=0.7),
        feature_evidence("last", "flag", 0, 1, reached_high_share=0.0),
    ]
    found = await generator(raw)
    assert found[0].title == "A gate for each thing that is left"
    assert expressions(found[0]) == ["early", "early * (1 - near / 20)", "late", "late * (1 - far / 30)"]
    # One flag, or one thing: other ideas say that.
    for left in (raw["features"][:4], raw["features"][1:]):
        fewer = await generator(raw | {"features": left}, k=8)
        assert "A gate for each thing that is left" not in [one.title for one in fewer]


# ---------------------------------------------------------------- the chat model


async def test_the_critic_makes_a_real_tool_call_first() -> None:
    rows: list[Call] = []
    model = role_model("critic", record=rows.append)
    payload = build_payload(Evidence.model_validate(stuck_evidence()))
    message = await diagnose(model, Place(1), payload, tools=[query_trainer], calls_left=3)
    assert isinstance(message, AIMessage)
    call = message.tool_calls[0]
    assert (call["name"], call["args"]) == ("query_trainer", {"what": "feature_statistics", "name": "dist_goal"})
    told = ToolMessage("{}", tool_call_id=str(call["id"]), name="query_trainer")
    answer = await diagnose(model, Place(1), payload, [message, told], [query_trainer], calls_left=2)
    assert isinstance(answer, Diagnosis)
    assert [(row.outcome, row.model) for row in rows] == [("tool_call", NAME), ("ok", NAME)]
    assert len({row.id for row in rows}) == 2


async def test_without_features_the_tool_call_asks_for_the_curve() -> None:
    message = await diagnose(
        role_model("critic"),
        Place(1),
        build_payload(Evidence.model_validate(stuck_evidence() | {"features": []})),
        tools=[query_trainer],
        calls_left=1,
    )
    assert isinstance(message, AIMessage)
    assert message.tool_calls[0]["args"]["what"] == "metric_curve"


def test_it_works_as_a_plain_chat_model_and_says_what_it_is() -> None:
    model = RulesChatModel()
    block = json.dumps(prompt_block(build_payload(Evidence.model_validate(stuck_evidence()))))
    reply = model.invoke([SystemMessage("role: critic"), HumanMessage(f"```json\n{block}\n```")])
    assert Diagnosis.model_validate_json(reply.text).findings[0].failure is Failure.EXPLORATION_COLLAPSED
    assert "no language model" in model._llm_type
    with pytest.raises(InvalidAnswer, match="role"):
        model.invoke([HumanMessage("hello")])


@pytest.mark.parametrize("role", ["critic", "generator", "ranker"])
@pytest.mark.parametrize(
    "block", ["5", "[1]", "{}", '{"evidence": 5}', '{"evidence": {"behaviour": [{}]}}', "```json\n{}", "[" * 100_000]
)
def test_a_block_that_is_no_evidence_is_an_invalid_answer_that_names_the_template(role: str, block: str) -> None:
    asked = [SystemMessage(f"role: {role}"), HumanMessage(f"```json\n{block}\n```")]
    for model in (RulesChatModel(), RulesChatModel().bind_tools([query_trainer])):
        with pytest.raises(ModelAnswerError, match=f"llm.*{role}"):
            model.invoke(asked)


def test_rules_import_nothing_from_rl_and_name_no_part_of_a_task() -> None:
    words = {item["name"] for part in ("features", "events") for item in stuck_evidence()[part]}
    words |= {"two_switch", "green", "orange", "stay", "forward", "interact", "door", "goal"}
    paths = sorted((Path(cosignal.agents.__path__[0]) / "rules").glob("*.py"))
    assert len(paths) > 4
    for path in paths:
        text = path.read_text()
        imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
        assert not [
            node.module for node in imports if node.module and re.search(r"\b(rl|prompt_payload)\b", node.module)
        ]
        assert not [word for word in words if re.search(rf"\b{word}\b", text)], path.name


async def test_what_gained_in_screening_only_is_not_called_a_result_of_the_gate() -> None:
    first = await generator(stuck_evidence())
    again = await generator(stuck_evidence(), (tried(first[0], "screened_out", gain=0.04),))
    assert again[0].reason == "It gained 0.04 in screening and was not judged."
    judged = await generator(stuck_evidence(), (tried(first[0], "no_difference", gain=0.04),))
    assert judged[0].reason == "It gained 0.04 in its branches without clearing the gate."


def test_expressions_scale_any_range_to_0_and_1() -> None:
    raw = feature_evidence("u", "distance", -2, 6) | {"mean": 0.0}
    found = rules_facts.kinds_of_agents({"behaviour": stuck_evidence()["behaviour"], "features": [raw]})[0][0]
    assert found.up() == "(u + 2) / 8"
    assert found.at_high() == "(u > 5.6)"
    assert found.over_team("max") == "(max(u, max_mates(u)) + 2) / 8"
    assert rules_critic.collapsed(build_payload(Evidence.model_validate(stuck_evidence()))["evidence"])


def test_groups_with_the_same_features_are_read_together_and_others_apart() -> None:
    raw = stuck_evidence()
    both = [raw["behaviour"][0], raw["behaviour"][0] | {"group": "others"}]
    same = [
        feature_evidence("u", "distance", 0, 4, reached_low_share=0.2),
        feature_evidence("u", "distance", 0, 8, reached_low_share=0.6) | {"group": "others"},
    ]
    together = rules_facts.kinds_of_agents({"behaviour": both, "features": same})
    assert [(f.agents, f.span, f.reached_low) for f in together[0]] == [("all", 8, pytest.approx(0.4))]
    apart = rules_facts.kinds_of_agents({"behaviour": both, "features": [*same, feature_evidence("v", "flag", 0, 1)]})
    assert [[(f.name, f.agents) for f in kind] for kind in apart] == [
        [("u", "agents"), ("v", "agents")],
        [("u", "others")],
    ]


# ---------------------------------------------------------------- not the signal


def shared_evidence(**learner: Any) -> Json:
    """Stuck, with two agents in one network."""
    told = {"algorithm": "ippo", "gamma": 0.99, "lr": 6e-4, "advantage_norm": "minibatch", "entropy_bonus": None}
    return stuck_evidence() | {"learner": told | {"networks": [["agent_0", "agent_1"]]} | learner}


async def in_vain(number: int, **changes: Any) -> tuple[TriedProposal, ...]:
    """So many signals that raced at earlier points without effect."""
    ideas = await generator(stuck_evidence(), k=8)
    return tuple(raced(ideas[i % 8], 0.0, point=i // 4, **changes) for i in range(number))


async def test_where_eight_signals_in_a_row_did_nothing_the_learner_is_changed_instead() -> None:
    assert Failure.NOT_THE_SIGNAL not in failures(await critic(shared_evidence(), await in_vain(7)))
    diagnosis = await critic(shared_evidence(), await in_vain(8))
    assert diagnosis.findings[0].failure is Failure.NOT_THE_SIGNAL
    apart, norm, slower, signal = await generator(shared_evidence(), await in_vain(8))
    assert apart.learner == LearnerSettings(share_parameters=False)
    assert norm.learner == LearnerSettings(advantage_norm="agent")
    assert slower.learner == LearnerSettings(lr=2e-4)
    assert [apart.terms, norm.terms, slower.terms] == [[], [], []]  # those in force
    assert signal.learner == LearnerSettings()
    assert signal.terms


async def test_what_moved_or_won_is_not_in_vain_and_a_changed_learner_begins_the_count_anew() -> None:
    moved = await in_vain(8, moved=[("switch_triggered ×2", 0.5, 0.0)])
    won = (*await in_vain(4), *await in_vain(1, won_by="carried"), *await in_vain(4))
    changed = Proposal.model_validate(
        {"title": "a", "reason": "b", "addresses": ["plateau"], "terms": [], "learner": {"lr": 1e-4}}
    )
    anew = (*await in_vain(4), raced(changed, 0.0), *await in_vain(4))
    for history in (moved, won, anew):
        assert Failure.NOT_THE_SIGNAL not in failures(await critic(shared_evidence(), history))


async def test_only_what_can_change_is_proposed() -> None:
    alone = shared_evidence(networks=[["agent_0"], ["agent_1"]], advantage_norm="agent", lr=2e-5)
    assert all(one.learner == LearnerSettings() for one in await generator(alone, await in_vain(8)))
    by_values = shared_evidence(algorithm="qmix", advantage_norm=None)
    assert all(one.learner == LearnerSettings() for one in await generator(by_values, await in_vain(8)))


async def test_agents_of_one_network_that_observe_the_same_need_networks_of_their_own() -> None:
    raw = shared_evidence()
    raw["behaviour"][0]["same_view_share"] = 1.0
    agents = [agent for agent, _ in raw["behaviour"][0]["events_per_agent"]]
    raw["learner"]["networks"] = [agents]
    diagnosis = await critic(raw)
    assert diagnosis.findings[0].failure is Failure.SHARED_PARAMETER_CONFLICT
    assert diagnosis.findings[0].cites == ["behaviour.agents.same_view_share", "learner.networks"]
    assert (await generator(raw))[0].learner == LearnerSettings(share_parameters=False)
    for changed in ({"networks": [[agent] for agent in agents]}, {}):
        raw["learner"] |= changed
        raw["behaviour"][0]["same_view_share"] = 1.0 if changed else 0.2
        assert Failure.SHARED_PARAMETER_CONFLICT not in failures(await critic(raw))
