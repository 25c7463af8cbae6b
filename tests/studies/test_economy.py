"""The rows of the study economy, on runs made by hand, and its arms."""

from __future__ import annotations

import pytest
from cosignal import RunConfig
from cosignal.studies import economy
from cosignal.studies.loop_arms import accepted
from made_up_outcomes import decision, loop_run, outcome, rows_by_id


def test_branch_steps_are_shared_out_over_promotions_and_solved_seeds() -> None:
    one, two, three = (
        loop_run(outcome("all", 1), decision("accept", "Staircase"), branch_steps=2_000_000),
        loop_run(outcome("all", 2), decision("reject"), branch_steps=1_000_000),
        loop_run(outcome("all", 3, main_to_90=None, total_to_90=None), branch_steps=0),
    )
    rows = rows_by_id(economy.economy_rows("all", [one, two, three], 0))
    assert rows["all.share"]["mean"] == pytest.approx((0.5 + 0.25 + 0) / 3)
    assert (rows["all.per_promotion"]["mean"], rows["all.per_promotion"]["seeds"]) == (3_000_000, 1)
    assert (rows["all.per_solved"]["mean"], rows["all.per_solved"]["seeds"]) == (1_500_000, 2)
    assert rows["all.interventions"]["mean"] == pytest.approx(2 / 3, abs=1e-4)
    assert {name.partition(".")[2] for name in rows} == set(economy.COLUMNS)


def test_each_arm_has_one_idea_off() -> None:
    shipped = RunConfig()
    changes = {
        arm: {
            name
            for part in ("branches", "adaptation")
            for name, value in economy.without(arm, shipped).model_dump()[part].items()
            if value != shipped.model_dump()[part][name]
        }
        for arm in (*economy.ARMS, "no_patience+no_halving")
    }
    assert changes == {
        "all": set(),
        "no_halving": {"finalists"},
        "no_kept_control": {"keep_control"},
        "no_skipping": {"stage"},
        "no_patience": {"patience"},
        "none": {"finalists", "keep_control", "stage", "patience"},
        "no_patience+no_halving": {"patience", "finalists"},
    }
    for arm in economy.ARMS:  # and is a config that runs
        RunConfig.model_validate(economy.without(arm, shipped).model_dump())


def test_accepted_decisions_and_removals_are_told_apart() -> None:
    one = loop_run(outcome("auto", 1), decision("accept", "Staircase"), decision("accept", "No", removal=True))
    assert [row["title"] for row in accepted(one)] == ["Staircase"]
    assert [row["title"] for row in accepted(one, removal=True)] == ["No"]
