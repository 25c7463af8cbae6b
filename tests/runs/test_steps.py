"""The one count of environment steps, and that everybody who shows a total shows this one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cosignal.runs import report
from cosignal.runs.records import RankingRecord
from cosignal.runs.steps import ExtraSteps, RunSteps, StepHistory, StepsAt, whole_updates
from cosignal.runs.store import LoopStore, RunView
from cosignal.studies.loop_arms import points_of
from cosignal.testing.run_directory import ADOPTED, POINT

RANKED = 123_456


@pytest.fixture
async def ranked_run(finished_run: Path) -> Path:
    """The made-up run, in which moves were played for the Ranker before the branches of its intervention."""
    store = await LoopStore.open(finished_run)
    await store.write(RankingRecord(point=POINT, ranker="task_heuristic", steps=RANKED))
    await store.close()
    return finished_run


async def test_status_report_cost_and_studies_end_at_the_same_total(ranked_run: Path) -> None:
    view = RunView(ranked_run)
    total = view.status()["steps_total"]
    assert total == 4_447_872 + RANKED
    assert report.curve_data(view)["total"][-1] == total
    assert report.cost(view).total == sum(part.steps for part in report.cost(view).parts) == total
    assert points_of(view)[-1].total == total
    store = await LoopStore.open(ranked_run)
    assert await store.extra_steps() == view.steps().extra  # what progress adds to the trainer's own counts
    await store.close()


async def test_play_for_the_ranker_is_spent_at_its_point(ranked_run: Path) -> None:
    view = RunView(ranked_run)
    history = view.step_history()
    at = {row["update"]: history.at(row["update"], row["steps"], row["steps_evaluation"]) for row in view.metrics()}
    assert at[POINT].extra == (0, 0)
    assert at[POINT + 1].extra == view.steps().extra
    assert at[POINT + 1].extra.rankings == RANKED
    assert [point.total for point in points_of(view)] == [steps.total for steps in at.values()]


def test_the_sum_by_hand() -> None:
    steps = RunSteps(main=1_000, evaluation=50, extra=ExtraSteps(branches=700, rankings=30), adopted=400)
    assert (steps.total, steps.dropped) == (1_380, 300)


def test_what_happens_at_a_boundary_is_counted_with_the_next_update() -> None:
    history = StepHistory(
        branches=[StepsAt(2, 500), StepsAt(4, 300)], rankings=[StepsAt(4, 40)], adopted=[StepsAt(2, 200)]
    )
    assert history.at(2, 200, 7) == RunSteps(200, 7, ExtraSteps(0, 0), 0)
    assert history.at(3, 500, 7) == RunSteps(500, 7, ExtraSteps(500, 0), 200)
    assert history.at(5, 700, 9).total == 700 + 9 + 500 + 300 + 40 - 200


def test_an_adopted_branch_is_as_long_as_its_whole_updates(finished_run: Path) -> None:
    with closing(sqlite3.connect(finished_run / "loop.db")) as database, database:
        database.execute("UPDATE branches SET result = json_set(result, '$.horizon', 200000) WHERE phase = 'full'")
    assert RunView(finished_run).step_history().adopted == [(0, 0), (POINT, ADOPTED)]  # 98 updates of 2048
    assert [whole_updates(horizon, 2048) for horizon in (1, 2048, 2049)] == [2048, 2048, 4096]


def test_a_state_that_is_taken_over_under_the_overlap_clock_is_not_taken_off(finished_run: Path) -> None:
    assert RunView(finished_run).step_history().adopted == [(0, 0), (POINT, ADOPTED)]
    config = json.loads((finished_run / "config.json").read_text())
    (finished_run / "config.json").write_text(json.dumps(config | {"clock": "overlap"}))
    assert RunView(finished_run).step_history().adopted == [(0, 0), (POINT, 0)]


def test_steps_trained_again_after_a_crash_are_counted_once(finished_run: Path) -> None:
    before = RunView(finished_run).steps()
    with closing(sqlite3.connect(finished_run / "trainer.db")) as database, database:
        database.execute("UPDATE counters SET value = '999999' WHERE name = 'steps_repeated'")
    assert RunView(finished_run).steps() == before
