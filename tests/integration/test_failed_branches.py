"""A real run whose environment cannot be replayed, and ends its process in branches, trains to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cosignal
from cosignal import RunConfig, RunView
from cosignal.runs import events
from short_runs import SHORT


async def test_a_run_goes_on_without_its_branches_and_says_why(tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "task": {"env": "unreplayable:CountsItsEpisodes"},
        "trainer": {**SHORT["trainer"], "steps": 2_560},
    }
    told: list[Any] = []
    async with cosignal.start(RunConfig.model_validate({**SHORT, **more, "run_dir": tmp_path})) as run:
        async for event in run.events():
            told.append(event)
        result = await run.result()
    assert (result.state, result.steps_main >= 2_560) == ("done", True)

    [warned] = [event for event in told if isinstance(event, events.Warned)]
    assert "'shifted' came out different: agent 'a' observes" in warned.message
    failed = [event for event in told if isinstance(event, events.BranchFailed)]
    assert failed and failed[0].arm == "control"
    assert "ended (exit status 3) 3 times; its last words: no licence left" in failed[0].reason
    view = RunView(result.path)
    assert {row.verdict for row in view.decisions() if row.detail.failed} == {"branch_failed"}
    assert view.status()["branches_lost"] == len(failed)
    assert view.status()["warnings"] == [warned.message]
    report = (result.path / "report.html").read_text()
    assert "no licence left" in report and "take all randomness from reset(seed)" in report
    assert (result.path / "log.jsonl").read_text().count('"event": "warned"') == 1
