"""Where nothing is accepted, a run that keeps its controls is plain training of the same seed, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cosignal
import numpy as np
import pytest
from cosignal import RunConfig, RunView
from cosignal.testing import ScriptedChatModel
from cosignal.testing.answers import DIAGNOSIS, proposal, proposals
from safetensors.numpy import load_file
from short_runs import SHORT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

STRICT = {
    "claim": "signal",
    "level": 0.1,
    "margin": 0.9,
    "looks": [5],
}  # nothing is ever worth 90 % of the return range


async def trained(folder: Path, **changes: Any) -> RunView:
    """No kick is proposed, so that every control is the main line."""
    config = RunConfig.model_validate({**SHORT, "run_dir": folder, "gate": STRICT, **changes})
    idea, other = proposal("door", "-dist_door / 9"), proposal("goal", "-dist_goal / 17")
    models = {"critic": ScriptedChatModel(script=[DIAGNOSIS] * 9)}
    models["generator"] = ScriptedChatModel(script=[proposals(idea), proposals(other)] * 5)
    async with cosignal.start(config, chat_models=models) as run:
        result = await run.result()
    assert result.state == "done"
    return RunView(run.path)


def final_state(view: RunView) -> dict[str, np.ndarray]:
    """Networks, optimiser, environments, episodes, recordings: all arrays of the last snapshot."""
    last = max((view.path / "checkpoints").glob("update_*"))
    return load_file(last / "state.safetensors")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    def equal(a: np.ndarray, b: np.ndarray) -> bool:
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")

    return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)


def final_evaluation(view: RunView) -> tuple[float, float]:
    last = view.metrics()[-1]
    return last["evaluation_return"], last["evaluation_success"]


async def test_nothing_accepted_is_as_if_nobody_had_looked(tmp_path: Path) -> None:
    plain = await trained(tmp_path / "plain", adaptation={"enabled": False})
    kept = await trained(tmp_path / "kept", branches={**SHORT["branches"], "horizon": 1_000})
    verdicts = [row.verdict for row in kept.decisions()]
    assert len(verdicts) >= 3
    assert "accept" not in verdicts
    steps = [row.detail.kept_control for row in kept.decisions() if row.detail.kept_control is not None]
    assert steps == [1_024] * len(verdicts)  # eight updates of 128

    assert same(final_state(kept), final_state(plain))
    assert final_evaluation(kept) == final_evaluation(plain)
    assert kept.counters()["steps_main"] == plain.counters()["steps_main"] == "12800"
    assert kept.counters()["steps_trained"] == str(12_800 - sum(steps))
    assert [row.cause for row in kept.signals()] == ["start"] + ["control"] * len(steps)
    # its steps were not run again: the updates of a kept control have no row of their own, but for its last one
    assert len(kept.metrics()) == len(plain.metrics()) - sum(steps) // 128 + len(steps)
