"""A trainer that starts in a damaged run directory: it makes the damage good and says so, or it refuses."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cosignal.errors import SnapshotDamaged, SnapshotError
from cosignal.rl.ipc import messages as m
from cosignal.rl.signals.signal import Signal
from cosignal.rl.trainer.main_run import MainRun
from cosignal.rl.trainer.process import Trainer
from cosignal.rl.training.checkpoint import snapshots_of
from training_lines import UPDATE, assert_same_state, small_config

NEAR = {"name": "near", "kind": "potential", "expression": "-dist_nearest_open_switch / 12"}


def killed(found: Trainer) -> None:
    found.main.close()
    found.server.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine updates with a snapshot every third, a promotion at update 4 and one at 8."""
    run_dir = tmp_path_factory.mktemp("made") / "run"
    run_dir.mkdir()
    config = small_config(checkpoint_every_steps=3 * UPDATE).model_copy(update={"clock": "overlap"})
    (run_dir / "training.json").write_text(config.model_dump_json())
    found = Trainer(run_dir)
    found.start()
    for update in range(1, 10):
        found.main.update()
        if update in (4, 8):
            signal = Signal.model_validate({"terms": [NEAR | {"weight": float(update)}]})
            reply = found.handle(m.Promote(key=f"at {update}", base_version=update // 4 - 1, signal=signal))
            assert isinstance(reply, m.PromoteReply)
    killed(found)
    return run_dir


@pytest.fixture
def run_dir(made: Path, tmp_path: Path) -> Path:
    path = tmp_path / "run"
    shutil.copytree(made, path)
    return path


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FILES = ("state.safetensors", "state.json", "recorded.safetensors", "digests.json")


@pytest.mark.parametrize("damage", [*FILES, "cut", "gone"])
def test_a_damaged_newest_snapshot_is_passed_over_with_a_warning(run_dir: Path, made: Path, damage: str) -> None:
    """The line comes to the same state: the updates are trained again, and the log applies at the same ones."""
    newest, before, *_ = snapshots_of(run_dir / "checkpoints")
    assert (newest.name, before.name) == ("update_000000009", "update_000000008")
    if damage == "gone":
        shutil.rmtree(newest)
    elif damage == "cut":
        (newest / "state.safetensors").write_bytes((newest / "state.safetensors").read_bytes()[:1000])
    else:
        flip(newest / damage)
    found = Trainer(run_dir)
    hello = found.handle(m.Hello())
    assert isinstance(hello, m.HelloReply)
    assert "training goes on from update 8, at main step 1024" in hello.warnings[-1]
    found.start()
    found.main.update()
    found.main.checkpoint()
    assert found.main.line.update_index == 9
    assert found.main.steps_repeated == UPDATE
    killed(found)
    assert set(names(run_dir)) >= {"update_000000008", "update_000000009"}
    assert ("damaged_update_000000009" in names(run_dir)) == (damage != "gone")
    whole, again = MainRun(made), MainRun(run_dir)
    assert whole.warnings == again.warnings == []
    assert_same_state(whole.line, again.line)
    whole.close()
    again.close()


def test_where_every_snapshot_is_damaged_it_is_refused_and_nothing_is_renamed(run_dir: Path) -> None:
    before = names(run_dir)
    for snapshot in snapshots_of(run_dir / "checkpoints"):
        flip(snapshot / "state.safetensors")
    with pytest.raises(SnapshotDamaged, match=r"update_000000009.*restore"):
        MainRun(run_dir)
    assert names(run_dir) == before


def test_where_all_snapshots_are_gone_it_is_refused(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "checkpoints")
    with pytest.raises(
        SnapshotError, match=r"trained up to update 9, but none of its snapshots is left.*start a new run"
    ):
        MainRun(run_dir)


def test_a_run_that_was_killed_before_its_first_snapshot_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(small_config().model_dump_json())
    found = Trainer(tmp_path)
    found.start()
    found.main.update()
    killed(found)
    again = MainRun(tmp_path)
    assert (again.line.update_index, again.warnings) == (0, [])
    again.close()


def sql(statement: str) -> Callable[[Path], None]:
    def change(run_dir: Path) -> None:
        with closing(sqlite3.connect(run_dir / "trainer.db")) as connection:
            connection.execute(statement)
            connection.commit()

    return change


def remove(run_dir: Path) -> None:
    for path in run_dir.glob("trainer.db*"):
        path.unlink()


def empty(run_dir: Path) -> None:
    remove(run_dir)
    (run_dir / "trainer.db").touch()


def garble(run_dir: Path) -> None:
    remove(run_dir)
    (run_dir / "trainer.db").write_bytes(b"no database" * 500)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove, r"trainer\.db must lie beside the \d snapshots"),
        (empty, "version 2 is in force at update 9, and it ends before that"),
        (garble, "cannot be read"),
        (sql("DELETE FROM signals WHERE version = 2"), "not as it was written"),
        (sql("DELETE FROM signals WHERE version = 1"), r"versions \[0, 2\]"),
        (sql("DELETE FROM signals"), "not as it was written"),
        (sql("UPDATE signals SET applied_update = 7 WHERE version = 2"), "not as it was written"),
        (sql("UPDATE signals SET signal = replace(signal, '8.0', '9.0') WHERE version = 2"), "not as it was written"),
        (sql("UPDATE signals SET signal = '{}x' WHERE version = 1"), "cannot be read"),
        (sql("UPDATE counters SET value = 'NaN' WHERE name = 'steps_repeated' OR name = 'snapshot'"), "cannot be read"),
    ],
)
def test_a_database_that_is_not_of_the_snapshots_is_refused(
    run_dir: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(run_dir)
    with pytest.raises(SnapshotError, match=message) as raised:
        MainRun(run_dir)
    assert "start a new run" in str(raised.value)


def test_an_older_copy_of_the_database_is_refused(run_dir: Path) -> None:
    """Its log is whole, but another one than the snapshots'."""
    sql("DELETE FROM signals WHERE version = 2")(run_dir)
    sql("DELETE FROM counters WHERE name = 'signal_log'")(run_dir)
    with pytest.raises(SnapshotError, match="version 2 is in force at update 9"):
        MainRun(run_dir)


def test_a_database_of_another_run_is_refused(run_dir: Path) -> None:
    sql("UPDATE signals SET key = 'other' WHERE version = 1")(run_dir)
    sql("DELETE FROM counters WHERE name = 'signal_log'")(run_dir)
    with pytest.raises(SnapshotError, match="its entries up to version 2 are others than at update 9"):
        MainRun(run_dir)
