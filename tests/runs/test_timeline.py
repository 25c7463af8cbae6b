"""A run as a list of moments, from a made-up run directory with hand-made numbers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from cosignal.runs.store import RunView
from cosignal.runs.timeline import timeline


def test_the_story_is_in_order(finished_run: Path) -> None:
    moments = timeline(RunView(finished_run))
    assert [moment.kind for moment in moments] == [
        "stage", "stage", "diagnosis", "verdict", "verdict", "promotion", "stage", "stage"
    ]  # fmt: skip
    assert [moment.steps for moment in moments] == sorted(moment.steps for moment in moments)
    assert moments[4].text == "accept: Goal and switches together"


def test_the_story_tells_what_became_of_a_promotion(eventful_run: Path) -> None:
    told = {moment.kind: moment.text for moment in timeline(RunView(eventful_run))[8:]}
    verdicts = [moment.text for moment in timeline(RunView(eventful_run))[8:] if moment.kind == "verdict"]
    assert [text.partition(":")[0] for text in verdicts] == ["declined", "stale"]
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
