"""Replays of a real run: what its branches had said comes out again, bit for bit, and the run stays as it is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import cosignal
import pytest
from cosignal import RunConfig, RunView
from cosignal.agents.llm.ledger import Place
from cosignal.cli import app
from cosignal.graphs.replay.replay import Changes, replay_call
from cosignal.graphs.replay.validation import RecordedRun, Trial, try_on_branches
from cosignal.runs.trust import read_training
from cosignal.testing import ScriptedChatModel
from cosignal.testing.answers import proposal, proposals
from replays import files
from short_runs import SHORT
from typer.testing import CliRunner

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

GENERATOR = "p10-r0-generator-t0-a0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One intervention, answered by the rules."""
    settings = {**SHORT, "run_dir": tmp_path_factory.mktemp("runs"), "trainer": {**SHORT["trainer"], "steps": 2_560}}
    return asyncio.run(_trained(RunConfig.model_validate(settings)))


async def _trained(config: RunConfig) -> Path:
    async with cosignal.start(config) as run:
        result = await run.result()
    assert result.state == "done"
    return run.path


async def test_branches_run_again_say_the_same(finished: Path) -> None:
    view, before = RunView(finished), files(finished)
    config = RunConfig.load(finished / "config.json")
    # as if the run had had another horizon: then none of its branches is taken over
    other = config.model_copy(update={"branches": config.branches.model_copy(update={"horizon": 1_024})})
    made = [row.proposal for row in view.proposals()]
    run = RecordedRun(finished, other, read_training(finished))
    found = await try_on_branches(run, config, Place(10, 0), made, Trial(finished / "replays" / "again"))

    [decision] = view.decisions()
    assert (found.verdict, found.reason) == (decision.verdict, decision.detail.reason)
    assert {arm.id: (arm.gain, arm.lower, arm.upper, arm.seeds) for arm in found.arms} == {
        arm.arm: (arm.gain, arm.lower, arm.upper, arm.seeds) for arm in decision.detail.arms
    }
    branches = view.branches()
    assert (found.branches, found.reused) == (len(branches), 0)
    assert found.steps == sum(row.result.steps for row in branches)
    assert found.steps_evaluation == sum(row.result.steps_evaluation for row in branches)
    assert files(finished) == before


async def test_a_new_proposal_runs_beside_the_recorded_control(finished: Path) -> None:
    recorded = RunView(finished).proposals()[0]
    kick = recorded.proposal.exploration.kick
    idea = proposal("mate", "-dist_mate / 12", kick=kick)
    changes = Changes(chats={"generator": ScriptedChatModel(script=[proposals(idea)])})
    replay = await replay_call(finished, GENERATOR, changes, Trial(finished / "replays" / "new"))
    found = replay.validation
    assert found is not None and replay.rebuilt.same
    # Two seeds screened, then one more judged, after which no seed could change the verdict; the control's likewise.
    assert (found.branches, found.reused) == (5, 5)
    assert found.steps == 3 * 512
    assert found.arms[0].seeds == [0, 1, 2]


def test_on_the_command_line(finished: Path) -> None:
    result = CliRunner().invoke(app, ["replay", str(finished), GENERATOR, "--validate", "--json"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["rebuilt"]["same"], told["same_answer"]) == (True, True)
    [decision] = RunView(finished).decisions()
    assert told["validation"]["verdict"] == told["validation"]["recorded"] == decision.verdict
