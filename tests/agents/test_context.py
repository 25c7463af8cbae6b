"""What a prompt carries: bounded, in the evidence's own order, and never without the features."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from agent_roles import evidence, feature, stuck
from cosignal.agents.context import MAX_CHARS, MAX_TRIED, Tried, build_context, evidence_keys, size, term_kinds
from cosignal.agents.schemas import Failure, Proposal
from cosignal.errors import ConfigError


def tried(point: int, curve_rows: int = 20) -> Tried:
    proposal = Proposal(title="t", reason="r", addresses=[Failure.PLATEAU], terms=[])
    curve = [(1000 * i, 0.123456789) for i in range(curve_rows)]
    return Tried(
        proposal_id=f"p{point}-r0-0", point=point, round=0, verdict="reject", proposal=proposal, gain=1 / 3, curve=curve
    )


def test_a_normal_run_fits_whole_and_numbers_are_short() -> None:
    context = build_context(evidence(stuck()), [tried(1)])
    assert size(context) < MAX_CHARS / 2
    assert context["history"][0]["gain"] == 0.3333
    assert len(context["evidence"]["key_moments"]) == 1
    assert [item["name"] for item in context["evidence"]["features"]] == [item["name"] for item in stuck()["features"]]


def test_not_a_number_is_none() -> None:
    raw = stuck()
    raw["features"][0]["mean"] = float("nan")
    assert build_context(evidence(raw))["evidence"]["features"][0]["mean"] is None


def test_only_the_newest_entries_of_the_history_are_kept() -> None:
    context = build_context(evidence(stuck()), [tried(point) for point in range(40)])
    assert [entry["point"] for entry in context["history"]] == list(range(40 - MAX_TRIED, 40))


def test_cuts_come_in_order_and_spare_features_and_what_was_tried() -> None:
    raw = stuck()
    raw["key_moments"] = ["m" * 200] * 20
    history = [tried(point) for point in range(8)]
    whole = build_context(evidence(raw), history, max_chars=10**6)
    without_moments = build_context(evidence(raw), history, max_chars=size(whole) - 1000)
    assert 0 < len(without_moments["evidence"]["key_moments"]) < 20
    assert all(entry["curve"] for entry in without_moments["history"])
    tighter = build_context(evidence(raw), history, max_chars=size(whole) - 4_400)
    assert not tighter["evidence"]["key_moments"]
    assert not tighter["history"][0]["curve"]  # the oldest first
    assert tighter["history"][-1]["curve"]
    tightest = build_context(evidence(raw), history, max_chars=size(whole) - 6_700)
    assert not tightest["evidence"]["sparse"]["curve"]
    assert len(tightest["history"]) == 8
    assert len(build_context(evidence(raw), history, max_chars=size(whole) - 8_000)["history"]) < 8
    assert len(tightest["evidence"]["features"]) == len(raw["features"])


def test_what_cannot_be_cut_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="fewer features"):
        build_context(evidence(stuck()), max_chars=1000)


def test_one_hundred_features_fit() -> None:
    raw = stuck()
    raw["features"] = [feature(f"f{i}", "distance", 0, 10, reached_low_share=0.1) for i in range(100)]
    assert size(build_context(evidence(raw))) <= MAX_CHARS


def test_keys_to_cite_are_the_dotted_paths() -> None:
    keys = evidence_keys(build_context(evidence(stuck()))["evidence"])
    for key in ("sparse.trend", "features.dist_goal.reached_low_share", "events.switch_triggered.per_episode",
                "behaviour.agents.entropy", "stage"):  # fmt: skip
        assert key in keys
    assert "features.dist_goal.name" not in keys


def test_event_bonuses_only_while_little_is_learnt() -> None:
    allowed = [stage for stage in ("exploring", "emerging", "plateaued", "improving", "regressing", "converged")
               if "event" in term_kinds(stage)]  # type: ignore[arg-type]  # fmt: skip
    assert allowed == ["exploring", "emerging", "plateaued"]


def test_config_and_schemas_load_neither_langchain_nor_torch() -> None:
    code = (
        "import sys, cosignal.agents.config, cosignal.agents.schemas, cosignal.agents.ledger, cosignal.agents.context;"
        "print([m for m in ('langchain', 'langchain_core', 'langgraph', 'torch') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == []
