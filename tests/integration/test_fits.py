"""A whole run in which credit is unclear: episodes are played, their returns decomposed, and what comes of it tried."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cosignal
import psutil
import pytest
from cosignal import RunConfig, RunView
from cosignal.graphs.nodes.fit_signals import TITLES
from cosignal.rl.signals.scorer import Scorers
from cosignal.rl.signals.terms import DecompositionTerm, TableTerm
from cosignal.runs.events import Event
from cosignal.runs.report import cost
from cosignal.testing import ScriptedChatModel
from markupsafe import escape
from short_runs import SHORT, family, plain, start_run, story, the_run

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


# ---------------------------------------------------------------- all kinds, and a process that is killed

EVERY_KIND = {
    "return_decomposition": {"enabled": True, "episodes": 32, "max_epochs": 5, "least_explained": 0.0},
    "named_states": {"enabled": True, "episodes": 32},
    "step_rewards": {"enabled": True, "episodes": 48, "max_epochs": 5, "clone_epochs": 1, "least_accuracy": 0.0},
}


# no model, so that a run of the command line can have them
JUDGED_BY_OUTCOME = {
    "message_hash": {"enabled": True, "judge": "outcome"},
    "message_classifier": {"enabled": True, "judge": "outcome", "least_accuracy": 0.0},
    "message_ranking": {"enabled": True, "judge": "outcome", "least_accuracy": 0.0},
    "progress": {"enabled": True, "judge": "outcome", "questions": 200, "least_explained": 0.0},
    "goal_similarity": {"enabled": True},
}


async def test_all_kinds_are_fitted_to_the_same_episodes_and_told_on_the_page(tmp_path: Path) -> None:
    settings = config(tmp_path).model_dump(mode="json")
    settings["learned_signals"] = EVERY_KIND
    settings["adaptation"]["candidates"] = 4
    view, _ = await played(RunConfig.model_validate(settings))
    point = view.fits()[0].point
    fits = {row.kind: row for row in view.fits() if row.point == point}
    assert list(fits) == ["named_states", "return_decomposition", "step_rewards"]  # the table's order
    assert {row.detail.episodes for row in fits.values()} == {48}
    assert [bool(row.steps) for row in fits.values()] == [False, True, False]  # what was played is counted once
    offered = [row for row in view.proposals() if row.point == point and row.proposal.title in TITLES.values()]
    found = {row.proposal.title for row in offered}
    assert found == {TITLES[row.kind] for row in fits.values() if row.detail.problem is None}
    assert [row.problems for row in offered] == [[]] * len(offered)
    page = (view.path / "report.html").read_text(encoding="utf-8")
    assert "Named states, fitted" in page
    assert "It pays with a correlation of" in page
    [table] = fits["named_states"].detail.terms
    assert isinstance(table, TableTerm)
    assert all(f"<code>{escape(row.when)}</code>" in page for row in table.rows)


def test_a_run_with_every_kind_that_is_killed_while_it_fits_ends_as_if_never_killed(tmp_path: Path) -> None:
    stories = []
    for name, killed in (("whole", False), ("killed", True)):
        folder = tmp_path / name
        folder.mkdir()
        fitted = {**EVERY_KIND, **JUDGED_BY_OUTCOME}
        short = {**SHORT, "trainer": {**SHORT["trainer"], "steps": 5_120}, "learned_signals": fitted}
        short["adaptation"] = {**SHORT["adaptation"], "candidates": 8}
        short["gate"] = {**SHORT["gate"], "level": 0.49}
        made = RunConfig.model_validate({**short, "run_dir": folder / "runs"})
        (folder / "config.json").write_text(made.resolved_json())
        where = folder / "config.json"
        if killed:
            process = start_run(where)
            assert process.stdout is not None
            seen = next((line for line in process.stdout if "diagnosis" in line), None)
            assert seen is not None
            time.sleep(0.5)  # the process that fits has begun
            everything = family(process)
            for member in everything:
                if member.is_running():
                    member.kill()
            psutil.wait_procs(everything, timeout=10)
            process.communicate()
            assert RunView(the_run(where)).state() != "done"
        process = start_run(where, "--resume")
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
        view = RunView(the_run(where))
        stories.append(story(where) | {"fits": plain(view.fits())})
    whole, again = stories
    assert whole["fits"]
    for name, value in whole.items():
        assert again[name] == value, name
