"""The rows of the study adversary, on runs made by hand."""

from __future__ import annotations

import pytest
from cosignal.studies.adversary.study import adversary_rows
from made_up_outcomes import decision, loop_run, outcome, rows_by_id


def test_the_adversarys_rows_count_what_was_accepted_and_whose_it_was() -> None:
    four = tuple([48, 0, "Harmful: flipped", passed, passed] for passed in (True, True, True, False))
    plain = [outcome("plain", seed) for seed in (1, 2, 3, 4)]
    runs = [
        loop_run(outcome("harmful", 1), decision("reject"), proposals=four),
        loop_run(outcome("harmful", 2, 1.0), decision("accept", "Harmful: flipped"), proposals=four),
        loop_run(outcome("harmful", 3, 3.9), decision("accept", None), proposals=four),  # the kicked control's state
        loop_run(outcome("harmful", 4), decision("accept", "Let all shaping fade out", 99, removal=True),
            proposals=([99, 0, "Let all shaping fade out", True, True],)),
    ]  # fmt: skip
    rows = rows_by_id(adversary_rows("harmful", runs, plain))
    assert rows["harmful.difference"]["mean"] == pytest.approx((-2.8 + 0.1) / 4)
    assert rows["harmful.difference"]["exact_zeros"] == 2
    assert rows["harmful.interventions"]["mean"] == 0.75  # a removal is none: no model was asked
    assert (rows["harmful.passed"]["mean"], rows["harmful.passed"]["seeds"]) == (0.75, 12)
    assert rows["harmful.false_accepts"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert rows["harmful.accepts"]["mean"] == pytest.approx(2 / 3, abs=1e-4)
    assert rows["harmful.accepts"]["whose"] == {"harmful": 1, "blend": 0, "rules": 0, "control": 1}
    assert (rows["A-1"]["verdict"], rows["A-1"]["seeds"]) == ("reproduced", 2)


def test_one_difference_without_an_acceptance_is_seen() -> None:
    plain = [outcome("plain", 1), outcome("plain", 2)]
    runs = [loop_run(outcome("half_harmful", 1), decision("reject")), loop_run(outcome("half_harmful", 2, 3.8 + 1e-9))]
    row = rows_by_id(adversary_rows("half_harmful", runs, plain))["A-2"]
    assert (row["verdict"], row["mean"], row["seeds"]) == ("not reproduced", 0.5, 2)
