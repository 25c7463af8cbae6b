"""Promotion, adoption, rollback and their replay, by the trainer's own loop, under both clocks."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.algorithms.ippo import IPPO
from cosignal.rl.branches.run_branch import run_branch
from cosignal.rl.ipc import messages as m
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.task import splitmix64
from cosignal.rl.trainer.database import read_signals
from cosignal.rl.trainer.process import Trainer
from cosignal.rl.trainer.signal_log import promote
from cosignal.rl.training.checkpoint import load_snapshot, snapshots_of
from cosignal.rl.training.config import TrainingConfig
from cosignal.rl.training.line import TrainingLine
from scripted_trainer import Ask, Script, run_scripted
from training_lines import UPDATE, assert_same_state, small_config

Clock = Literal["lockstep", "overlap"]
CLOCKS: tuple[Clock, ...] = ("lockstep", "overlap")
NEAR = {"name": "near", "kind": "potential", "expression": "-dist_nearest_open_switch / 12", "anneal_steps": 2000}
GOAL = {"name": "goal", "kind": "potential", "expression": "-dist_goal / 26"}


def config(clock: Clock, **trainer: Any) -> TrainingConfig:
    return small_config(**{"checkpoint_every_steps": 3 * UPDATE, **trainer}).model_copy(update={"clock": clock})


def signal(*terms: dict[str, object], **fields: object) -> Signal:
    return Signal.model_validate({"scale": 2.0, "terms": terms, **fields})


def promotion(key: str, base: int, to: Signal) -> Any:
    return lambda _: m.Promote(key=key, base_version=base, signal=to)


def adoption(key: str, base: int, cause: Literal["promotion", "control"] = "promotion") -> Any:
    """Of the end of a branch that runs three updates from the last look."""

    def make(script: Script) -> m.Request:
        look = next(reply for reply in reversed(script.replies) if isinstance(reply, m.LookReply))
        fork, end = look.status.snapshot, f"branches/{key}"
        assert fork is not None
        assert script.trainer is not None
        to = look.status.signal if cause == "control" else signal(NEAR, beta=0.7)
        job = m.BranchJob(
            key=key, fork=fork, start=fork, arm="p", signal=to, exploration=Exploration(),
            seed=0 if cause == "control" else 1, horizon=3 * UPDATE, evaluation_seed=3, evaluation_episodes=4,
            end_state=end,
        )  # fmt: skip
        result = run_branch(TrainingLine(small_config()), script.trainer.run_dir, job)
        return m.Promote(key=key, base_version=base, signal=result.signal, adopt=end, cause=cause)

    return make


def rollback(key: str, base: int) -> Any:
    return lambda _: m.Rollback(key=key, base_version=base)


def look(_: Script) -> m.Request:
    return m.Look()


STORY: list[Ask] = [
    (4, promotion("a", 0, signal(NEAR))),
    (8, look),
    (8, adoption("b", 1)),
    (12, promotion("c", 2, signal(GOAL, exploration={"kick": 0.5}))),
    (16, rollback("d", 3)),
]


def rows(run_dir: Path) -> list[tuple[int, dict[str, Any]]]:
    connection = sqlite3.connect(run_dir / "trainer.db")
    found = connection.execute("SELECT update_index, data FROM metrics ORDER BY update_index").fetchall()
    connection.close()
    return [(update, json.loads(data)) for update, data in found]


# ------------------------------------------------------------ any crash, the same run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Clock, Trainer]:
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for clock in CLOCKS:
            folder = tmp_path_factory.mktemp(clock) / "run"
            found[clock] = run_scripted(folder, config(clock), Script(STORY), patch)
    return found


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(
    "kills",
    [
        {(4, "after")},  # the promotion is on disk, no later snapshot is
        {(8, "after"), (10, "after")},
        {(6, "after"), (12, "after"), (13, "after"), (14, "after")},
        {(16, "after"), (17, "after"), (18, "after"), (19, "after")},
        {(4, "before"), (8, "before"), (12, "before"), (16, "before")},
    ],
)
def test_a_run_that_was_killed_ends_as_the_one_that_was_not(
    whole: dict[Clock, Trainer],
    clock: Clock,
    kills: set[tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if clock == "overlap":  # a restarted trainer serves after its first update: who was not heard is heard later
        kills = {kill for kill in kills if kill[1] == "after"} or {(5, "after")}
    one, script = whole[clock], Script(STORY, kills)
    other = run_scripted(tmp_path / "run", config(clock), script, monkeypatch)
    # the other clock stands at other updates: a kill that never came is none
    assert len(script.kills) < len(kills)
    assert_same_state(one.main.line, other.main.line)
    assert rows(one.run_dir) == rows(other.run_dir)
    logs = [read_signals(found.run_dir / "trainer.db") for found in (one, other)]
    assert logs[0] == logs[1]
    assert (one.main.evaluation, one.main.steps_evaluation) == (other.main.evaluation, other.main.steps_evaluation)


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_log_is_replayed_from_however_far_back(
    whole: dict[Clock, Trainer], clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where every snapshot of the line but the oldest is lost, at points and between them."""
    one, script = whole[clock], Script(STORY, {(18, "after") if clock == "overlap" else (16, "after")})

    def lose(run_dir: Path) -> None:
        for snapshot in snapshots_of(run_dir / "checkpoints")[:-1]:
            shutil.rmtree(snapshot)

    other = run_scripted(tmp_path / "run", config(clock), script, monkeypatch, after_kill=lose)
    assert not script.kills
    assert_same_state(one.main.line, other.main.line)
    assert rows(one.run_dir) == rows(other.run_dir)
    assert other.main.steps_repeated >= 9 * UPDATE


@pytest.mark.parametrize("clock", CLOCKS)
def test_versions_updates_and_trained_steps_only_rise(whole: dict[Clock, Trainer], clock: Clock) -> None:
    found = whole[clock]
    log = read_signals(found.run_dir / "trainer.db")
    assert [(e.version, e.key, e.cause) for e in log] == [
        (0, "start", "start"), (1, "a", "promotion"), (2, "b", "promotion"), (3, "c", "promotion"),
        (4, "d", "rollback"),
    ]  # fmt: skip
    assert [(e.applied_update, e.applied_steps // UPDATE) for e in log] == [(0, 0), (4, 4), (8, 8), (12, 12), (16, 16)]
    # update 11 is the branch's end, 17 the state of update 12 again
    found_rows = [(u, d["steps_main"] // UPDATE, d["steps_trained"] // UPDATE) for u, d in rows(found.run_dir)]
    assert found_rows == [
        *((u, u, u) for u in range(9)), *((u, u, u - 3) for u in range(11, 17)),
        *((u, u - 5, u - 4) for u in range(17, 26)),
    ]  # fmt: skip
    versions = [data["signal_version"] for _, data in rows(found.run_dir)]
    assert versions == sorted(versions)
    assert found.main.line.steps_main == 20 * UPDATE


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_repeated_request_is_told_the_main_steps_right_after(whole: dict[Clock, Trainer], clock: Clock) -> None:
    found = whole[clock]
    log = read_signals(found.run_dir / "trainer.db")
    adopted = found.handle(m.Promote(key="b", base_version=1, signal=log[2].signal, adopt="branches/b"))
    assert adopted == m.PromoteReply(version=2, applied_at_update=8, steps_main=11 * UPDATE, repeated=True)
    undone = found.handle(m.Rollback(key="d", base_version=3))
    assert undone == m.PromoteReply(version=4, applied_at_update=16, steps_main=12 * UPDATE, repeated=True)


# ------------------------------------------------------------ rollback


@pytest.fixture
def at_boundary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """An overlap trainer that promoted `goal` over `near` at update 6 and went on to update 9."""
    monkeypatch.setattr("cosignal.rl.trainer.process.TrainerServer", lambda _: Script([]))
    (tmp_path / "training.json").write_text(config("overlap").model_dump_json())
    found = Trainer(tmp_path)
    found.start()
    for update in range(1, 10):
        found.main.update()
        if update == 2:
            found.handle(m.Promote(key="near", base_version=0, signal=signal(NEAR)))
        if update == 6:
            found.handle(m.Promote(key="goal", base_version=1, signal=signal(GOAL)))
    return found


def advantages(line: TrainingLine) -> np.ndarray:
    """Of the next rollout, without learning from it."""
    line.step = line.collector.collect(line.learner, line.step)
    rollout, rewards = line.collector.rollout, line.rewards()
    assert isinstance(line.learner, IPPO)
    (batch,) = line.learner.batches(rollout, rewards.shape(rollout), rewards)
    return line.learner.advantages(0, batch)[0].numpy()


def test_a_rollback_restores_weights_and_signal_and_goes_on_at_the_next_update(at_boundary: Trainer) -> None:
    found, line = at_boundary, at_boundary.main.line
    evaluated = found.main.steps_evaluation
    reply = found.handle(m.Rollback(key="undo", base_version=2))
    assert reply == m.PromoteReply(version=3, applied_at_update=9, steps_main=6 * UPDATE, repeated=False)
    assert (line.update_index, line.steps_main, len(line.history)) == (10, 6 * UPDATE, 6)
    assert line.steps_trained == 9 * UPDATE
    before = TrainingLine(config("overlap"))
    load_snapshot(before, found.run_dir / "checkpoints/update_000000006")
    for name, value in before.learner.state_dict().items():
        if name != "generator":
            assert np.array_equal(value, line.learner.state_dict()[name]), name
    assert (line.signal.version, line.signal.parent) == (3, 2)
    assert line.signal.terms == before.signal.terms
    assert line.signal_age == before.signal_age == 4 * UPDATE
    assert line.offsets == before.offsets == []
    assert read_signals(found.run_dir / "trainer.db")[3].adopt == "checkpoints/update_000000006"
    status = found.handle(m.GetStatus())
    assert isinstance(status, m.TrainerStatus)
    assert status.evaluation is not None
    assert (status.evaluation.version, status.evaluation.steps) == (3, 6 * UPDATE)
    assert found.main.steps_evaluation > evaluated
    assert rows_after(found)[10]["adopted"] is True


def test_an_offset_changes_no_advantage_and_what_is_undone_is_the_promotion_before_it(at_boundary: Trainer) -> None:
    found, line = at_boundary, at_boundary.main.line
    before = line.signal
    weaker = before.model_copy(update={"beta": 0.1})
    with pytest.raises(SignalError, match="without some of its potentials"):
        promote(found.main, m.Promote(key="more", base_version=2, signal=weaker, cause="offset"))
    gone = before.model_copy(update={"terms": ()})
    reply = found.handle(m.Promote(key="off", base_version=2, signal=gone, cause="offset"))
    assert isinstance(reply, m.PromoteReply)
    assert (reply.version, line.signal.terms) == (3, ())
    assert [offset.terms for offset in line.offsets[-1:]] == [before.terms]
    assert read_signals(found.run_dir / "trainer.db")[3].cause == "offset"
    undone = found.handle(m.Rollback(key="undo", base_version=3))
    assert isinstance(undone, m.PromoteReply)
    assert [term.name for term in line.signal.terms] == ["near"]
    assert (line.signal.version, line.offsets) == (4, [])
    assert read_signals(found.run_dir / "trainer.db")[4].adopt == "checkpoints/update_000000006"


def rows_after(found: Trainer) -> dict[int, dict[str, Any]]:
    found.main.writer.flush()
    return dict(rows(found.run_dir))


def test_after_a_rollback_the_same_dice_do_not_fall_again_and_nothing_dips(at_boundary: Trainer) -> None:
    """With the same streams, the first advantages are those of the state before, bit for bit."""
    found, line = at_boundary, at_boundary.main.line
    found.handle(m.Rollback(key="undo", base_version=2))
    before, reseeded = TrainingLine(config("overlap")), TrainingLine(config("overlap"))
    for twin in (before, reseeded):
        load_snapshot(twin, found.run_dir / "checkpoints/update_000000006")
    reseeded.reseed(splitmix64(1 ^ 3))
    first = advantages(line)
    assert np.array_equal(first, advantages(reseeded))
    assert not np.array_equal(first, advantages(before))


def test_a_rollback_said_twice_is_done_once(at_boundary: Trainer) -> None:
    found = at_boundary
    first = found.handle(m.Rollback(key="undo", base_version=2))
    found.main.update()
    state = found.main.line.state_dict()[0]
    again = found.handle(m.Rollback(key="undo", base_version=2))
    assert isinstance(first, m.PromoteReply)
    assert again == first.model_copy(update={"repeated": True})
    now = found.main.line.state_dict()[0]
    assert all(np.array_equal(value, now[name], equal_nan=True) for name, value in state.items())  # NaN: not known
    assert len(read_signals(found.run_dir / "trainer.db")) == 4


def test_only_the_promotion_in_force_can_be_undone(at_boundary: Trainer) -> None:
    found = at_boundary
    late = found.handle(m.Rollback(key="late", base_version=1))
    assert isinstance(late, m.ErrorReply)
    assert (late.error, late.message) == ("version_conflict", "version 2 is in force, not 1; propose from it")
    found.handle(m.Rollback(key="undo", base_version=2))
    twice = found.handle(m.Rollback(key="undo the undoing", base_version=3))
    assert isinstance(twice, m.ErrorReply)
    assert twice.error == "bad_request"
    assert "version 3 is of cause 'rollback'; promote another signal instead" in twice.message


def test_a_promotion_can_be_undone_although_controls_were_kept_since(at_boundary: Trainer) -> None:
    """They gave the promoted signal other versions; what is undone is its promotion, and their steps with it."""
    found, line = at_boundary, at_boundary.main.line
    for version in (2, 3):
        request = m.Promote(
            key=f"kept {version}", base_version=version, signal=line.signal, adopt=found.main.look(), cause="control"
        )
        assert isinstance(found.handle(request), m.PromoteReply)
    assert (line.signal.version, [term.name for term in line.signal.terms]) == (4, ["goal"])
    reply = found.handle(m.Rollback(key="undo", base_version=4))
    assert isinstance(reply, m.PromoteReply)
    assert (line.signal.version, line.signal.parent, [term.name for term in line.signal.terms]) == (5, 4, ["near"])
    assert found.main.signal_log[-1].adopt == "checkpoints/update_000000006"


def test_a_rollback_without_the_state_before_changes_nothing(at_boundary: Trainer) -> None:
    found = at_boundary
    (found.run_dir / "checkpoints/update_000000006/state.safetensors").unlink()
    reply = found.handle(m.Rollback(key="undo", base_version=2))
    assert isinstance(reply, m.ErrorReply)
    assert reply.error == "snapshot"
    assert (found.main.line.signal.version, len(found.main.signal_log)) == (2, 3)


def test_a_second_promotion_at_one_boundary_is_undone_to_the_first(at_boundary: Trainer) -> None:
    """The snapshot of the boundary has neither; the log says what was in force between them."""
    found, line = at_boundary, at_boundary.main.line
    found.handle(m.Promote(key="both", base_version=2, signal=signal(NEAR, GOAL)))
    found.handle(m.Promote(key="none", base_version=3, signal=signal()))
    found.handle(m.Rollback(key="undo", base_version=4))
    assert line.signal.version == 5
    assert {term.name for term in line.signal.terms} == {"near", "goal"}
    assert found.main.signal_log[-1].signal.terms == line.signal.terms


# ------------------------------------------------------------ the control


def test_the_control_that_becomes_the_main_line_is_what_the_line_would_have_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Script([(4, look), (4, adoption("k", 0, "control"))])
    adopted = run_scripted(tmp_path / "kept", config("lockstep"), kept, monkeypatch)
    trained = run_scripted(tmp_path / "trained", config("lockstep"), Script([]), monkeypatch)
    assert [e.cause for e in adopted.main.signal_log] == ["start", "control"]
    one, other = adopted.main.line.state_dict(), trained.main.line.state_dict()
    assert all(np.array_equal(value, other[0][name], equal_nan=True) for name, value in one[0].items())
    assert one[1]["history"] == other[1]["history"]
    assert trained.main.line.steps_trained - adopted.main.line.steps_trained == 3 * UPDATE


def test_a_state_that_lies_behind_the_line_sets_back_its_main_steps_and_nothing_else(at_boundary: Trainer) -> None:
    found, line = at_boundary, at_boundary.main.line
    asked = m.Promote(key="old", base_version=2, signal=signal(NEAR), adopt="checkpoints/update_000000006")
    reply = found.handle(asked)
    assert reply == m.PromoteReply(version=3, applied_at_update=9, steps_main=6 * UPDATE, repeated=False)
    assert (line.update_index, line.steps_main, line.steps_trained) == (10, 6 * UPDATE, 9 * UPDATE)
