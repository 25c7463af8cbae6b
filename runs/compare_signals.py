"""How far apart the signals in force of two runs of one task are, on what the first of them has recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ..errors import SnapshotError
from ..files import file_inside
from ..rl.experience.transition_sample import TransitionSample
from ..rl.signals.distance import SignalComparison
from ..rl.signals.scorer import FOLDER, Scorers
from ..rl.signals.signal import Signal
from ..rl.task import TASK_FILE, TaskSpec
from .run_files import LONGEST_JSON
from .run_view import RunView


@dataclass(frozen=True)
class SignalDistances:
    """Distances of the signals that two runs ended with, 0..1; None where one cannot be told.

    Attributes:
        paid: the Pearson distance of what they pay.
        epic: the EPIC distance.
    """

    paid: float | None
    epic: float | None


def signal_distances(one: RunView, other: RunView) -> SignalDistances | None:
    """Return them; None where the runs have different tasks, either has no signal, or nothing is recorded."""
    spec = _task(one)
    mine, theirs = (rows[-1].signal if (rows := view.signals()) else Signal() for view in (one, other))
    if spec is None or spec != _task(other) or not (mine.terms and theirs.terms):
        return None
    recorded = _recorded(one, spec)
    if recorded is None:
        return None
    trainer = one.config["trainer"]
    gamma = float(trainer[trainer["algorithm"]]["gamma"])
    comparison = SignalComparison(spec, recorded, Signal(), spec.return_range, Scorers(one.path / FOLDER))
    return SignalDistances(comparison.distance(mine, theirs), comparison.epic_distance(mine, theirs, gamma))


def _task(view: RunView) -> TaskSpec | None:
    """Return the task of a run; None of a run of an older version."""
    try:
        return TaskSpec.model_validate_json(file_inside(view.path, TASK_FILE, LONGEST_JSON).read_bytes())
    except (OSError, ValidationError):
        return None


def _recorded(view: RunView, spec: TaskSpec) -> TransitionSample | None:
    """Return what the newest snapshot has recorded."""
    files: list[Path] = sorted((view.path / "checkpoints").glob("*/recorded.safetensors"), reverse=True)
    for path in files[:1]:
        try:
            return TransitionSample.load(path, spec)
        except SnapshotError:
            return None
    return None
