"""The distances of two runs' signals, on real runs without a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cosignal
import pytest
from cosignal import RunConfig, RunView
from cosignal.rl.task import TASK_FILE
from cosignal.runs.compare_signals import SignalDistances, signal_distances
from cosignal.runs.page.content import comparison
from short_runs import SHORT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NEAR = {"name": "near", "kind": "potential", "expression": "-dist_goal / 17"}


def on(weight: float) -> dict[str, Any]:
    return {"name": "on", "kind": "event", "event": "switch_triggered", "weight": weight}


async def played(folder: Path, seed: int, *terms: dict[str, Any]) -> RunView:
    settings = {**SHORT, "seed": seed, "run_dir": folder, "signal": {"beta": 0.5, "terms": list(terms)}}
    settings["trainer"] = {**SHORT["trainer"], "steps": 2_560}
    settings["adaptation"] = {"enabled": False}
    async with cosignal.start(RunConfig.model_validate(settings)) as run:
        await run.result()
    return RunView(run.path)


async def test_what_turned_the_sign_is_far_and_a_potential_is_near_by_epic(tmp_path: Path) -> None:
    one, turned = await played(tmp_path, 1, NEAR, on(0.1)), await played(tmp_path, 2, on(-0.1))
    bent = await played(tmp_path, 3, on(0.2))
    none = await played(tmp_path, 4)
    assert signal_distances(one, one) == SignalDistances(0.0, 0.0)
    far, near = signal_distances(one, turned), signal_distances(one, bent)
    assert far is not None
    assert near is not None
    assert far.epic == pytest.approx(1, abs=1e-3)
    assert near.epic == pytest.approx(0, abs=1e-3)
    assert near.paid is not None
    assert near.paid > 0.1  # the potential pays differently
    assert comparison(one, bent)["signals"] == near
    assert signal_distances(one, none) is None
    (bent.path / TASK_FILE).write_text("{}")
    assert signal_distances(one, bent) is None
    (bent.path / TASK_FILE).unlink()  # as in runs of older versions
    assert signal_distances(one, bent) is None
