"""The start of a trainer from its run directory: the newest usable snapshot, and a signal log that belongs to it.

A damaged or missing newest snapshot is passed over: from an earlier one the same updates are trained again, and the
log makes the same changes at them, as after a crash. Whatever cannot be made good so is refused: a log or a database
that is not the one of the snapshots, and trained updates without any snapshot.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import SnapshotDamaged, SnapshotError
from ..training.checkpoint import load_snapshot, snapshot_update, snapshots_of
from ..training.line import TrainingLine
from .database import SIGNAL_LOG, LoggedSignal, log_digests, read_counter, read_signals, trained_updates

SNAPSHOT = "snapshot"  # counter: the update of the newest snapshot
DAMAGED = "damaged_"  # what the name of a snapshot that was passed over begins with


@dataclass(frozen=True)
class Records:
    """What `trainer.db` knows of the run.

    Attributes:
        digests: of the signal log up to each of its entries.
        updates: those that were trained.
        snapshot: the update of the newest snapshot, None where none was written, or by an older version.
    """

    signal_log: list[LoggedSignal]
    digests: list[str]
    updates: frozenset[int]
    snapshot: int | None
    steps_repeated: int
    looks: str | None
    played: str | None


def read_records(run_dir: Path) -> Records:
    """Read `trainer.db`, which is made where nothing was trained yet.

    Raises:
        SnapshotError: it is missing beside snapshots, or cannot be read, or somebody has edited the signal log.
    """
    database = run_dir / "trainer.db"
    snapshots = snapshots_of(run_dir / "checkpoints")
    if snapshots and not database.exists():
        raise SnapshotError(
            f"trainer.db must lie beside the {len(snapshots)} snapshots of {str(run_dir)!r}, it is missing; restore it "
            "from a copy, or start a new run"
        )
    try:
        snapshot = read_counter(database, SNAPSHOT)
        records = Records(
            signal_log=read_signals(database),
            digests=log_digests(database),
            updates=trained_updates(database),
            snapshot=None if snapshot is None else int(snapshot),
            steps_repeated=int(read_counter(database, "steps_repeated") or 0),
            looks=read_counter(database, "looks"),
            played=read_counter(database, "played"),
        )
        known = read_counter(database, SIGNAL_LOG)
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:  # a ValidationError is a ValueError
        raise SnapshotError(
            f"{str(database)!r} must be the database of this run, it cannot be read ({error}); restore it from a copy, "
            "or start a new run"
        ) from error
    versions = [entry.version for entry in records.signal_log]
    if versions != list(range(len(versions))) or known not in (None, *records.digests[-1:]):
        raise _other_log(run_dir, f"it has the versions {versions!r}, and is not as it was written")
    return records


def load_newest(line: TrainingLine, run_dir: Path, records: Records) -> tuple[dict[str, Any] | None, list[str]]:
    """Put the newest usable snapshot into the line.

    Returns:
        (what was saved as `extra`, None for a fresh run; warnings for who runs it, where one was passed over).

    Raises:
        SnapshotError: none is usable though there was one, it does not fit the config, or the log is not of it.
    """
    damage: dict[Path, SnapshotDamaged] = {}
    for path in snapshots_of(run_dir / "checkpoints"):
        try:
            extra: dict[str, Any] = load_snapshot(line, path)
        except SnapshotDamaged as error:
            damage[path] = error
            continue
        _check_log(line, run_dir, records, extra)
        return extra, _passed_over(line, records, damage)
    if damage:
        raise next(iter(damage.values()))
    # an older version has written no counter; but every change of the signal has a snapshot before it
    if records.snapshot is not None or len(records.signal_log) > 1:
        raise SnapshotError(
            f"{str(run_dir)!r} has trained up to update {max(records.updates, default=0)}, but none of its snapshots "
            "is left in checkpoints/; restore them from a copy, or start a new run"
        )
    return None, []


def _passed_over(line: TrainingLine, records: Records, damage: dict[Path, SnapshotDamaged]) -> list[str]:
    """Set damaged snapshots aside, and return the warnings of what is trained again."""
    warnings = []
    for path, error in damage.items():
        number, aside = 1, path.with_name(f"{DAMAGED}{path.name}")
        while aside.exists():
            number, aside = number + 1, path.with_name(f"{DAMAGED}{path.name}_{number}")
        path.rename(aside)
        warnings.append(f"{error}; it is called {aside.name!r} now")
    lost = max((records.snapshot or 0, *map(snapshot_update, damage)))
    if lost > line.update_index:
        warnings.append(
            f"the newest snapshot, of update {lost}, is damaged or gone: training goes on from update "
            f"{line.update_index}, at main step {line.steps_main}, and does again what came after"
        )
    return warnings


def _check_log(line: TrainingLine, run_dir: Path, records: Records, extra: dict[str, Any]) -> None:
    """Raise SnapshotError unless the log holds the version that is in force in the snapshot, as it was then."""
    version = line.signal.version
    if version >= len(records.signal_log):
        raise _other_log(
            run_dir, f"version {version} is in force at update {line.update_index}, and it ends before that"
        )
    entry, digest = records.signal_log[version], extra.get(SIGNAL_LOG)
    if entry.applied_update > line.update_index or digest not in (None, records.digests[version]):
        raise _other_log(run_dir, f"its entries up to version {version} are others than at update {line.update_index}")


def _other_log(run_dir: Path, reason: str) -> SnapshotError:
    return SnapshotError(
        f"the signal log in trainer.db must be the one that was written with the snapshots of {str(run_dir)!r}, but "
        f"{reason}; restore trainer.db from a copy, or start a new run"
    )
