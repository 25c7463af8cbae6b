"""Episodes that were cut by a crash are counted, and count for nothing else."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cosignal.rl.algorithms.registry import make_learner
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.experience.episodes import EpisodeTracker
from cosignal.rl.experience.replay_buffer import ReplayBuffer
from cosignal.rl.experience.transition_sample import TransitionSampler
from cosignal.rl.signals.rewards import Rewards
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.task import BatchedTask, IntArray, Step
from cosignal.rl.trainer.database import connect, read_counter
from cosignal.rl.trainer.main_run import MainRun
from cosignal.rl.training.evaluate import Evaluator
from cosignal.rl.training.line import TrainingLine
from training_lines import small_config, trained

LENGTH, ENVS = 16, 8


def losing(line_or_task: Any, envs: list[int], at: int) -> None:
    """From now on the task reports environments `envs` as lost in step number `at`, as a restarted process does."""
    task: BatchedTask = line_or_task
    real, count = task.step, iter(range(10**6))

    def step(actions: list[Any]) -> Step:
        found = real(actions)
        found.lost = np.zeros(task.num_envs, np.bool_)
        if next(count) == at:
            found.lost[envs] = found.truncated[envs] = True
            found.terminated[envs] = found.success[envs] = False
            found.reward[envs] = 0
        return found

    task.step = step  # type: ignore[method-assign]


def test_lost_episodes_are_in_no_statistics_and_are_counted() -> None:
    line = trained(small_config(), 1)
    before, running = line.episodes.finished, line.episodes.running["return"].copy()
    losing(line.task, [2, 5], at=3)
    line.update()
    rollout = line.collector.rollout
    assert rollout.lost is not None and np.argwhere(rollout.lost).tolist() == [[3, 2], [3, 5]]
    assert line.episodes_lost == 2
    assert line.episodes.finished == before + int(rollout.done.sum()) - 2
    alone = EpisodeTracker(line.spec, ENVS)
    alone.running["return"][:] = running
    returns, _ = alone.add(rollout)
    assert len(returns) == int(rollout.done.sum()) - 2
    arrays, meta = line.state_dict()
    again = TrainingLine(small_config())
    again.load_state_dict(arrays, meta)
    assert again.episodes_lost == 2
    del meta["episodes_lost"]  # a snapshot of an older version
    again.load_state_dict(arrays, meta)
    assert again.episodes_lost == 0


def test_nothing_is_recorded_of_a_step_that_was_not_finished(tmp_path: Path) -> None:
    line = trained(small_config(), 1)
    rollout = line.collector.rollout
    rollout.lost = np.zeros_like(rollout.reward)
    rollout.lost[:, 1:] = 1
    replay, recorder = ReplayBuffer(line.spec, 1000, tmp_path), TransitionSampler(line.spec)
    replay.add(rollout)
    recorder.add(rollout)
    assert replay.count == LENGTH and recorder.count <= LENGTH
    rollout.lost[:] = 1
    replay.add(rollout)
    assert replay.count == LENGTH


@pytest.mark.parametrize("algorithm", ["ippo", "mappo", "liir"])
def test_ppo_learns_nothing_from_a_step_that_was_not_finished(algorithm: str) -> None:
    """What the lost step holds changes nothing, bit for bit, and the step before it is bootstrapped from its s'."""
    config = small_config(algorithm=algorithm)
    line = TrainingLine(config)
    line.step = line.collector.collect(line.learner, line.step)
    rollout = line.collector.rollout
    assert rollout.lost is not None
    rollout.lost[7, 2] = rollout.done[7, 2] = 1
    weights: list[dict[str, Any]] = []
    for reward, action in ((0.0, 0), (50.0, 3)):
        rollout.reward[7, 2] = reward
        rollout.actions[0][7, 2] = action
        learner = make_learner(config.trainer.algorithm, config.trainer.algorithm_config, line.spec, 5)
        signal = CompiledSignal(Signal(scale=1.0), line.spec)
        rewards = Rewards(signal, [], 0.99, 0)
        learner.learn(rollout, rewards.shape(rollout), rewards)
        weights.append(learner.state_dict())
    for name, value in weights[0].items():
        assert np.array_equal(value, weights[1][name]), name


def test_in_an_evaluation_the_next_episode_counts_in_the_place_of_a_lost_one() -> None:
    class Idle:
        def new_rnn_states(self, num_envs: int) -> None:
            return None

        def act_to_evaluate(
            self, obs: Any, generator: Any, masks: Any = None, rnn_states: Any = None
        ) -> list[IntArray]:
            return [np.zeros(x.shape[:-1], np.int64) for x in obs]

    evaluator = Evaluator(small_config().task, 4, seed=3)
    whole = evaluator.evaluate(Idle())  # type: ignore[arg-type]
    losing(evaluator.task, [1], at=10)
    found = evaluator.evaluate(Idle())  # type: ignore[arg-type]
    assert found.returns[0] == whole.returns[0]
    assert found.returns[1] != whole.returns[1]  # here the rest of the same episode
    assert found.steps == whole.steps


def test_a_run_counts_them_in_metrics_and_status_alike_with_processes(tmp_path: Path) -> None:
    assert counted(tmp_path / "alone", 0) == counted(tmp_path / "processes", 2)


def counted(directory: Path, workers: int) -> list[Any]:
    """What a run of two updates says of its episodes; a third of them is lost."""
    directory.mkdir()
    task = TaskConfig(env="fragile_envs:Tired", n_max=8, team_reward="mean", workers=workers)
    config = small_config(envs=3).model_copy(update={"task": task})
    (directory / "training.json").write_text(config.model_dump_json())
    main = MainRun(directory)
    for _ in range(2):
        main.update()
    main.write_counters("training")
    main.close()
    main.line.task.close()
    main.evaluator.task.close()
    with closing(connect(directory / "trainer.db")) as database:
        rows = [json.loads(data) for (data,) in database.execute("SELECT data FROM metrics ORDER BY update_index")]
    lost = [row["episodes_lost"] for row in rows]
    assert 0 < lost[0] < lost[1] == main.line.episodes_lost
    assert read_counter(directory / "trainer.db", "episodes_lost") == str(lost[1])
    assert (main.line.episodes.recent("lengths") == 8).all()
    return [lost, [row["train_return"] for row in rows], main.line.episodes.finished]
