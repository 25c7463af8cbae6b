from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cosignal.errors import SnapshotError
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.task import TaskSpec
from safetensors.numpy import load_file, save_file


@pytest.mark.parametrize(("n", "ends"), [(5, 4), (0, 0)])
def test_save_and_load(
    tmp_path: Path, spec: TaskSpec, record: Callable[..., TransitionSample], n: int, ends: int
) -> None:
    recorded = record(n, ends=ends)
    recorded.save(tmp_path / "r.safetensors")
    again = TransitionSample.load(tmp_path / "r.safetensors", spec)
    for name in ("features", "last_features", "events", "end_features"):
        for a, b in zip(getattr(recorded, name), getattr(again, name), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(recorded.terminated, again.terminated)
    np.testing.assert_array_equal(recorded.end_success, again.end_success)


def test_what_cannot_be_read_is_a_snapshot_error(
    tmp_path: Path, spec: TaskSpec, record: Callable[..., TransitionSample]
) -> None:
    path = tmp_path / "r.safetensors"
    with pytest.raises(SnapshotError, match="cannot be read"):
        TransitionSample.load(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(SnapshotError, match="cannot be read"):
        TransitionSample.load(path)
    record(5).save(path)
    arrays = load_file(path)
    save_file({k: v for k, v in arrays.items() if k != "events.1"}, path)
    with pytest.raises(SnapshotError, match=r"lack 'events.1'"):
        TransitionSample.load(path)
    save_file(arrays | {"terminated": np.zeros(4, bool)}, path)
    with pytest.raises(SnapshotError, match="4 transitions"):
        TransitionSample.load(path)


def test_recordings_of_another_task_are_refused(
    tmp_path: Path, spec: TaskSpec, record: Callable[..., TransitionSample]
) -> None:
    path = tmp_path / "r.safetensors"
    record(5).save(path)
    fewer = spec.model_copy(update={"groups": spec.groups[:1]})
    with pytest.raises(
        SnapshotError, match=r"\[\(2, 2, 2\)\] per group as task 'made_up', got \[\(2, 2, 2\), \(1, 2, 1\)\]"
    ):
        TransitionSample.load(path, fewer)
