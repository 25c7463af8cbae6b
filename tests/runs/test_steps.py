"""The one count of environment steps, and that everybody who shows a total shows this one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cosignal.rl.ipc.messages import EpisodeStats, EvaluationResult
from cosignal.runs import report
from cosignal.runs.race_records import EvaluationRecord
from cosignal.runs.records import RankingRecord
from cosignal.runs.run_view import RunView
from cosignal.runs.steps import ExtraSteps, RunSteps, StepHistory, StepsAt, whole_updates
from cosignal.runs.store import LoopStore
from cosignal.studies.loop_arms import points_of
from cosignal.testing.run_directory import ADOPTED, POINT, branch_record

RANKED = 123_456


def steps_at(history: StepHistory, row: dict[str, Any]) -> RunSteps:
    return history.at(row["update"], row["steps_trained"], row["steps"], row["steps_evaluation"])


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
    at = {row["update"]: steps_at(history, row) for row in view.metrics()}
    assert at[POINT].extra == (0, 0)
    assert at[POINT + 1].extra == view.steps().extra
    assert at[POINT + 1].extra.play == RANKED
    assert [point.total for point in points_of(view)] == [steps.total for steps in at.values()]


async def test_a_race_is_paid_when_it_is_run_and_not_when_it_began(finished_run: Path) -> None:
    view, late = RunView(finished_run), POINT + 20
    before = {row["update"]: steps_at(view.step_history(), row).total for row in view.metrics()}
    rung = branch_record(1, "race", "kick@80", 0, 40_000, 1.0, wins=False)
    played = EpisodeStats(returns=[1.0, 2.0], successes=None, lengths=[250, 250], reached={}, steps=500)
    result = EvaluationResult(key="e", arm="control", steps_main=1, episodes=played, cpu_s=0.1)
    looked = EvaluationRecord(
        key="e", point=POINT, round=1, purpose="look", arm="control", state="checkpoints/s", result=result,
        steps=500, spent_at=late,
    )  # fmt: skip
    store = await LoopStore.open(finished_run)
    await store.write(rung.model_copy(update={"spent_at": late}))
    await store.write(looked)
    assert (await store.extra_steps()).total == view.steps().extra.total
    await store.close()
    after = {row["update"]: steps_at(view.step_history(), row).total for row in view.metrics()}
    paid = 20_000 + 6_400 + 500  # as the made-up branches have it
    assert {update for update, total in after.items() if total != before[update]} == set(range(late + 1, 301))
    assert {after[update] - before[update] for update in range(late + 1, 301)} == {paid}
    assert view.steps_total() == after[300]


def test_the_sum_by_hand() -> None:
    steps = RunSteps(trained=600, main=1_000, evaluation=50, extra=ExtraSteps(branches=700, play=30))
    assert (steps.total, steps.dropped) == (1_380, 330)


def test_what_happens_at_a_boundary_is_counted_with_the_next_update() -> None:
    history = StepHistory(branches=[StepsAt(2, 500), StepsAt(4, 300)], play=[StepsAt(4, 40)])
    assert history.at(2, 200, 200, 7) == RunSteps(200, 200, 7, ExtraSteps(0, 0))
    assert history.at(3, 300, 500, 7) == RunSteps(300, 500, 7, ExtraSteps(500, 0))
    assert history.at(5, 500, 700, 9).total == 500 + 9 + 500 + 300 + 40


def without_steps_trained(run_dir: Path, **counters: int) -> Path:
    """The run as an older version wrote it."""
    with closing(sqlite3.connect(run_dir / "trainer.db")) as database, database:
        database.execute("UPDATE metrics SET data = json_remove(data, '$.steps_trained')")
        database.execute("DELETE FROM counters WHERE name = 'steps_trained'")
        database.executemany("INSERT INTO counters VALUES (?, ?)", [(k, str(v)) for k, v in counters.items()])
    return run_dir


def test_a_run_of_an_older_version_counts_the_same(finished_run: Path) -> None:
    """Under the lockstep clock a branch's state was ahead by its whole updates."""
    now = RunView(finished_run)
    steps, trained = now.steps(), [row["steps_trained"] for row in now.metrics()]
    older = RunView(without_steps_trained(finished_run, steps_adopted=ADOPTED))
    assert older.steps() == steps
    assert [row["steps_trained"] for row in older.metrics()] == trained
    with closing(sqlite3.connect(finished_run / "loop.db")) as database, database:
        database.execute("UPDATE branches SET result = json_set(result, '$.horizon', 200000) WHERE phase = 'full'")
    assert [row["steps_trained"] for row in older.metrics()] == trained  # 98 updates of 2048
    assert [whole_updates(horizon, 2048) for horizon in (1, 2048, 2049)] == [2048, 2048, 4096]


def test_under_the_overlap_clock_an_older_version_trained_every_main_step(finished_run: Path) -> None:
    view = RunView(without_steps_trained(finished_run, steps_adopted=0))
    view.config["clock"] = "overlap"
    assert [row["steps_trained"] for row in view.metrics()] == [row["steps"] for row in view.metrics()]
    assert view.steps().trained == view.steps().main


def test_steps_trained_again_after_a_crash_are_counted_once(finished_run: Path) -> None:
    before = RunView(finished_run).steps()
    with closing(sqlite3.connect(finished_run / "trainer.db")) as database, database:
        database.execute("UPDATE counters SET value = '999999' WHERE name = 'steps_repeated'")
    assert RunView(finished_run).steps() == before
