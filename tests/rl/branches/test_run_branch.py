"""Branches: the control is the main run's own continuation, seeds differ, extensions continue."""

import errno
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from cosignal.errors import BranchError, ReplayDiffers, SignalError, SnapshotError
from cosignal.rl.branches import worker as worker_module
from cosignal.rl.branches.run_branch import run_branch, start_arm
from cosignal.rl.branches.run_evaluation import EVALUATORS
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.ipc.messages import BranchFailure, BranchJob, ErrorReply
from cosignal.rl.signals.config import SignalConfig
from cosignal.rl.signals.signal import Exploration, Signal
from cosignal.rl.training.checkpoint import load_snapshot, save_snapshot
from cosignal.rl.training.line import TrainingLine
from training_lines import UPDATE, assert_same_state, small_config, trained

SHAPED = Signal.model_validate(
    {"version": 1, "terms": [{"name": "near", "kind": "potential", "expression": "-dist_nearest_open_switch / 12"}]}
)


def job(arm: str, signal: Signal, seed: int, updates: int, start: str = "fork", **fields: object) -> BranchJob:
    end = f"branches/{arm}-{seed}-{updates}"
    known = {
        "key": end,
        "fork": "fork",
        "start": start,
        "arm": arm,
        "signal": signal,
        "seed": seed,
        "horizon": updates * UPDATE,
    }
    known |= {"exploration": Exploration(), "evaluation_seed": 5, "evaluation_episodes": 4, "end_state": end}
    return BranchJob.model_validate({**known, **fields})


@pytest.fixture
def fork(tmp_path: Path) -> TrainingLine:
    line = trained(small_config(), 4)
    save_snapshot(line, tmp_path / "fork")
    return line


def test_control_with_seed_zero_is_bit_identical_to_the_main_run(fork: TrainingLine, tmp_path: Path) -> None:
    worker = TrainingLine(small_config())
    result = run_branch(worker, tmp_path, job("control", fork.signal, 0, 3))
    for _ in range(3):
        fork.update()
    ended = TrainingLine(small_config())
    load_snapshot(ended, tmp_path / result.end_state)
    assert_same_state(ended, fork)
    assert (result.steps, result.end_update) == (3 * UPDATE, 7)


def test_seeds_and_signals_differ_and_jobs_repeat(fork: TrainingLine, tmp_path: Path) -> None:
    worker = TrainingLine(small_config())
    results = {
        (arm, seed): run_branch(worker, tmp_path, job(arm, signal, seed, 4))
        for arm, signal in (("control", fork.signal), ("p1", SHAPED))
        for seed in (0, 1)
    }
    curves = [tuple(r.curve) for r in results.values()]
    assert len(set(curves)) == 4
    again = run_branch(TrainingLine(small_config()), tmp_path, job("p1", SHAPED, 1, 4))
    assert again.model_dump(exclude={"cpu_s"}) == results["p1", 1].model_dump(exclude={"cpu_s"})
    assert results["p1", 0].signal.scale == results["p1", 1].signal.scale is not None


def test_an_extension_continues_the_end_state(fork: TrainingLine, tmp_path: Path) -> None:
    worker = TrainingLine(small_config())
    short = run_branch(worker, tmp_path, job("p1", SHAPED, 1, 2))
    extended = run_branch(worker, tmp_path, job("p1", SHAPED, 1, 5, start=short.end_state))
    whole = run_branch(worker, tmp_path, job("p1", SHAPED, 1, 5, end_state="branches/whole"))
    assert extended.steps == 3 * UPDATE and whole.steps == 5 * UPDATE
    assert extended.final_return == whole.final_return and extended.curve == whole.curve
    one, other = TrainingLine(small_config()), TrainingLine(small_config())
    load_snapshot(one, tmp_path / extended.end_state)
    load_snapshot(other, tmp_path / whole.end_state)
    assert_same_state(one, other)


def test_the_kick_reaches_every_arm(fork: TrainingLine, tmp_path: Path) -> None:
    worker = TrainingLine(small_config())
    kick = Exploration(kick=0.05)
    plain = run_branch(worker, tmp_path, job("control", fork.signal, 0, 1, exploration=kick))
    assert plain.signal.exploration.kick is None  # given, not kept
    unkicked = run_branch(worker, tmp_path, job("control", fork.signal, 0, 1, end_state="branches/unkicked"))
    a, b = TrainingLine(small_config()), TrainingLine(small_config())
    load_snapshot(a, tmp_path / plain.end_state)
    load_snapshot(b, tmp_path / unkicked.end_state)
    ratio = (
        a.learner.networks[0].actor.layers[-1].weight.abs().mean()
        / b.learner.networks[0].actor.layers[-1].weight.abs().mean()
    )
    assert ratio < 0.9


def test_a_second_round_after_an_adopted_kick_kicks_no_arm_again(fork: TrainingLine, tmp_path: Path) -> None:
    """The state of a kicked branch becomes a fork: control and candidate start from the same actor."""
    worker = TrainingLine(small_config())
    kicked = run_branch(worker, tmp_path, job("p1", SHAPED, 0, 1, exploration=Exploration(entropy=0.03, kick=0.05)))
    assert kicked.signal.exploration == Exploration(entropy=0.03)
    again = SHAPED.model_copy(update={"terms": (SHAPED.terms[0].model_copy(update={"weight": 0.5}),)})
    for arm, signal in (("control", kicked.signal), ("p2", again)):
        start_arm(worker, tmp_path, job(arm, signal, 0, 1, start=kicked.end_state, fork=kicked.end_state))
        heads = worker.learner.networks[0].actor.layers[-1].weight.detach().clone()
        load_snapshot(worker, tmp_path / kicked.end_state)
        assert torch.equal(heads, worker.learner.networks[0].actor.layers[-1].weight.detach())
        assert worker.signal.exploration.entropy == 0.03


def test_a_new_line_has_the_exploration_of_its_config_and_then_of_its_job(tmp_path: Path) -> None:
    config = small_config().model_copy(update={"signal": SignalConfig(exploration=Exploration(entropy=0.03))})
    save_snapshot(trained(config, 1), tmp_path / "fork")
    worker, plain = TrainingLine(config), TrainingLine(config.model_copy(update={"seed": 3}))
    asked = job("fresh_start", SHAPED.model_copy(update={"exploration": Exploration(kick=0.5)}), 3, 1, new_line=True)
    assert start_arm(worker, tmp_path, asked) == (0, -1.0)
    assert worker.signal.exploration == Exploration(entropy=0.03), "a candidate's own does not act"
    heads = plain.learner.networks[0].actor.layers[-1].weight.detach()
    assert torch.equal(worker.learner.networks[0].actor.layers[-1].weight.detach(), heads)
    kicked = Exploration(entropy=0.02, kick=0.5)
    start_arm(worker, tmp_path, asked.model_copy(update={"exploration": kicked}))
    assert worker.signal.exploration == Exploration(entropy=0.02)
    assert torch.equal(worker.learner.networks[0].actor.layers[-1].weight.detach(), heads * 0.5)


def test_a_new_line_keeps_the_workers_environments_and_their_processes(tmp_path: Path) -> None:
    """Those of a run with processes: after new lines and branches there is one process, as before."""
    task = TaskConfig(env="small_tasks:Walk", workers=1)
    config = small_config(envs=2).model_copy(update={"task": task})
    with closing(trained(config, 1)) as line:
        save_snapshot(line, tmp_path / "fork")
    with closing(TrainingLine(config)) as worker, closing(TrainingLine(config.model_copy(update={"seed": 3}))) as run:
        before = psutil.Process().children(recursive=True)
        run_branch(worker, tmp_path, job("p1", Signal(), 1, 1))
        for end in ("branches/one", "branches/two"):
            run_branch(worker, tmp_path, job("fresh_start", Signal(), 3, 2, new_line=True, end_state=end))
        EVALUATORS.close()
        assert psutil.Process().children(recursive=True) == before
        while run.steps_main < 2 * UPDATE:
            run.update()
        assert_same_state(worker, run)


def test_a_new_line_under_a_signal_that_does_not_fit_is_refused(fork: TrainingLine, tmp_path: Path) -> None:
    unknown = Signal.model_validate({"terms": [{"name": "far", "kind": "potential", "expression": "-dist_moon / 12"}]})
    worker, before = trained(small_config(), 1), trained(small_config(), 1)
    with pytest.raises(SignalError, match="dist_moon"):
        run_branch(worker, tmp_path, job("fresh_start", unknown, 3, 1, new_line=True))
    assert_same_state(worker, before)


def test_a_branch_worker_has_one_process_of_environments_and_continues_the_main_run(tmp_path: Path) -> None:
    """Environments raise on the way, in both."""
    task = TaskConfig(env="fragile_envs:Tired", n_max=8, team_reward="mean", workers=2)
    config = small_config(envs=3).model_copy(update={"task": task})
    assert config.for_branches().task.workers == 1
    assert small_config().for_branches() == small_config()
    line, worker = trained(config, 1), TrainingLine(config.for_branches())
    save_snapshot(line, tmp_path / "fork")
    load_snapshot(worker, tmp_path / "fork")
    for both in (line, worker):
        both.update()
        both.task.close()
    assert line.episodes_lost > 0
    assert line.learner.state_dict().keys() == worker.learner.state_dict().keys()
    for name, array in line.learner.state_dict().items():
        assert np.array_equal(array, worker.learner.state_dict()[name]), name
    assert (line.episodes_lost, line.history) == (worker.episodes_lost, worker.history)


# ---------------------------------------------------------------- branches that cannot be run


SHIFTED = small_config(envs=2).model_copy(update={"task": TaskConfig(env="unreplayable:Shifted")})


def test_a_fork_that_cannot_be_played_again_costs_nothing_until_a_job_asks_for_fresh_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = trained(SHIFTED, 1)
    line.step = line.collector.collect(line.learner, line.step)  # in the middle of an episode
    save_snapshot(line, tmp_path / "fork")
    worker = TrainingLine(SHIFTED)
    same = run_branch(worker, tmp_path, job("control", line.signal, 0, 1))
    asked = job("control", line.signal, 0, 1, end_state="branches/fresh", fresh=True)
    fresh = run_branch(worker, tmp_path, asked)
    assert same.curve != fresh.curve
    monkeypatch.setattr("unreplayable.Shifted.shift", 0.5)
    with pytest.raises(ReplayDiffers, match="agent 'a' observes .* deterministic = False"):
        run_branch(worker, tmp_path, job("p1", line.signal, 0, 1))
    assert not (tmp_path / "branches" / "p1-0-1").exists()
    # What was begun before is forgotten, and all go on alike.
    for _ in range(2):
        start_arm(worker, tmp_path, asked)
        assert worker.task.state_dict()["lengths"].tolist() == [0, 0]
        assert not worker.episodes.running["return"].any()
    assert run_branch(worker, tmp_path, asked.model_copy(update={"end_state": "branches/again"})).steps == fresh.steps


def test_a_resumed_line_goes_on_with_fresh_episodes_and_says_what_differed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = trained(SHIFTED, 1)
    episodes = line.task.state_dict()["episodes"]
    save_snapshot(line, tmp_path / "fork")
    monkeypatch.setattr("unreplayable.Shifted.shift", 0.5)
    resumed = TrainingLine(SHIFTED)
    load_snapshot(resumed, tmp_path / "fork")
    assert resumed.replay_difference is not None and "'shifted' came out different" in resumed.replay_difference
    assert resumed.task.state_dict()["episodes"].tolist() == (episodes + 1).tolist()
    assert not resumed.episodes.running["return"].any()
    resumed.update()


def test_what_goes_wrong_in_training_tells_the_steps_that_it_cost(
    fork: TrainingLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = TrainingLine(small_config())
    update, made = worker.update, []

    def breaks() -> Any:
        if len(made) == 2:
            raise FloatingPointError("the loss is not finite")
        made.append(update())

    monkeypatch.setattr(worker, "update", breaks)
    with pytest.raises(BranchError, match="FloatingPointError: the loss is not finite") as caught:
        run_branch(worker, tmp_path, job("p1", SHAPED, 0, 5))
    assert caught.value.steps == 2 * UPDATE
    assert not (tmp_path / "branches" / "p1-0-5").exists()


@pytest.mark.parametrize(
    ("error", "cause", "reason", "steps"),
    [
        (BranchError("rewards must be finite", steps=256), "error", "rewards must be finite", 256),
        (SnapshotError("no usable snapshot"), "error", "no usable snapshot", 0),
        (ReplayDiffers("came out different"), "replay", "came out different", 0),
        (IndexError("of ours"), "error", "IndexError: of ours", 0),
    ],
)
def test_a_worker_answers_a_branch_that_fails_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, cause: str, reason: str, steps: int
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(worker_module, "run_branch", fails)
    reply = worker_module.answer(None, tmp_path, job("p1", SHAPED, 3, 5))  # type: ignore[arg-type]
    assert reply == BranchFailure(key="branches/p1-3-5", arm="p1", seed=3, reason=reason, cause=cause, steps=steps)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("I/O error: No space left (os error 28)")],
)
def test_a_full_disk_is_no_failure_of_the_branch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: Any) -> None:
        raise BranchError("as it came") from error

    monkeypatch.setattr(worker_module, "run_branch", fails)
    reply = worker_module.answer(None, tmp_path, job("p1", SHAPED, 3, 5))  # type: ignore[arg-type]
    assert isinstance(reply, ErrorReply) and "make room and resume the run" in reply.message
