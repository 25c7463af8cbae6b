"""Proposals of a replay on branches: the run's own check, budget and gate, on books of their own."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cosignal.errors import ReplayError, SnapshotError, TrustError
from cosignal.graphs.replay.replay import Changes, replay_call
from cosignal.graphs.replay.validation import Trial
from cosignal.runs.events import BranchFailed, BranchFinished, Event
from cosignal.runs.run_view import RunView
from cosignal.testing import FakeBranchPool, ScriptedChatModel
from cosignal.testing.answers import proposal, proposals
from cosignal.testing.fake_run import FULL
from langchain_core.outputs import ChatResult
from loop_runs import POINT, goal_helps, nothing_helps, scripts
from replays import CRITIC, GENERATOR, files, recorded_run

NEAR_GOAL = proposal("nearer", "-dist_goal / 8", kick=0.05)  # the run's candidates had the same kick
KICKED_HARDER = proposal("harder", "-dist_goal / 8", kick=0.5)
CONSTANT = proposal("nothing", "1", kick=0.05)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("promoted")
    asyncio.run(recorded_run(path, scripts(), goal_helps))
    return path


@pytest.fixture
def run(promoted: Path, tmp_path: Path) -> Path:
    """A run in which `-dist_goal / 17` was accepted, after 5 seeds."""
    return shutil.copytree(promoted, tmp_path / "run")


def answering(*given: object) -> Changes:
    return Changes(chats={"generator": ScriptedChatModel(script=[json.dumps({"proposals": list(given)})])})


def trial(run: Path, events: list[Event] | None = None) -> Trial:
    folder = run / "replays" / "it"
    return Trial(folder, FakeBranchPool(folder, goal_helps), [].append if events is None else events.append)


async def test_the_same_answer_needs_no_branch_and_gets_the_same_verdict(run: Path) -> None:
    before, recorded = files(run), RunView(run)
    again = scripts()["generator"][0]
    replay = await replay_call(
        run, GENERATOR, Changes(chats={"generator": ScriptedChatModel(script=[again])}), trial(run)
    )
    found = replay.validation
    assert found is not None and replay.same_answer
    assert (found.verdict, found.recorded, found.winner) == ("accept", "accept", f"p{POINT}-r0-1")
    [decision] = recorded.decisions()
    assert found.reason == decision.detail.reason
    # the two that were screened only cannot be continued any more, so their two seeds run again
    [screened] = [arm.id for arm in found.arms if arm.verdict == "screened_out"]
    assert screened == f"p{POINT}-r0-2"
    assert (found.branches, found.steps, found.steps_evaluation) == (4, 4 * FULL // 2, 400)
    assert files(run) == before


async def test_a_new_proposal_is_judged_against_the_run_s_own_control(run: Path) -> None:
    events: list[Event] = []
    replay = await replay_call(run, GENERATOR, answering(NEAR_GOAL), trial(run, events))
    found = replay.validation
    assert found is not None
    assert (found.verdict, found.horizon, found.snapshot) == ("accept", FULL, f"checkpoints/update_{POINT:09d}")
    [arm] = found.arms
    assert (arm.title, arm.verdict, arm.seeds) == ("nearer", "accept", [0, 1, 2, 3, 4])
    assert arm.gain == pytest.approx(1.7)
    assert arm.lower is not None and arm.upper is not None and arm.lower <= 1.7 <= arm.upper
    assert "the lower bound clears" in arm.explanation
    # two seeds screened and continued, three fresh ones; the control's 2 + 5 branches are those of the run
    assert (found.branches, found.reused) == (7, 7)
    assert (found.steps, found.steps_evaluation) == (2 * FULL + 3 * FULL, 700)
    assert len([event for event in events if isinstance(event, BranchFinished)]) == 7
    assert {row.arm for row in RunView(run).branches()} <= {"control", *(f"p{POINT}-r0-{i}" for i in range(3))}


async def test_a_proposal_whose_branch_cannot_be_run_is_told_with_its_reason(run: Path) -> None:
    events: list[Event] = []
    asked = trial(run, events)
    asked.executor.fails = lambda job: "no licence" if job.arm != "control" else None  # type: ignore[union-attr]
    replay = await replay_call(run, GENERATOR, answering(NEAR_GOAL), asked)
    found = replay.validation
    assert found is not None
    [arm] = found.arms
    assert (found.verdict, found.winner, arm.verdict, arm.gain) == ("branch_failed", None, "branch_failed", None)
    assert arm.explanation == "seed 0: no licence" and "no licence" in found.reason
    assert [event.reason for event in events if isinstance(event, BranchFailed)] == ["no licence"]


async def test_a_later_round_begins_with_what_was_spent_and_refused_before(tmp_path: Path) -> None:
    await recorded_run(tmp_path, scripts(rounds=2))
    later, again = f"p{POINT}-r1-generator-t0-a0", scripts(rounds=2)["generator"]
    folder = tmp_path / "replays" / "it"
    for answer, verdict in ((again[1], "no_difference"), (again[0], "no_candidate")):  # refused: tried in round 0
        changes = Changes(chats={"generator": ScriptedChatModel(script=[answer])})
        found = (
            await replay_call(tmp_path, later, changes, Trial(folder, FakeBranchPool(folder, nothing_helps)))
        ).validation
        assert found is not None
        assert (found.verdict, found.recorded) == (verdict, "no_difference")
        shutil.rmtree(folder)
    assert any("rejected before" in line for arm in found.arms for line in arm.problems)


async def test_another_exploration_needs_another_control(run: Path) -> None:
    replay = await replay_call(run, GENERATOR, answering(KICKED_HARDER), trial(run))
    found = replay.validation
    assert found is not None
    assert (found.branches, found.reused, found.steps) == (14, 0, 2 * 5 * FULL)


async def test_what_fails_the_checks_has_no_branch(run: Path) -> None:
    replay = await replay_call(run, GENERATOR, answering(CONSTANT), trial(run))
    found = replay.validation
    assert found is not None
    assert (found.verdict, found.branches, found.reused, found.steps) == ("no_candidate", 0, 0, 0)
    [arm] = found.arms
    assert arm.verdict == "refused" and arm.problems


async def test_only_the_books_stay(run: Path) -> None:
    await replay_call(run, GENERATOR, answering(NEAR_GOAL), trial(run))
    kept = {path.name for path in (run / "replays" / "it").iterdir()} - {"loop.db-shm", "loop.db-wal"}
    assert kept == {"loop.db", "training.json"}


async def test_no_valid_answer_has_nothing_to_try(run: Path) -> None:
    chat = ScriptedChatModel(script=["no", "no"])
    replay = await replay_call(run, GENERATOR, Changes(chats={"generator": chat}), trial(run))
    assert (replay.after.valid, replay.validation) == (False, None)
    assert not (run / "replays").exists()


async def test_a_snapshot_that_is_gone_is_told_before_anybody_is_asked(run: Path) -> None:
    shutil.rmtree(run / f"checkpoints/update_{POINT:09d}")
    chat = ScriptedChatModel(script=[proposals(NEAR_GOAL)])
    with pytest.raises(SnapshotError, match=rf"point {POINT} is gone \(kept: .*trainer.keep_looks"):
        await replay_call(run, GENERATOR, Changes(chats={"generator": chat}), trial(run))
    assert chat.seen == []


async def test_a_snapshot_that_cannot_be_read_is_told(run: Path) -> None:
    (run / f"checkpoints/update_{POINT:09d}/state.json").write_text("{}")
    with pytest.raises(SnapshotError, match="must be the state of a snapshot"):
        await replay_call(run, GENERATOR, answering(NEAR_GOAL), trial(run))
    assert not (run / "replays" / "it" / "branches").exists()


async def test_only_proposals_can_be_tried(run: Path) -> None:
    with pytest.raises(ReplayError, match="needs a call of the generator"):
        await replay_call(run, CRITIC, trial=trial(run))


# ---------------------------------------------------------------- what a run directory names


def change(path: Path, section: str, **values: object) -> None:
    data = json.loads(path.read_text())
    data[section].update(values)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("file", ["config.json", "training.json"])
async def test_an_environment_that_nobody_has_allowed_is_not_loaded_and_nobody_is_asked(run: Path, file: str) -> None:
    change(run / file, "task", name=None, env="subprocess:getoutput", env_args={"cmd": f"touch {run}/pwned"})
    chat = ScriptedChatModel(script=[])
    with pytest.raises(TrustError, match="import and call subprocess:getoutput"):
        await replay_call(run, GENERATOR, Changes(chats={"generator": chat}), trial(run))
    assert chat.seen == []
    assert not (run / "pwned").exists()
    assert not (run / "replays").exists()


async def test_branches_train_by_the_file_that_was_looked_at(run: Path) -> None:
    before = json.loads((run / "training.json").read_text())
    seen: list[object] = []

    def look(job: object) -> float:
        seen.append(json.loads((run / "replays" / "it" / "training.json").read_text()))
        return 0.0

    class Chat(ScriptedChatModel):
        async def _agenerate(self, *args: Any, **options: Any) -> ChatResult:
            change(run / "training.json", "task", name=None, env="os:system")  # while the model is asked
            return await super()._agenerate(*args, **options)

    folder = run / "replays" / "it"
    chat = Chat(script=[json.dumps({"proposals": [KICKED_HARDER]})])
    await replay_call(run, GENERATOR, Changes(chats={"generator": chat}), Trial(folder, FakeBranchPool(folder, look)))
    assert seen and all(found == before for found in seen)


async def test_files_that_lie_elsewhere_are_not_taken_along(run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (run / "scorers").symlink_to(tmp_path)
    with pytest.raises(SnapshotError, match="a link leads out of the directory"):
        await replay_call(run, GENERATOR, answering(NEAR_GOAL), trial(run))
