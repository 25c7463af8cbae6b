"""A run as a list of moments, from a made-up run directory with hand-made numbers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from cosignal.runs.run_view import RunView
from cosignal.runs.timeline import timeline
from cosignal.testing.run_directory import POINT
from made_up_run import BECAUSE, EXPLAINED, LOST_RACE, RACE, UPDATE


def test_the_story_is_in_order(finished_run: Path) -> None:
    moments = timeline(RunView(finished_run))
    assert [moment.kind for moment in moments] == [
        "stage", "stage", "diagnosis", "verdict", "verdict", "promotion", "stage", "stage"
    ]  # fmt: skip
    assert [moment.steps for moment in moments] == sorted(moment.steps for moment in moments)
    assert moments[4].text == "signal promoted: Goal and switches together"


def test_the_story_is_in_order_also_where_a_younger_state_took_over(finished_run: Path) -> None:
    """Main steps step back at the promotion, by more than the run had made before."""
    story = [moment.text for moment in timeline(RunView(finished_run))]
    with closing(sqlite3.connect(finished_run / "trainer.db")) as database, database:
        database.execute(f"UPDATE metrics SET steps = 2048 * (update_index - {POINT}) WHERE update_index > {POINT}")
    moments = timeline(RunView(finished_run))
    assert [moment.text for moment in moments] == story
    steps = [moment.steps for moment in moments]
    assert steps != sorted(steps)
    assert steps[5:7] == [POINT * 2048, 3 * 2048]  # the promotion, and the stage after it


def test_the_story_tells_what_became_of_a_promotion(eventful_run: Path) -> None:
    told = {moment.kind: moment.text for moment in timeline(RunView(eventful_run))[8:]}
    verdicts = [moment.text for moment in timeline(RunView(eventful_run))[8:] if moment.kind == "verdict"]
    assert [text.partition(":")[0] for text in verdicts] == ["declined", "stale"]
    assert [text.endswith(f", because: {BECAUSE}") for text in verdicts] == [True, False]
    assert told["control"] == "v2: the control's state is the main line, the signal stays"
    assert told["rollback"] == (
        "v1 (Goal and switches together) is undone by v3: sparse return 0.200 at 451584 main steps, 1.000 before "
        "version 1: a regression, 2 of 2 running"
    )


def test_a_rollback_without_a_word_of_the_loop_is_told_all_the_same(eventful_run: Path) -> None:
    """The loop was killed before it wrote it down."""
    with closing(sqlite3.connect(eventful_run / "loop.db")) as database, database:
        database.execute("DELETE FROM decisions WHERE verdict = 'rollback'")
    [told] = [moment.text for moment in timeline(RunView(eventful_run)) if moment.kind == "rollback"]
    assert told == "v2 is undone by v3"


def test_a_race_is_told_where_it_happened_and_its_claim_is_about_a_policy(raced_run: Path) -> None:
    told = timeline(RunView(raced_run))[8:]
    assert [(moment.kind, moment.text.partition(":")[0]) for moment in told] == [
        ("race", "6 arms race against the main line"),
        ("race", "rung 3"),
        ("race", "rung 4"),
        ("verdict", "policy adopted"),
        ("promotion", "policy adopted, of a proposal's signal; with it v2, unproven"),
        ("race", "2 arms race against the main line"),
        ("race", "rung 2"),
        ("verdict", "no difference"),
        ("offset", "v3"),
    ]
    assert told[-1].text == "v3: near_switch out of the reward, kept in the critic; in force: the sparse reward alone"
    fork = told[0].steps
    assert [moment.steps - fork for moment in told[1:5]] == [49_152, 65_536, 65_536, 65_536]
    assert told[5].steps - fork == (LOST_RACE - RACE) * UPDATE
    assert f"policy of p{RACE}-r0-1 better: {EXPLAINED}; dropped p{RACE}-r0-0: no milestone" in told[2].text


def test_arms_that_had_to_wait_are_not_counted_among_those_that_began(raced_run: Path) -> None:
    """Of the six that had joined in the end two joined after rung 3, and one more never did."""
    [record] = [race for race in RunView(raced_run).races() if race.point == RACE]
    *arms, late, last = record.detail.arms
    arms += [arm.model_copy(update={"joined": 3}) for arm in (late, last)]
    detail = record.detail.model_copy(update={"arms": arms, "waiting": [late.model_copy(update={"name": "other"})]})
    with closing(sqlite3.connect(raced_run / "loop.db")) as database, database:
        database.execute("UPDATE races SET detail = ? WHERE id = ?", (detail.model_dump_json(), record.id))
    [began, _] = [moment.text for moment in timeline(RunView(raced_run)) if "against the main line" in moment.text]
    assert began == "4 arms race against the main line, 3 more when these are out"


def test_moments_stay_in_order_where_main_steps_step_back(raced_run: Path) -> None:
    """A fresh start that is adopted is younger than the line that it replaces; updates only rise."""
    before = [moment.kind for moment in timeline(RunView(raced_run))]
    with closing(sqlite3.connect(raced_run / "trainer.db")) as database, database:
        database.execute("UPDATE metrics SET steps = steps - 500000 WHERE update_index > ?", (RACE + 32,))
        database.execute("UPDATE signals SET applied_steps = 65536 WHERE version = 2")
    assert [moment.kind for moment in timeline(RunView(raced_run))] == before
