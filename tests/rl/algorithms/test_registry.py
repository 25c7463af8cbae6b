"""The names of algorithms: every table knows the same ones, and a learner is made of each."""

from __future__ import annotations

from typing import get_args

import pytest
from cosignal.errors import ConfigError
from cosignal.rl.algorithms.config import AlgorithmName, AlgorithmSections
from cosignal.rl.algorithms.registry import LEARNERS, make_learner
from cosignal.rl.task import GroupSpec, TaskSpec
from cosignal.rl.training.config import TrainerConfig

ARMS = GroupSpec(name="arms", agents=("a", "b"), obs_size=1, action_bounds=((0.0, 1.0), (-5.0, 5.0)))
SPEC = TaskSpec(name="arms", description="", groups=(ARMS,))


def test_name_section_and_learner_of_an_algorithm_go_together() -> None:
    assert [*LEARNERS] == [*get_args(AlgorithmName)] == [*AlgorithmSections.model_fields]
    for name, section in AlgorithmSections():
        assert isinstance(section.on_policy, bool) and isinstance(section.continuous_actions, bool)
        assert TrainerConfig(algorithm=name).algorithm_config == section
        task = TaskSpec(name="t", description="", groups=(GroupSpec(name="g", agents=("a",), obs_size=1, n_actions=2),))
        assert type(make_learner(name, section, task, 1)) is LEARNERS[name]


@pytest.mark.parametrize("algorithm", ["vdn", "qmix"])
def test_value_learners_refuse_numbers(algorithm: str) -> None:
    with pytest.raises(ConfigError, match="set it to ippo, mappo or liir"):
        make_learner(algorithm, TrainerConfig.model_validate({"algorithm": algorithm}).algorithm_config, SPEC, 1)
