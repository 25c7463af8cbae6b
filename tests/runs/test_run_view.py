"""The read model of a run: its numbers, its state, and what it says of damage."""

from __future__ import annotations

import asyncio
import fcntl
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cosignal.config.run_config import RunConfig
from cosignal.errors import DamagedRunError, NotARunError
from cosignal.rl.signals.signal import Signal
from cosignal.rl.trainer.database import LoggedSignal, MetricsWriter
from cosignal.runs.records import InterventionRecord
from cosignal.runs.run_view import RunView, provider
from cosignal.runs.store import LoopStore
from records import branch, call, decision, failed_branch, proposal


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that stopped at 4096 main steps after one promotion that adopted a branch of 100 steps."""
    path = tmp_path / "two_switch-s1"
    path.mkdir()
    (path / "config.json").write_text(RunConfig().resolved_json())
    (path / "run.json").write_text(json.dumps({"id": path.name, "created": "2026-01-01", "config_hash": "x"}))
    writer = MetricsWriter(path / "trainer.db")
    for update, (value, success) in enumerate([(None, None), (1.5, 0.25), (None, None)], start=1):
        data = {"evaluation_return": value, "evaluation_success": success, "stage": "emerging"}
        writer.metrics(update, 2048 * update, data)
    writer.log_signal(LoggedSignal(0, "start", None, 0, 0, Signal(), None, "start"))
    writer.log_signal(LoggedSignal(1, "p2-r0-0:0", 0, 2, 4096, Signal(version=1), "branches/b"))
    writer.counters(
        state="training", steps_main=4096, steps_evaluation=64, steps_trained=3996, episodes_lost=2, stage="emerging"
    )
    writer.close()
    asyncio.run(_loop_tables(path))
    return path


async def _loop_tables(path: Path) -> None:
    store = await LoopStore.open(path)
    await store.write(branch("a", 2, 0, 100), branch("b", 2, 0, 100, arm="p2-r0-0"))
    await store.write(failed_branch("f", 2, 0, 100, arm="p2-r0-1", steps=7))
    await store.write(proposal(2, 0, 0), proposal(2, 0, 1))
    await store.write(decision("p2-r0", 2))
    await store.write(call("c"), call("d", outcome="budget"))  # this one was refused, so not made
    await store.write(InterventionRecord(point=4, evidence={}))
    await store.set(state="stopped", wall_s=12.34, warnings={"replay": "it came out different"})
    await store.close()


def test_status_has_the_documented_fields(run_dir: Path) -> None:
    assert RunView(run_dir).status() == {
        "path": str(run_dir),
        "state": "stopped",
        "error": None,
        "seed": 1,
        "provider": "rules",
        "stage": "emerging",
        "steps_main": 4096,
        "steps_total": 4096 + 64 + 2 * 110 + 7 - 100,  # a branch has trained 100 of the main steps
        "steps_budget": 1_500_000,
        "signal_version": 1,
        "proposals": 2,
        "validated": 1,
        "promotions": 1,
        "rollbacks": 0,
        "waiting_for": None,
        "llm_calls": 1,
        "sparse_return": 1.5,
        "success_rate": 0.25,
        "episodes_lost": 2,
        "branches_lost": 1,
        "warnings": ["it came out different"],
        "wall_s": 12.3,
    }


def test_promotions_and_rollbacks_are_counted_by_their_cause(run_dir: Path) -> None:
    writer = MetricsWriter(run_dir / "trainer.db")
    for version, cause in ((2, "control"), (3, "rollback"), (4, "promotion")):
        writer.log_signal(LoggedSignal(version, f"k{version}", 1, 3, 6144, Signal(version=version), None, cause))
    writer.close()
    status = RunView(run_dir).status()
    assert (status["promotions"], status["rollbacks"], status["signal_version"]) == (2, 1, 4)


def test_the_log_of_an_earlier_version_knows_promotions_only(run_dir: Path) -> None:
    with closing(sqlite3.connect(run_dir / "trainer.db")) as database, database:
        database.execute("ALTER TABLE signals DROP COLUMN cause")
    view = RunView(run_dir)
    assert [row.cause for row in view.signals()] == ["start", "promotion"]
    assert view.status()["promotions"] == 1


def test_a_run_that_waits_for_a_human_says_so(run_dir: Path) -> None:
    with closing(sqlite3.connect(run_dir / "loop.db")) as database, database:
        question = json.dumps({"id": "p2-r0", "title": "a"})
        database.execute("INSERT OR REPLACE INTO run VALUES ('waiting_for', ?)", (question,))
    view = RunView(run_dir)
    assert (view.state(), view.status()["waiting_for"]) == ("stopped", "p2-r0")
    with (run_dir / "loop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert view.state() == "waiting"


def test_metrics_signals_and_diagnoses(run_dir: Path) -> None:
    view = RunView(run_dir)
    assert [(row["update"], row["steps"], row["evaluation_return"]) for row in view.metrics()] == [
        (1, 2048, None),
        (2, 4096, 1.5),
        (3, 6144, None),
    ]
    assert [(row.version, row.adopt, row.signal.version) for row in view.signals()] == [
        (0, None, 0),
        (1, "branches/b", 1),
    ]
    assert [row.diagnosis for row in view.interventions()] == [None]  # the Critic has not answered yet
    assert view.visits() == []


@pytest.mark.parametrize(
    ("written", "trainer", "state"),
    [
        ("done", "finished", "done"),
        ("done", "training", "stopped"),
        ("failed", "training", "failed"),
        ("running", "training", "stopped"),  # killed
    ],
)
def test_state_without_a_live_loop(run_dir: Path, written: str, trainer: str, state: str) -> None:
    with closing(sqlite3.connect(run_dir / "loop.db")) as database, database:
        database.execute("UPDATE run SET value = ? WHERE name = 'state'", (json.dumps(written),))
    with closing(sqlite3.connect(run_dir / "trainer.db")) as database, database:
        database.execute("UPDATE counters SET value = ? WHERE name = 'state'", (trainer,))
    assert RunView(run_dir).state() == state


def test_a_live_loop_is_running_whatever_was_written(run_dir: Path) -> None:
    with (run_dir / "loop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert RunView(run_dir).state() == "running"
    assert RunView(run_dir).state() == "stopped"


async def test_a_run_can_be_read_in_the_middle_of_a_write(run_dir: Path) -> None:
    with closing(sqlite3.connect(run_dir / "loop.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM proposals")
        assert RunView(run_dir).status()["proposals"] == 2
        writer.execute("ROLLBACK")


def test_a_run_that_has_just_begun_has_a_status(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(RunConfig().resolved_json())
    (tmp_path / "run.json").write_text("{}")
    status = RunView(tmp_path).status()
    assert (status["state"], status["steps_main"], status["steps_total"], status["sparse_return"]) == (
        "stopped",
        0,
        0,
        None,
    )


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize(("name", "reader"), [("loop.db", RunView.calls), ("trainer.db", RunView.metrics)])
def test_a_lost_database_of_a_run_that_has_trained_is_damage(
    run_dir: Path, name: str, reader: Callable[[RunView], object], empty: bool
) -> None:
    for path in list(run_dir.glob(f"{name}*")):
        path.unlink()
    if empty:
        (run_dir / name).touch()
    for read in (RunView.status, reader):
        with pytest.raises(DamagedRunError, match=f"{name}' must hold what the run wrote, but it is .*; restore it"):
            read(RunView(run_dir))
    view = RunView(run_dir, lenient=True)
    view.status()
    assert [name in line for line in view.damage] == [True]


def test_snapshots_say_that_a_run_has_trained(run_dir: Path) -> None:
    (run_dir / "checkpoints" / "update_000000016").mkdir(parents=True)
    for name in ("loop.db", "trainer.db"):
        (run_dir / name).unlink()
        with pytest.raises(DamagedRunError, match=name):
            RunView(run_dir).status()


def test_a_counter_below_0_is_damage(run_dir: Path) -> None:
    with closing(sqlite3.connect(run_dir / "trainer.db")) as database, database:
        database.execute("UPDATE counters SET value = '-5' WHERE name = 'steps_main'")
    with pytest.raises(DamagedRunError, match=r"'steps_main' .* must be a number from 0, got '-5'"):
        RunView(run_dir).status()


async def test_a_loop_that_has_begun_before_the_trainer_wrote_is_whole(run_dir: Path) -> None:
    for path in list(run_dir.glob("*.db*")):
        path.unlink()
    store = await LoopStore.open(run_dir)
    await store.set(state="running")
    await store.close()
    assert RunView(run_dir).status()["steps_total"] == 0


def test_a_path_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(NotARunError, match="has no run.json"):
        RunView(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotARunError, match="has no run.json"):
        RunView(tmp_path / "file")


def test_rows_of_another_version_are_refused_with_a_remedy(run_dir: Path) -> None:
    with closing(sqlite3.connect(run_dir / "loop.db")) as database, database:
        database.execute("UPDATE decisions SET verdict = 'perhaps'")
    with pytest.raises(NotARunError, match="table 'decisions'.*perhaps.*the version that has made it"):
        RunView(run_dir).decisions()


@pytest.mark.parametrize("name", ["run.json", "config.json"])
@pytest.mark.parametrize("content", [b"", b'{"id": "two_sw', b"[1]", b"\xff"])
def test_a_run_whose_files_are_cut_is_no_run(run_dir: Path, name: str, content: bytes) -> None:
    (run_dir / name).write_bytes(content)
    with pytest.raises(NotARunError, match=name):
        RunView(run_dir)


def test_a_config_of_somebody_else_is_no_run(run_dir: Path) -> None:
    (run_dir / "config.json").write_text('{"seed": 1}')
    with pytest.raises(NotARunError, match=r"without \['llm', 'trainer', 'task'\]"):
        RunView(run_dir)


def test_the_path_in_status_is_absolute(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run_dir.parent)
    assert RunView(Path(run_dir.name)).status()["path"] == str(run_dir)


def test_providers_of_all_roles() -> None:
    llm = {"default": {"provider": "rules"}, "critic": None, "generator": {"provider": "openai"}, "ranker": None}
    assert provider({"llm": llm}) == "openai+rules"
    assert provider({"llm": llm}, {"critic": "mine", "generator": "mine", "ranker": "mine"}) == "mine"
    assert provider({"llm": llm, "adaptation": {"signals": [{}]}}, {"critic": "mine"}) == "given signals"
