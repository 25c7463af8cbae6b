"""What a prompt carries: bounded, in the evidence's own order, and never without the features."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from cosignal.agents.prompt_payload import (
    MAX_AGENTS,
    MAX_CHARS,
    MAX_EVENTS,
    MAX_EXAMPLES,
    MAX_FEATURES,
    MAX_HISTORY,
    UNFIT_EXAMPLES,
    Example,
    Payload,
    TriedProposal,
    bounded_rows,
    build_payload,
    most_relevant,
    names_in_terms,
    payload_size,
)
from cosignal.agents.schemas import Failure, Proposal
from cosignal.errors import ModelAnswerError, PromptTooLong
from cosignal.rl.evidence.schema import Evidence
from cosignal.rl.signals.preview import SignalSummary
from cosignal.testing import feature_evidence, stuck_evidence
from hypothesis import given, settings
from hypothesis import strategies as st


def tried(point: int, curve_rows: int = 20) -> TriedProposal:
    proposal = Proposal(title="t", reason="r", addresses=[Failure.PLATEAU], terms=[])
    curve = [(1000 * i, 0.123456789) for i in range(curve_rows)]
    return TriedProposal(
        proposal_id=f"p{point}-r0-0", point=point, round=0, verdict="reject", proposal=proposal, gain=1 / 3, curve=curve
    )


@given(st.integers(0, 60), st.integers(2, 20))
def test_bounded_rows_keep_both_ends_and_their_order(n: int, limit: int) -> None:
    rows = bounded_rows(range(n), limit)
    assert len(rows) == min(n, limit) == len(set(rows))
    assert rows == sorted(rows)
    if n:
        assert (rows[0], rows[-1]) == (0, n - 1)


def test_rows_are_spread_evenly() -> None:
    assert bounded_rows(range(1, 25), 4) == [1, 9, 16, 24]  # 7⅔ apart: 1, 8⅔, 16⅓, 24


def test_what_an_arm_reached_stays_before_what_is_relevant() -> None:
    raw = large(390, 98, 2)
    reached = [(f"{'e' * 30}97 ×2", 0.5, 0.0), (f"at {'f' * 30}389", 0.25, 0.0)]
    without, with_them = (
        build_payload(Evidence.model_validate(raw), [tried(1).model_copy(update={"moved": moved})])
        for moved in ([], reached)
    )
    assert f"{'f' * 30}389" in names(with_them, "features") and f"{'e' * 30}97" in names(with_them, "events")
    assert f"{'f' * 30}389" not in names(without, "features") and f"{'e' * 30}97" not in names(without, "events")


def test_rungs_are_cut_with_the_curves_and_what_was_reached_stays() -> None:
    raced = {
        "race": [(i, 1.0, 0.5) for i in range(1, 13)],
        "moved": [("switch_triggered ×2", 0.5, 0.0)],
        "kick_gain": 0.0,
    }
    history = [tried(point).model_copy(update=raced) for point in range(8)]
    evidence = Evidence.model_validate(stuck_evidence())
    whole = payload_size(build_payload(evidence, history))
    cut = build_payload(evidence, history, max_chars=whole - 2_500)
    assert cut["history"][0]["race"] == cut["history"][0]["curve"] == []
    assert cut["history"][-1]["race"] and len(cut["history"]) == 8
    assert {tuple(row[0] for row in entry["moved"]) for entry in cut["history"]} == {("switch_triggered ×2",)}
    assert {entry["kick_gain"] for entry in cut["history"]} == {0.0}


def test_a_normal_run_fits_whole_and_numbers_are_short() -> None:
    payload = build_payload(Evidence.model_validate(stuck_evidence()), [tried(1)])
    assert payload_size(payload) < MAX_CHARS / 2
    assert payload["history"][0]["gain"] == 0.3333
    assert len(payload["evidence"]["key_moments"]) == 1
    assert [item["name"] for item in payload["evidence"]["features"]] == [
        item["name"] for item in stuck_evidence()["features"]
    ]


def test_not_a_number_is_none() -> None:
    raw = stuck_evidence()
    raw["features"][0]["mean"] = float("nan")
    assert build_payload(Evidence.model_validate(raw))["evidence"]["features"][0]["mean"] is None


def test_only_the_newest_entries_of_the_history_are_kept() -> None:
    payload = build_payload(Evidence.model_validate(stuck_evidence()), [tried(point) for point in range(40)])
    assert [entry["point"] for entry in payload["history"]] == list(range(40 - MAX_HISTORY, 40))


def test_cuts_come_in_order_and_spare_features_and_what_was_tried() -> None:
    raw = stuck_evidence()
    raw["key_moments"] = ["m" * 200] * 20
    history = [tried(point) for point in range(8)]
    whole = build_payload(Evidence.model_validate(raw), history, max_chars=10**6)
    without_moments = build_payload(Evidence.model_validate(raw), history, max_chars=payload_size(whole) - 1000)
    assert 0 < len(without_moments["evidence"]["key_moments"]) < 20
    assert all(entry["curve"] for entry in without_moments["history"])
    tighter = build_payload(Evidence.model_validate(raw), history, max_chars=payload_size(whole) - 4_400)
    assert not tighter["evidence"]["key_moments"]
    assert not tighter["history"][0]["curve"]  # the oldest first
    assert tighter["history"][-1]["curve"]
    tightest = build_payload(Evidence.model_validate(raw), history, max_chars=payload_size(whole) - 6_650)
    assert not tightest["evidence"]["sparse"]["curve"]
    assert len(tightest["history"]) == 8
    too_tight = build_payload(Evidence.model_validate(raw), history, max_chars=payload_size(whole) - 8_000)
    assert len(too_tight["history"]) < 8
    assert len(tightest["evidence"]["features"]) == len(raw["features"])


def example(title: str = "e", **changes: Any) -> Example:
    term = {"name": "a", "kind": "potential", "expression": "-dist_goal / 17"}
    fields = {"title": title, "task": "two_switch", "same_task": True, "seed": 1, "proven": "policy", "gain": 1 / 3,
              "gain_over_kick": 0.1, "stage": "plateaued", "beta": 0.5, "terms": [term], "exploration": {}}  # fmt: skip
    return Example.model_validate(fields | changes)


def test_of_examples_the_first_are_shown_and_the_others_counted() -> None:
    examples = [example(str(i)) for i in range(MAX_EXAMPLES + 2)]
    payload = build_payload(Evidence.model_validate(stuck_evidence()), examples=examples)
    assert [row["title"] for row in payload["examples"]] == [str(i) for i in range(MAX_EXAMPLES)]
    assert payload["examples"][0]["gain"] == 0.3333
    assert payload["left_out"] == {"examples": 2}
    assert "examples" not in build_payload(Evidence.model_validate(stuck_evidence()))


@pytest.mark.parametrize(
    "term",
    [
        {"kind": "potential", "expression": "-dist_moon / 17"},
        {"kind": "potential", "expression": "mean_mates(dist_moon)"},
        {"kind": "potential", "expression": "dist_goal ** 2"},
        {"kind": "potential", "expression": "dist_goal", "agents": "medic"},
        {"kind": "potential", "expression": "dist_goal", "agents": ["green", "blue"]},
        {"kind": "event", "event": "moon_landed", "weight": 0.1, "decay_steps": 1000},
        {"kind": "learned", "scorer": "0" * 16, "agents": "agents"},
    ],
)
def test_an_example_that_the_task_does_not_fit_is_left_out_and_counted(term: dict[str, Any]) -> None:
    fitting = {"kind": "potential", "expression": "-dist_goal / 17", "agents": ["orange"]}
    event = {"kind": "event", "event": "switch_triggered", "weight": 0.1, "decay_steps": 1000, "agents": "agents"}
    named = [[{"name": f"t{i}", **one} for i, one in enumerate(terms)] for terms in ([fitting, event], [fitting, term])]
    good, bad = (example(title, terms=terms) for title, terms in zip(("good", "bad"), named, strict=True))
    payload = build_payload(Evidence.model_validate(stuck_evidence()), examples=[bad, good])
    assert [row["title"] for row in payload["examples"]] == ["good"]
    assert payload["left_out"] == {UNFIT_EXAMPLES: 1}


def test_examples_are_cut_first_and_the_last_one_first() -> None:
    raw = stuck_evidence()
    raw["key_moments"] = ["m" * 200] * 3
    evidence, examples = Evidence.model_validate(raw), [example("first"), example("second")]
    both = payload_size(build_payload(evidence, [tried(1)], examples=examples))
    one = build_payload(evidence, [tried(1)], max_chars=both - 1, examples=examples)
    assert ([row["title"] for row in one["examples"]], one["left_out"]) == (["first"], {"examples": 1})
    none = build_payload(evidence, [tried(1)], max_chars=payload_size(one) - 1, examples=examples)
    assert "examples" not in none and none["left_out"] == {"examples": 2}
    assert (len(none["evidence"]["key_moments"]), len(none["history"][0]["curve"])) == (3, 20)


def test_what_examples_are_built_of_stays_before_what_is_relevant() -> None:
    unseen = {"name": "a", "kind": "potential", "expression": f"-{'f' * 30}389 / 3"}
    for examples, is_shown in (([], False), ([example(terms=[unseen])], True)):
        payload = build_payload(Evidence.model_validate(large(390, 98, 2)), examples=examples)
        assert (f"{'f' * 30}389" in names(payload, "features")) == is_shown


def test_the_numbers_of_what_was_tried_are_the_first_to_be_cut_the_oldest_before_the_newest() -> None:
    raw = stuck_evidence()
    raw["key_moments"] = ["m" * 200] * 3
    history = [tried(point).model_copy(update={"numbers": SignalSummary(phi_start=1 / 3)}) for point in range(4)]
    evidence = Evidence.model_validate(raw)
    whole = build_payload(evidence, history)
    assert [entry["numbers"] for entry in whole["history"]] == [{"phi_start": 0.3333}] * 4
    cut = build_payload(evidence, history, max_chars=payload_size(whole) - 20)
    assert [("numbers" in entry) for entry in cut["history"]] == [False, False, True, True]
    assert cut["left_out"] == {"numbers_of_history": 2}
    bare = build_payload(evidence, [tried(point) for point in range(4)])
    assert all("numbers" not in entry for entry in bare["history"])
    # Nothing else is cut before they are all gone.
    without = build_payload(
        evidence, history, max_chars=payload_size(bare) + len(', "left_out": {"numbers_of_history": 4}')
    )
    assert without == {**bare, "left_out": {"numbers_of_history": 4}}


def test_what_cannot_be_cut_is_refused_with_the_remedy() -> None:
    with pytest.raises(PromptTooLong, match="fewer groups"):
        build_payload(Evidence.model_validate(stuck_evidence()), max_chars=1000)


def test_one_hundred_features_fit() -> None:
    raw = stuck_evidence()
    raw["features"] = [feature_evidence(f"f{i}", "distance", 0, 10, reached_low_share=0.1) for i in range(100)]
    assert payload_size(build_payload(Evidence.model_validate(raw))) <= MAX_CHARS


# ---------------------------------------------------------------- tasks that are larger than a prompt


def names(payload: Payload, kind: str) -> list[str]:
    return [row["name"] for row in payload["evidence"][kind]]


def large(n_features: int, n_events: int, n_agents: int) -> dict[str, Any]:
    """The stuck run in a task with many more features that show nothing, events that never happen, and agents."""
    raw = stuck_evidence()
    raw["features"] = [feature_evidence(f"{'f' * 30}{i}", "quantity", 0, 1) for i in range(n_features)] + raw[
        "features"
    ]
    never = raw["events"][1]
    raw["events"] = [never | {"name": f"{'e' * 30}{i}"} for i in range(n_events)] + raw["events"]
    agents = [f"agent_{i}" for i in range(n_agents)]
    raw["behaviour"][0]["events_per_agent"] = [(name, 1.0 + (name == "agent_7")) for name in agents]
    raw["task"]["groups"] = [{"name": "agents", "agents": agents, "actions": [str(i) for i in range(n_agents)]}]
    return raw


def test_of_many_features_the_most_relevant_stay_and_the_others_are_counted() -> None:
    payload = build_payload(Evidence.model_validate(large(390, 98, 1000)))
    kept = names(payload, "features")
    assert len(kept) == MAX_FEATURES
    # those that say something stay; `heading` says nothing and comes after 390 others that say nothing
    assert kept[-9:] == [row["name"] for row in stuck_evidence()["features"] if row["name"] != "heading"]
    assert len(names(payload, "events")) == MAX_EVENTS
    assert "switch_triggered" in names(payload, "events")
    assert payload["left_out"] == {"features": 336, "events": 68, "agents": 968}
    assert len(payload["evidence"]["behaviour"][0]["events_per_agent"]) == MAX_AGENTS
    assert ["agent_7", 2.0] in payload["evidence"]["behaviour"][0]["events_per_agent"]


def test_a_task_that_fits_is_not_said_to_be_cut() -> None:
    assert "left_out" not in build_payload(Evidence.model_validate(stuck_evidence()))


@given(st.integers(0, 1500), st.integers(0, 600), st.integers(2, 3000), st.integers(12_000, MAX_CHARS))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_number_of_features_events_and_agents_fits(
    n_features: int, n_events: int, n_agents: int, max_chars: int
) -> None:
    assert (
        payload_size(build_payload(Evidence.model_validate(large(n_features, n_events, n_agents)), max_chars=max_chars))
        <= max_chars
    )


@given(st.integers(0, 60), st.integers(0, 40), st.integers(0, 30), st.integers(9_000, MAX_CHARS))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_what_is_cut_is_counted_and_later_parts_are_whole_until_earlier_ones_are_gone(
    moments: int, rows: int, entries: int, max_chars: int
) -> None:
    """The order: key moments, details of the history, the curve, texts of the task, the history, features, events."""
    raw = stuck_evidence()
    raw["signal"]["terms"] = [{"name": "a", "kind": "potential", "expression": "-dist_goal / 17"}]
    raw["key_moments"] = ["m" * 200] * moments
    raw["sparse"]["curve"] = [(1000 * i, 0.5, 0.0) for i in range(rows)]
    history = [tried(point) for point in range(entries)]
    payload = build_payload(Evidence.model_validate(raw), history, max_chars=max_chars)
    assert payload_size(payload) <= max_chars
    kept, left_out = payload["evidence"], payload.get("left_out", {})
    history_had = min(entries, MAX_HISTORY)
    features, events = len(raw["features"]), len(raw["events"])
    counts = {
        "key_moments": (len(kept["key_moments"]), moments),
        "curve": (len(kept["sparse"]["curve"]), rows),
        "history": (len(payload["history"]), history_had),
        "features": (len(kept["features"]), features),
        "events": (len(kept["events"]), events),
    }
    for kind, (now, before) in counts.items():
        assert left_out.get(kind, 0) == before - now
    order = [counts[kind] for kind in ("key_moments", "curve", "history", "features")]
    later = [counts[kind] for kind in ("curve", "history", "features", "events")]
    for (left, _), (now, before) in zip(order, later, strict=True):
        assert now == before or left <= 1  # one name of the features always stays
    assert "dist_goal" in names(payload, "features")  # the signal in force is built of it
    assert kept["signal"]["terms"][0]["expression"] == "-dist_goal / 17"
    assert kept["sparse"]["trend"] == 0.0


def test_what_terms_are_built_of_stays_before_what_is_relevant() -> None:
    raw = large(390, 98, 2)
    raw["signal"]["terms"] = [
        {"name": "a", "kind": "potential", "expression": f"-min({'f' * 30}389, 2) / 3"},
        {"name": "b", "kind": "event", "event": f"{'e' * 30}97"},
    ]
    payload = build_payload(Evidence.model_validate(raw), max_chars=12_000)
    assert 0 < len(names(payload, "features")) < MAX_FEATURES
    assert f"{'f' * 30}389" in names(payload, "features")
    assert f"{'e' * 30}97" in names(payload, "events")
    proposal = Proposal(title="t", reason="r", addresses=[Failure.PLATEAU], terms=raw["signal"]["terms"])
    raw["signal"]["terms"] = []
    payload = build_payload(Evidence.model_validate(raw), [tried(1).model_copy(update={"proposal": proposal})])
    assert f"{'f' * 30}389" in names(payload, "features")


def test_the_words_of_an_expression_are_no_names() -> None:
    expression = "-nearest(a1, b) / 1e2 if not c and d > 0 or count_mates(e == 1) else max(f, 3)"
    terms: list[dict[str, Any]] = [{"name": "x", "kind": "potential", "expression": expression}]
    assert names_in_terms(terms) == {"a1", "b", "c", "d", "e", "f"}
    assert names_in_terms([{"name": "x", "kind": "event", "event": "min"}]) == {"min"}  # an event may be called so


def test_scores_by_hand() -> None:
    """In shares of the range: 0.3 change; 0.05 change, 0.1 gap and 0.08 from start to end; 0.16 change and an end that
    is not reached (0.1); nothing, twice."""
    rows = [
        feature_evidence("tie", "position", 0, 1),
        feature_evidence("late_tie", "position", 0, 1),
        feature_evidence("unreached", "distance", 0, 10, change_before_reward=1.6, reached_low_share=0.04),
        feature_evidence("gap", "count", 0, 2, change_before_reward=-0.1, end_success=1.4, end_failure=1.2, start=1.24),
        feature_evidence("change", "distance", 0, 10, change_before_reward=-3.0, reached_low_share=0.05),
    ]
    order = [[row["name"] for row in most_relevant("features", rows, most, ())] for most in range(1, 6)]
    assert order == [
        ["change"],
        ["unreached", "change"],
        ["unreached", "gap", "change"],
        ["tie", "unreached", "gap", "change"],
        ["tie", "late_tie", "unreached", "gap", "change"],
    ]


def test_a_feature_stays_or_goes_in_all_groups_at_once() -> None:
    """So that groups with the same features keep the same features."""
    quiet = [feature_evidence(name, "count", 0, 1) for name in ("a", "b", "c")]
    changes = zip(quiet, (0.1, 0.0, 0.9), strict=True)
    loud = [row | {"group": "others", "change_before_reward": change} for row, change in changes]
    kept = most_relevant("features", [*quiet, *loud], 5, ())
    assert [(row["name"], row["group"]) for row in kept] == [
        ("a", "agents"), ("c", "agents"), ("a", "others"), ("c", "others")
    ]  # fmt: skip


def test_a_prompt_that_is_too_long_is_a_failure_to_answer() -> None:
    assert issubclass(PromptTooLong, ModelAnswerError)


def test_what_readers_of_a_run_import_loads_neither_langchain_nor_torch() -> None:
    modules = ("config", "schemas", "llm.ledger", "llm.secrets", "prompt_payload", "replay_results")
    code = (
        f"import sys, {', '.join(f'cosignal.agents.{name}' for name in modules)};"
        "print([m for m in ('langchain', 'langchain_core', 'langgraph', 'torch') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(printed.stdout) == []
