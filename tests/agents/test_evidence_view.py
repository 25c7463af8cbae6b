"""The layout of evidence in prompts: nothing is lost, and the path to a figure is the key that cites it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cosignal.agents.critic import citation_problems
from cosignal.agents.evidence_view import citable, rows_of, shown, uncitable
from cosignal.agents.prompt_payload import build_payload
from cosignal.agents.schemas import Diagnosis, Failure, Finding
from cosignal.rl.evidence.schema import Evidence
from cosignal.testing import feature_evidence, stuck_evidence
from hypothesis import given
from hypothesis import strategies as st

GROUPS = ("medic", "engineer")


def two_groups() -> dict[str, Any]:
    """A team of two roles; `way_open` is the same for both, `dist_free` and `rank` are not."""
    raw = Evidence.model_validate(stuck_evidence()).model_dump(mode="json")
    raw["behaviour"] = [raw["behaviour"][0] | {"group": group, "events_per_agent": [[group, 1.0]]} for group in GROUPS]

    def row(name: str, group: str, **more: Any) -> dict[str, Any]:
        about = {"group": group, "description": f"About {name}."}
        return feature_evidence(name, "distance", 0, 10) | about | more

    raw["features"] = [
        row("dist_free", "medic", mean=3.0), row("way_open", "medic"), row("rank", "medic"),
        row("dist_free", "engineer", mean=4.0), row("way_open", "engineer"), row("rank", "engineer", high=7),
    ]  # fmt: skip
    raw["events"] = [raw["events"][0] | {"group": "medic"}]
    return raw


def test_a_row_stands_under_its_group_and_once_where_all_groups_have_the_same() -> None:
    features = shown(two_groups())["features"]
    assert {place: list(rows) for place, rows in features.items()} == {
        "medic": ["dist_free", "rank"], "engineer": ["dist_free", "rank"], "all": ["way_open"],
    }  # fmt: skip
    assert features["medic"]["dist_free"]["mean"] == 3.0 and "end_success" not in features["medic"]["dist_free"]
    assert features["medic"]["dist_free"]["description"] == "About dist_free."


def test_a_declaration_stands_once_and_another_one_of_the_same_name_stays() -> None:
    features = shown(two_groups())["features"]
    assert not {"description", "kind", "low", "high", "done"} & features["engineer"]["dist_free"].keys()
    assert features["engineer"]["rank"]["high"] == 7 and features["engineer"]["rank"]["kind"] == "distance"


def test_one_group_keeps_all_its_rows() -> None:
    assert list(shown(Evidence.model_validate(stuck_evidence()).model_dump(mode="json"))["features"]) == ["agents"]


number = st.one_of(st.none(), st.integers(-3, 3))


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(GROUPS), number, number, st.sampled_from(["", "cells"])),
        unique_by=lambda row: row[:2],
        max_size=6,
    )
)
def test_reading_the_layout_gives_the_rows_again(rows: list[tuple[str, str, Any, Any, str]]) -> None:
    raw = two_groups()
    raw["features"] = [
        feature_evidence(name, "distance", 0, 10, start=start, end_failure=end)
        | {"group": group, "unit": unit, "description": unit and f"In {unit}.", "done": len(unit) or None}
        for name, group, start, end, unit in rows
    ]
    again = rows_of(json.loads(json.dumps(shown(raw))))

    def ordered(evidence: dict[str, Any], part: str) -> list[dict[str, Any]]:
        return sorted(evidence[part], key=lambda row: (GROUPS.index(row["group"]), row["name"]))

    for part in ("features", "events", "behaviour"):
        key = ordered if part != "behaviour" else lambda evidence, part: evidence[part]
        assert key(again, part) == key(raw, part)
    assert again["team"] == raw["team"] and again["terms"] == raw["terms"] and again["sparse"] == raw["sparse"]


# ---------------------------------------------------------------- keys


def test_every_path_to_a_row_or_a_field_may_be_cited() -> None:
    view = shown(two_groups())
    keys = citable(view)
    for key in ("sparse.trend", "features.medic.dist_free", "features.engineer.dist_free.mean", "features.all.way_open",
                "events.medic.switch_triggered.per_episode", "behaviour.medic.entropy", "stage"):  # fmt: skip
        assert key in keys
        # It is the path in the prompt.
        found: Any = view
        for part in key.split("."):
            found = found[part]
        assert found is not None
    assert not uncitable(keys, view)


@pytest.mark.parametrize(
    ("cite", "valid"),
    [
        ("features.way_open.mean", True),  # in one place only
        ("features.medic.way_open.mean", True),  # where it stands for all
        ("events.switch_triggered.per_episode", True),
        ("features.medic.dist_free", True),  # a whole row
        ("sparse", True),
        ("features.dist_free.mean", False),  # of whom?
        ("features.medic.dist_nothing.mean", False),
        ("features.medic.dist_freed", False),
        ("features.medic", False),
        ("trend", False),
    ],
)
def test_what_may_be_cited(cite: str, valid: bool) -> None:
    assert (uncitable([cite], shown(two_groups())) == {}) == valid


def test_a_wrong_citation_is_answered_with_keys_that_may_have_been_meant() -> None:
    payload = build_payload(Evidence.model_validate(two_groups()))
    finding = Finding(failure=Failure.PLATEAU, cites=["features.dist_free.mean"], explanation="It stays.")
    (problem,) = citation_problems(Diagnosis(findings=[finding]), payload)
    assert "'features.medic.dist_free.mean'" in problem and "'features.engineer.dist_free.mean'" in problem
