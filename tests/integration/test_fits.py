"""A whole run in which credit is unclear: episodes are played, their returns decomposed, and what comes of it tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cosignal
import pytest
from cosignal import RunConfig, RunView
from cosignal.rl.signals.scorer import Scorers
from cosignal.rl.signals.terms import DecompositionTerm
from cosignal.runs.events import Event
from cosignal.runs.report import cost
from cosignal.testing import ScriptedChatModel
from short_runs import SHORT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

UNCLEAR = json.dumps(
    {"findings": [{"failure": "unclear_credit", "cites": ["sparse.spread"], "explanation": "Who earned it?"}]}
)


def config(folder: Path, **decomposition: Any) -> RunConfig:
    adaptation = {**SHORT["adaptation"], "patience": 2_560, "max_share": 0.9}
    settings = {"enabled": True, "episodes": 32, "max_epochs": 5, "least_explained": 0.0, **decomposition}
    short = {**SHORT, "trainer": {**SHORT["trainer"], "steps": 3_840}}
    return RunConfig.model_validate(
        {**short, "run_dir": folder, "adaptation": adaptation, "learned_signals": {"return_decomposition": settings}}
    )


async def played(config: RunConfig) -> tuple[RunView, list[Event]]:
    async with cosignal.start(config, chat_models={"critic": ScriptedChatModel(script=[UNCLEAR] * 40)}) as run:
        events = [event async for event in run.events()]
        await run.result()
    return RunView(run.path), events


async def test_shares_in_the_return_become_a_term_that_the_gate_judges(tmp_path: Path) -> None:
    view, events = await played(config(tmp_path, max_epochs=60))
    fit = view.fits()[0]
    assert (fit.kind, fit.detail.problem, list(fit.detail.scorers)) == ("return_decomposition", None, ["0"])
    assert fit.steps > 0
    assert sum(fit.detail.shares.values()) == pytest.approx(1, abs=0.01)
    scorer = Scorers(view.path / "scorers").get(fit.detail.scorers["0"])
    offered = next(row for row in view.proposals() if row.point == fit.point)
    [term] = offered.proposal.terms
    assert isinstance(term, DecompositionTerm)
    assert term.scorer == scorer.name
    assert offered.problems == []
    assert offered.id in {row.arm for row in view.branches()}
    assert {event.kind for event in events} >= {"signal_fitted", "proposal_made"}
    page = (view.path / "report.html").read_text(encoding="utf-8")
    assert "decomposition share_0: network" in page
    assert "Return decomposition, fitted" in page
    # what was played is counted
    spent = cost(view)
    assert sum(part.steps for part in spent.parts) == spent.total == view.steps_total()
    assert next(part.steps for part in spent.parts if part.kind == "pairs") == sum(row.steps for row in view.fits())


async def test_what_explains_too_little_is_told_and_not_proposed(tmp_path: Path) -> None:
    view, _ = await played(config(tmp_path, least_explained=1.0))
    fit = view.fits()[0]
    assert fit.detail.explained is not None
    assert not any(term.kind == "decomposition" for row in view.proposals() for term in row.proposal.terms)
