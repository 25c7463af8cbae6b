"""A promotion that harms, in real processes: the monitor rolls it back, and the run is where it was before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cosignal
import pytest
from cosignal.runs.events import RolledBack
from cosignal.runs.timeline import timeline
from cosignal.testing import ScriptedChatModel
from cosignal.testing.answers import DIAGNOSIS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
INTERVAL = 5_120  # main steps, an evaluation at each point
POINT = 80  # update, of 256 steps; the first point with 20 000 steps behind it

HARM = {
    "title": "Stay away from the switches",
    "reason": "It is meant to harm.",
    "addresses": ["subgoal_never_reached"],
    "beta": 2.0,
    "terms": [{"name": "away", "kind": "potential", "expression": "dist_nearest_open_switch / 10"}],
}
CONFIG: dict[str, Any] = {
    "seed": 2,
    "task": {"name": "two_switch", "n_max": 30},
    "trainer": {
        "steps": 60_000,
        "envs": 16,
        "rollout": 16,
        "evaluation": {"every_steps": INTERVAL, "episodes": 32},
    },
    "adaptation": {"gated": False, "interval": INTERVAL, "patience": 20_000, "candidates": 1, "rounds": 1},
    "branches": {"horizon": 512},
    "gate": {"margin": 0.01, "level": 0.2, "looks": [4]},
}


async def test_a_harmful_promotion_is_rolled_back_and_the_run_is_where_it_was(tmp_path: Path) -> None:
    config = cosignal.RunConfig.model_validate({**CONFIG, "run_dir": tmp_path})
    chats = {
        "critic": ScriptedChatModel(script=[DIAGNOSIS, *["no answer"] * 40]),
        "generator": ScriptedChatModel(script=[json.dumps({"proposals": [HARM]})]),
    }
    async with cosignal.start(config, chat_models=chats) as run:  # type: ignore[arg-type]
        events = [event async for event in run.events()]
        result = await run.result()
    [event] = [event for event in events if isinstance(event, RolledBack)]
    assert (event.proposal, event.undone, event.version) == (f"p{POINT}-r0-0", 1, 2)
    assert (result.state, result.promotions, result.status["rollbacks"]) == ("done", 1, 1)

    view = cosignal.RunView(result.path)
    log = [(row.version, row.cause, [term.name for term in row.signal.terms]) for row in view.signals()]
    assert log == [(0, "start", []), (1, "promotion", ["away"]), (2, "rollback", [])]
    promoted, undone = (row.applied_update for row in view.signals()[1:])
    returns = {
        row["update"]: row["evaluation_return"] for row in view.metrics() if row["evaluation_return"] is not None
    }
    assert promoted == POINT
    assert returns[undone] < returns[promoted] - 0.05  # the margin
    assert returns[undone + 1] == returns[promoted]  # same policy, same evaluation seeds
    steps = {row["update"]: row["steps"] for row in view.metrics()}
    assert (steps[undone], steps[undone + 1]) == (256 * undone, 256 * promoted)  # the state before, with its own steps
    trained = [row["steps_trained"] for row in view.metrics()]
    assert trained == sorted(trained)
    assert trained[-1] == steps[max(steps)] + 256 * (undone - promoted)
    assert "is undone by v2" in next(moment.text for moment in timeline(view) if moment.kind == "rollback")
    page = (result.path / "report.html").read_text()
    assert "1 promoted, 1 rolled back" in page
