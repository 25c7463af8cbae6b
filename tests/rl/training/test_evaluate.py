"""Evaluation: fixed episodes, its own random streams, every step counted, and an end."""

from __future__ import annotations

import numpy as np
import pytest
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.training import evaluate
from cosignal.rl.training.evaluate import Evaluator
from training_lines import assert_same_state, small_config, trained

TASK = TaskConfig(name="two_switch", n_max=30)


def test_the_same_episodes_again_and_no_training_stream_touched() -> None:
    line, untouched = trained(small_config(), 3), trained(small_config(), 3)
    evaluator = Evaluator(TASK, 6, seed=4)
    first, second = evaluator.evaluate(line.learner), Evaluator(TASK, 6, seed=4).evaluate(line.learner)
    assert first == second == evaluator.evaluate(line.learner)
    assert first != Evaluator(TASK, 6, seed=5).evaluate(line.learner)
    assert_same_state(line, untouched)


def test_steps_are_those_of_the_longest_episode_in_every_environment() -> None:
    found = Evaluator(TASK, 6, seed=4).evaluate(trained(small_config(), 1).learner)
    assert found.steps == 6 * 30  # somebody hardly trained runs into the time limit
    assert len(found.returns) == 6
    assert found.mean_return == pytest.approx(np.mean(found.returns))
    assert found.success_rate == np.mean(found.successes)


def test_an_episode_that_nothing_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "LONGEST_EPISODE", 7)
    found = Evaluator(TASK, 6, seed=4).evaluate(trained(small_config(), 1).learner)
    assert found.steps == 6 * 7
