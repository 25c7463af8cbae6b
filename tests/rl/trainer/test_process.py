"""The trainer in this process: what it counts, what it logs of a promotion, and its two clocks."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cosignal.rl.branches.run_branch import run_branch
from cosignal.rl.ipc import messages as m
from cosignal.rl.ipc.launcher import error_message
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.trainer import process as trainer_module
from cosignal.rl.trainer.database import read_counter, read_signals
from cosignal.rl.trainer.process import Trainer
from cosignal.rl.training.checkpoint import load_snapshot
from cosignal.rl.training.config import TrainingConfig
from cosignal.rl.training.line import TrainingLine
from scripted_trainer import Ask, Script, run_scripted
from training_lines import UPDATE, assert_same_state, small_config

NEAR = {"name": "near", "kind": "potential", "expression": "-dist_nearest_open_switch / 12"}


@contextmanager
def trainer(run_dir: Path, config: TrainingConfig | None = None) -> Iterator[Trainer]:
    """Started, and left without a checkpoint, as a killed one leaves."""
    run_dir.mkdir(exist_ok=True)
    (run_dir / "training.json").write_text((config or small_config()).model_dump_json())
    found = Trainer(run_dir)
    found.start()
    yield found
    found.write_counters()
    found.main.close()
    found.server.close()


def updates(found: Trainer, number: int) -> None:
    for _ in range(number):
        found.main.update()


def test_steps_trained_again_after_a_crash_are_counted_apart_and_once(tmp_path: Path) -> None:
    with trainer(tmp_path) as first:
        updates(first, 5)
    with trainer(tmp_path) as second:
        assert second.main.steps_repeated == 0  # nothing has been trained again yet
        updates(second, 3)
        assert second.main.steps_repeated == 3 * UPDATE
    with trainer(tmp_path) as third:
        updates(third, 7)  # 5 again, and 2 new ones
        assert third.main.steps_repeated == 3 * UPDATE + 5 * UPDATE
        assert third.main.line.steps_main == 7 * UPDATE
    assert read_counter(tmp_path / "trainer.db", "steps_repeated") == str(8 * UPDATE)


def test_an_adopted_state_brings_its_signal_without_another_kick(tmp_path: Path) -> None:
    with trainer(tmp_path) as found:
        updates(found, 2)
        found.main.checkpoint()
        fork, shaped = "checkpoints/update_000000002", Signal.model_validate({"terms": [NEAR]})
        job = m.BranchJob(
            key="k", fork=fork, start=fork, arm="p", signal=shaped, exploration=Exploration(entropy=0.03, kick=0.5),
            seed=1, horizon=3 * UPDATE, evaluation_seed=3, evaluation_episodes=4, end_state="branches/k",
        )  # fmt: skip
        result = run_branch(TrainingLine(small_config()), tmp_path, job)
        asked = result.signal.model_copy(update={"exploration": job.exploration})
        reply = found.handle(m.Promote(key="p", base_version=0, signal=asked, adopt="branches/k"))
        assert reply == m.PromoteReply(version=1, applied_at_update=2, steps_main=5 * UPDATE, repeated=False)
        updates(found, 1)  # asked again later, it answers what was so then
        again = found.handle(m.Promote(key="p", base_version=0, signal=asked, adopt="branches/k"))
        assert again == m.PromoteReply(version=1, applied_at_update=2, steps_main=5 * UPDATE, repeated=True)
        line = found.main.line
        assert (line.update_index, line.steps_main, line.steps_trained) == (6, 6 * UPDATE, 3 * UPDATE)
        assert line.signal.exploration == Exploration(entropy=0.03)  # the branch has had the kick
        assert (line.signal.version, line.signal.scale) == (1, result.signal.scale)


def test_a_signal_without_a_scale_is_logged_with_the_scale_it_gets(tmp_path: Path) -> None:
    with trainer(tmp_path) as found:
        updates(found, 3)
        found.handle(m.Promote(key="p", base_version=0, signal=Signal.model_validate({"terms": [NEAR]})))
        assert found.main.line.signal.scale is not None
        assert read_signals(tmp_path / "trainer.db")[1].signal.scale == found.main.line.signal.scale


def test_the_signal_of_a_config_may_kick_at_the_start() -> None:
    plain = TrainingLine(small_config())
    kicked = small_config()
    kicked = kicked.model_copy(
        update={"signal": kicked.signal.model_copy(update={"exploration": Exploration(kick=0.5)})}
    )
    one, other = (line.learner.networks[0].actor.layers[-1].weight.detach() for line in (plain, TrainingLine(kicked)))
    assert (other == one * 0.5).all()


# ------------------------------------------------------------ looks


def overlap(**trainer: int) -> TrainingConfig:
    return small_config(**trainer).model_copy(update={"clock": "overlap"})


def seen(found: Trainer) -> m.LookReply:
    reply = found.handle(m.Look())
    assert isinstance(reply, m.LookReply)
    return reply


def snapshots(run_dir: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("update_")) for path in (run_dir / "checkpoints").iterdir())


def test_a_look_is_one_instant_and_its_snapshot_continues_it(tmp_path: Path) -> None:
    with trainer(tmp_path, overlap()) as found:
        updates(found, 5)
        look = seen(found)
        assert (look.status.update, look.status.snapshot) == (5, "checkpoints/update_000000005")
        assert (look.status.steps_main, look.evidence.steps) == (5 * UPDATE, 5 * UPDATE)
        assert look.status.waiting_at is None
        fork = TrainingLine(overlap())
        load_snapshot(fork, tmp_path / look.status.snapshot)
        updates(found, 2)
        fork.update()
        fork.update()
        assert_same_state(fork, found.main.line)
        status = found.handle(m.GetStatus())
        assert isinstance(status, m.TrainerStatus) and status.snapshot is None  # only a look has one


def test_at_a_waiting_point_a_look_names_the_snapshot_of_the_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script([(4, lambda _: m.Look()), (4, lambda _: m.GetStatus())])
    run_scripted(tmp_path, small_config(), script, monkeypatch)
    look, status = script.replies
    assert isinstance(look, m.LookReply)
    assert look.status == status
    assert (look.status.snapshot, look.status.waiting_at) == ("checkpoints/update_000000004", 4)


def test_a_snapshot_that_was_looked_at_lives_until_two_later_looks_also_over_a_restart(tmp_path: Path) -> None:
    config = overlap(checkpoint_every_steps=UPDATE)
    with trainer(tmp_path, config) as found:
        updates(found, 2)
        seen(found)
        updates(found, 5)
        seen(found)
    with trainer(tmp_path, config) as found:
        updates(found, 5)
        assert {2, 7} < set(snapshots(tmp_path))
        seen(found)
        updates(found, 5)
        assert snapshots(tmp_path) == [2, 7, 12, 15, 16, 17]
        seen(found)
        assert snapshots(tmp_path) == [7, 12, 15, 16, 17]


def test_as_many_looks_are_kept_as_the_config_says(tmp_path: Path) -> None:
    with trainer(tmp_path, overlap(keep_looks=5)) as found:
        for _ in range(7):
            updates(found, 2)
            seen(found)
        assert snapshots(tmp_path) == [6, 8, 10, 12, 14]


# ------------------------------------------------------------ the overlap clock


def test_an_overlap_trainer_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes its points with a wake-up each, and ends as a line that nobody watches."""
    monkeypatch.setattr(trainer_module, "PUBLISH_S", 1e9)
    script = Script([])
    found = run_scripted(tmp_path, overlap(), script, monkeypatch)
    alone = TrainingLine(overlap())
    for _ in range(20):
        alone.update()
    assert_same_state(found.main.line, alone)
    assert [(said.update, said.waiting_at, said.state) for said in script.said] == [
        *((update, None, "training") for update in (4, 8, 12, 16)), (20, None, "finished"),
    ]  # fmt: skip


def test_a_change_ends_the_boundary_so_that_the_next_look_has_it_in_its_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks: list[Ask] = [
        (5, lambda _: m.Promote(key="p", base_version=0, signal=Signal.model_validate({"terms": [NEAR]}))),
        (5, lambda _: m.Look()),
    ]
    script = Script(asks)
    run_scripted(tmp_path, overlap(), script, monkeypatch)
    look = script.replies[1]
    assert isinstance(look, m.LookReply)
    assert (look.status.update, look.status.signal.version) == (6, 1)
    fork = TrainingLine(overlap())
    load_snapshot(fork, tmp_path / str(look.status.snapshot))
    assert fork.signal == look.status.signal


def test_an_overlap_trainer_whose_loop_is_gone_goes_on_for_a_while_and_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on ten seconds an update: gone at update 3, missed from then on for thirty seconds."""
    asks: list[Ask] = [(3, lambda _: m.Hello(pid=2**22 + 1))]  # above the largest pid: nobody
    script = Script(asks)
    (tmp_path / "training.json").write_text(overlap().model_dump_json())
    monkeypatch.setattr(trainer_module, "TrainerServer", lambda _: script)
    found = Trainer(tmp_path)
    monkeypatch.setattr(trainer_module.time, "monotonic", lambda: 10.0 * found.main.line.update_index)
    found.run()
    assert found.main.line.update_index == 7
    assert read_counter(tmp_path / "trainer.db", "state") == "stopping"
    assert snapshots(tmp_path)[-1] == 7


# ------------------------------------------------------------ what it says


def test_the_status_has_the_last_evaluation_as_it_was_made(tmp_path: Path) -> None:
    config = small_config(evaluation={"every_steps": 2 * UPDATE, "episodes": 5})
    with trainer(tmp_path, config) as found:
        updates(found, 2)
        found.handle(m.Promote(key="p", base_version=0, signal=Signal.model_validate({"terms": [NEAR]})))
        updates(found, 1)
        status = found.handle(m.GetStatus())
        assert isinstance(status, m.TrainerStatus)
        report = status.evaluation
        assert report is not None
        assert (report.steps, report.version, report.episodes) == (2 * UPDATE, 0, 5)
        assert (status.sparse_return, status.success_rate) == (report.mean, report.success_rate)
        found.main.checkpoint()
    with trainer(tmp_path, config) as again:
        status = again.handle(m.GetStatus())
        assert isinstance(status, m.TrainerStatus)
        assert status.evaluation == report


def test_the_seam_is_paid_for_by_the_thread_that_serves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two CPU seconds for every answer and one for every wake-up, by a made-up clock."""
    now = [0.0]
    script = Script([(update, lambda _: m.GetStatus()) for update in (1, 2, 3)])
    poll, publish = script.poll, script.publish

    def slow_poll(handler: Trainer, timeout_ms: int) -> bool:
        asked = len(script.replies)
        found = poll(handler, timeout_ms)
        now[0] += 2.0 * (len(script.replies) - asked)
        return found

    def slow_publish(wakeup: m.Wakeup) -> None:
        publish(wakeup)
        now[0] += 1.0

    monkeypatch.setattr(script, "poll", slow_poll)
    monkeypatch.setattr(script, "publish", slow_publish)
    monkeypatch.setattr("cosignal.rl.trainer.process.time.thread_time", lambda: now[0])
    found = run_scripted(tmp_path, overlap(), script, monkeypatch)
    assert found.cost.serving_s == 2.0 * 3 + 1.0 * len(script.said)
    written = {name: float(read_counter(tmp_path / "trainer.db", name) or -1) for name in ("seam_cpu_s", "cpu_s")}
    assert written["seam_cpu_s"] == found.cost.serving_s - 1.0  # the last wake-up goes out after the counters
    assert written["cpu_s"] > 0


# ------------------------------------------------------------ a loop that is gone


@pytest.mark.parametrize("pause_every_steps", [None, 4 * UPDATE])
@pytest.mark.parametrize("clock", ["lockstep", "overlap"])
def test_a_trainer_whose_loop_is_gone_checkpoints_and_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: str, pause_every_steps: int | None
) -> None:
    """Between two points too, and where nothing adapts."""
    monkeypatch.setattr(trainer_module, "ORPHAN_WAIT_S", -1.0)
    monkeypatch.setattr(trainer_module, "process_is_alive", lambda _: False)
    config = small_config().model_copy(update={"clock": clock, "pause_every_steps": pause_every_steps})
    (tmp_path / "training.json").write_text(config.model_dump_json())
    found = Trainer(tmp_path)
    found.run()
    assert found.main.line.update_index == 1
    assert snapshots(tmp_path) == [1]
    again = Trainer(tmp_path)
    assert again.main.line.update_index == 1
    again.main.close()
    again.server.close()


def test_environments_are_closed_at_the_end_those_of_the_evaluation_too(tmp_path: Path) -> None:
    closed = []
    (tmp_path / "training.json").write_text(small_config().model_dump_json())
    with ExitStack() as closing:
        found = Trainer(tmp_path, closing)
        for task in (found.main.line.task, found.main.evaluator.task):
            task.close = lambda task=task: closed.append(task.num_envs)  # type: ignore[misc]
        found.main.close()
    assert sorted(closed) == [4, 8]
    assert not (tmp_path / "trainer.json").exists()


# ---------------------------------------------------------------- a full disk


def test_a_trainer_whose_disk_is_full_leaves_with_a_status_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    errors: list[Exception] = [
        OSError(errno.ENOSPC, "No space left on device"),
        sqlite3.OperationalError("database or disk is full"),
        FileNotFoundError(errno.ENOENT, "the environment's own file"),
    ]

    def train(*_: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(trainer_module, "one_thread", lambda: None)
    monkeypatch.setattr(trainer_module, "_train", train)
    assert [trainer_module.main(tmp_path, ExitStack()) for _ in range(2)] == [os.EX_IOERR, os.EX_IOERR]
    said = capsys.readouterr().err
    assert error_message(said).count("must be written, but cannot be (database or disk is full)") == 1
    with pytest.raises(FileNotFoundError):
        trainer_module.main(tmp_path, ExitStack())
