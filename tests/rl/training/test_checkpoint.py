"""Snapshots as directories and as bytes: what does not fit is refused, what is named stays, what is sent is whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosignal.errors import SnapshotDamaged, SnapshotError, StorageError
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.training.checkpoint import (
    load_snapshot,
    newest_snapshot,
    pack_snapshot,
    packed_size,
    prune_snapshots,
    save_snapshot,
    snapshot_steps,
    unpack_snapshot,
)
from cosignal.rl.training.line import TrainingLine
from cosignal.studies.bench.signals import KINDS
from safetensors import SafetensorError
from training_lines import assert_same_state, small_config, trained


def test_missing_and_misfit_snapshots_say_so(tmp_path: Path) -> None:
    line = trained(small_config(), 1)
    with pytest.raises(SnapshotError, match="no usable snapshot"):
        load_snapshot(line, tmp_path / "nowhere")
    save_snapshot(line, tmp_path / "update_000000001")
    with pytest.raises(SnapshotError, match="same task and trainer.envs"):
        load_snapshot(TrainingLine(small_config(envs=4)), tmp_path / "update_000000001")


def test_a_snapshot_without_room_leaves_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("cosignal.rl.training.checkpoint.save_file", refuse)
    with pytest.raises(StorageError, match=r"update_000000001' must be written.*No space left.*make room there"):
        save_snapshot(trained(small_config(), 1), tmp_path / "update_000000001")
    assert not list(tmp_path.iterdir())


def test_pruning_keeps_the_newest_and_the_named(tmp_path: Path) -> None:
    line = trained(small_config(), 1)
    for update in range(1, 7):
        save_snapshot(line, tmp_path / f"update_{update:09d}")
    (tmp_path / "update_000000009.77.partial").mkdir()
    prune_snapshots(tmp_path, keep=2, named={"update_000000002"})
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"update_{u:09d}" for u in (2, 5, 6)]
    newest = newest_snapshot(tmp_path)
    assert newest is not None and newest.name == "update_000000006"


def test_a_packed_snapshot_is_continued_elsewhere_and_what_is_there_stays(tmp_path: Path) -> None:
    line, name = trained(small_config(), 2), "checkpoints/update_000000002"
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    save_snapshot(line, here / name)
    (here / "scorers").mkdir()
    (here / "scorers" / "a.safetensors").write_bytes(b"new")
    (elsewhere / "scorers").mkdir(parents=True)
    (elsewhere / "scorers" / "a.safetensors").write_bytes(b"old")
    files = pack_snapshot(here, name)
    assert files["scorers/a.safetensors"] == b"new"
    assert packed_size(files) == sum(path.stat().st_size for path in here.rglob("*") if path.is_file())
    unpack_snapshot(files, elsewhere, name)
    unpack_snapshot(files, elsewhere, name)
    assert (elsewhere / "scorers" / "a.safetensors").read_bytes() == b"old"
    assert not list(elsewhere.rglob("*.partial"))
    copy = TrainingLine(small_config())
    load_snapshot(copy, elsewhere / name)
    assert_same_state(line, copy)


@pytest.mark.parametrize("name", ["../out", "/out", "checkpoints/../../out"])
def test_a_packed_file_is_written_nowhere_but_below_the_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(SnapshotError, match="must lie in the run directory"):
        unpack_snapshot({"fine": b"", name: b""}, tmp_path / "run", "checkpoints/update_000000001")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "recorded.safetensors", "replay-*.records"])
def test_a_flipped_bit_is_noticed_where_it_is_loaded(tmp_path: Path, file: str) -> None:
    """In the run and where the snapshot was sent to."""
    config = small_config(algorithm="vdn") if "replay" in file else small_config()
    line, name = trained(config, 1), "checkpoints/update_000000001"
    save_snapshot(line, tmp_path / name)
    files = pack_snapshot(tmp_path, name)
    [path] = (tmp_path / name).glob(file)
    content = bytearray(path.read_bytes())
    content[100] ^= 16
    files[f"{name}/{path.name}"] = bytes(content)
    unpack_snapshot(files, tmp_path / "elsewhere", name)
    path.unlink()  # not in place: the line has a link to it
    path.write_bytes(content)
    for run_dir in (tmp_path, tmp_path / "elsewhere"):
        with pytest.raises(SnapshotDamaged, match=f"'{path.name}' is not the file that was written"):
            load_snapshot(line, run_dir / name)
    if file == "state.json":
        with pytest.raises(SnapshotDamaged):
            snapshot_steps(tmp_path / name)
    if file == "recorded.safetensors":
        with pytest.raises(SnapshotDamaged):
            TransitionSample.load(path)


def test_a_replay_may_grow_behind_a_snapshot_and_forks_have_digests_of_what_they_took_over(tmp_path: Path) -> None:
    config = small_config(algorithm="vdn")
    line = trained(config, 1)
    first = save_snapshot(line, tmp_path / "update_000000001")
    line.update()
    second = save_snapshot(line, tmp_path / "update_000000002")
    for snapshot in (first, second):
        fork = TrainingLine(config)
        load_snapshot(fork, snapshot)
        fork.update()
        load_snapshot(TrainingLine(config), save_snapshot(fork, tmp_path / f"fork_of_{snapshot.name}"))


def test_a_snapshot_without_digests_is_one_of_an_older_version(tmp_path: Path) -> None:
    line, path = trained(small_config(), 1), tmp_path / "update_000000001"
    save_snapshot(line, path)
    (path / "digests.json").unlink()
    with pytest.raises(SnapshotDamaged, match=r"digests\.json is missing"):
        load_snapshot(line, path)
    (path / "state.json").write_text((path / "state.json").read_text().replace('"format": 4', '"format": 3'))
    load_snapshot(line, path)


@pytest.mark.parametrize("kind", KINDS)
def test_with_each_kind_of_signal_in_force_a_snapshot_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    config = small_config().model_copy(update={"record_obs": True})
    line = TrainingLine(config)
    line.apply_signal(KINDS[kind](line))
    line.update()
    save_snapshot(line, tmp_path / "state")
    other = TrainingLine(config, scorers=line.scorers)
    load_snapshot(other, tmp_path / "state")
    for _ in range(2):
        line.update()
        other.update()
    assert_same_state(line, other)
