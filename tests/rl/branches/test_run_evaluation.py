"""Evaluations in a worker: the very episodes that an evaluator plays, of any snapshot, and failures in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cosignal.rl.branches import run_evaluation as module
from cosignal.rl.branches.run_branch import run_branch
from cosignal.rl.branches.run_evaluation import Evaluators, episode_stats, run_evaluation
from cosignal.rl.branches.worker import answer
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.ipc.messages import BranchFailure, BranchJob, EvaluationJob, EvaluationResult
from cosignal.rl.signals.signal import Exploration
from cosignal.rl.training.checkpoint import save_snapshot
from cosignal.rl.training.evaluate import Evaluator
from cosignal.rl.training.line import TrainingLine
from training_lines import UPDATE, small_config, trained

Q: dict[str, Any] = {"learning_starts": UPDATE, "batch_size": 32, "buffer_size": 4 * UPDATE, "target_every": 7}


def job(state: str = "fork", seed: int = 7, episodes: int = 6) -> EvaluationJob:
    return EvaluationJob(key=f"{state}-{seed}", arm="control", state=state, seed=seed, episodes=episodes)


def told(result: Any) -> dict[str, Any]:
    assert isinstance(result, EvaluationResult)
    return result.model_dump(exclude={"cpu_s"})


@pytest.mark.parametrize("algorithm", ["ippo", "vdn", "qmix"])
def test_a_worker_plays_what_an_evaluator_plays_whatever_it_did_before(algorithm: str, tmp_path: Path) -> None:
    config = small_config(algorithm=algorithm, **({algorithm: Q} if algorithm in ("vdn", "qmix") else {}))
    line = trained(config, 3)
    save_snapshot(line, tmp_path / "fork")
    expected = episode_stats(Evaluator(config.task, 6, seed=7).evaluate(line.learner))
    used, fresh = trained(config.model_copy(update={"seed": 5}), 1), TrainingLine(config)
    other = run_evaluation(used, tmp_path, job(seed=8))
    result = answer(used, tmp_path, job())
    assert told(result) == told(run_evaluation(fresh, tmp_path, job()))
    assert isinstance(result, EvaluationResult)
    assert (result.key, result.arm, result.steps_main, result.episodes) == ("fork-7", "control", 3 * UPDATE, expected)
    if algorithm == "ippo":  # greedy values that have hardly learned do the same everywhere
        assert other.episodes != expected


def test_a_branch_tells_the_episodes_of_its_evaluation_and_its_end_state_plays_them_again(tmp_path: Path) -> None:
    line = trained(small_config(), 2)
    save_snapshot(line, tmp_path / "fork")
    branch = BranchJob(
        key="k", fork="fork", start="fork", arm="p1", signal=line.signal, exploration=Exploration(), seed=1,
        horizon=2 * UPDATE, evaluation_seed=7, evaluation_episodes=6, end_state="branches/k",
    )  # fmt: skip
    result = run_branch(line, tmp_path, branch)
    assert result.episodes is not None
    assert result.episodes.mean_return == pytest.approx(result.final_return)
    assert result.episodes.success_rate == result.success_rate
    assert result.episodes.steps == result.steps_evaluation
    again = run_evaluation(TrainingLine(small_config()), tmp_path, job("branches/k"))
    assert (again.episodes, again.steps_main) == (result.episodes, 4 * UPDATE)


SHIFTED = small_config(envs=2).model_copy(update={"task": TaskConfig(env="unreplayable:Shifted")})


def test_running_episodes_that_cannot_be_played_again_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = trained(SHIFTED, 1)
    line.step = line.collector.collect(line.learner, line.step)  # in the middle of an episode
    save_snapshot(line, tmp_path / "fork")
    monkeypatch.setattr("unreplayable.Shifted.shift", 0.5)
    assert isinstance(answer(TrainingLine(SHIFTED), tmp_path, job(episodes=2)), EvaluationResult)


# ---------------------------------------------------------------- failures


def test_a_snapshot_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    reply = answer(TrainingLine(small_config()), tmp_path, job("nowhere"))
    assert isinstance(reply, BranchFailure)
    assert (reply.key, reply.arm, reply.seed, reply.cause, reply.steps) == ("nowhere-7", "control", 7, "error", 0)
    assert "nowhere" in reply.reason


def test_what_goes_wrong_while_it_plays_tells_the_steps_that_it_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = trained(small_config(), 1)
    save_snapshot(line, tmp_path / "fork")
    evaluators = Evaluators()
    monkeypatch.setattr(module, "EVALUATORS", evaluators)
    task = evaluators.get(line.config.task, 6, 7).task
    real, made = task.step, list[Any]()

    def breaks(actions: Any) -> Any:
        if len(made) == 5:
            raise FloatingPointError("the actions")
        made.append(real(actions))
        return made[-1]

    monkeypatch.setattr(task, "step", breaks)
    reply = answer(line, tmp_path, job())
    assert isinstance(reply, BranchFailure)
    assert (reply.cause, reply.steps) == ("error", 5 * 6)
    assert "an evaluation must stay finite, got infinity or NaN in the actions" in reply.reason


# ---------------------------------------------------------------- evaluators


def test_evaluators_are_kept_for_the_next_job_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Fake:
        def __init__(self, task: TaskConfig, episodes: int, seed: int) -> None:
            self.episodes, self.seed = episodes, seed

        def close(self) -> None:
            closed.append(self.episodes)

    monkeypatch.setattr(module, "Evaluator", Fake)
    task, evaluators = TaskConfig(name="two_switch"), Evaluators()
    first, second = evaluators.get(task, 1, 4), evaluators.get(task, 2, 4)
    assert evaluators.get(task, 1, 5) is first, "the same environments play the episodes of another seed"
    assert first.seed == 5
    evaluators.get(task, 3, 4)
    assert closed == [2]  # the one that was not asked for for longest
    assert evaluators.get(task, 2, 4) is not second
    evaluators.close()
    evaluators.close()
    assert sorted(closed) == [1, 2, 2, 3]
