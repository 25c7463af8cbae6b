"""`protocol: epymarl`: what it fills in, and what it leaves alone."""

from __future__ import annotations

import pytest
from cosignal import RunConfig
from cosignal.config.adaptation import AdaptationConfig
from cosignal.config.protocols import with_protocol
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.training.config import TrainerConfig
from pydantic import ValidationError

QUIET = {"adaptation": {"enabled": False}}


def test_it_fills_in_epymarls_settings_by_algorithm() -> None:
    config = RunConfig.model_validate(
        {"protocol": "epymarl", "task": {"name": "rware"}, "trainer": {"algorithm": "mappo"}, **QUIET}
    )
    trainer, mappo = config.trainer, config.trainer.mappo
    assert (trainer.steps, trainer.envs, trainer.rollout, trainer.time_limit) == (20_050_000, 10, 500, "termination")
    assert (trainer.evaluation.every_steps, trainer.evaluation.episodes) == (50_000, 100)
    assert (mappo.network, mappo.hidden, mappo.lr, mappo.entropy) == ("gru", (128, 128), 3e-4, 0.001)
    assert mappo.standardise_rewards and mappo.greedy_evaluation and mappo.minibatches == 1
    assert mappo.advantage_norm == "none"

    config = RunConfig.model_validate(
        {"protocol": "epymarl", "task": {"name": "lbf"}, "trainer": {"algorithm": "qmix"}, **QUIET}
    )
    qmix = config.trainer.qmix
    assert (config.trainer.steps, qmix.network, qmix.hidden) == (2_050_000, "mlp", (64, 64))
    # 5,000 episodes, and batches of 32, of 50 steps each
    assert (qmix.buffer_size, qmix.batch_size, qmix.samples_per_step, qmix.epsilon_steps) == (250_000, 1600, 32, 50_000)


def test_what_is_written_counts_and_the_resolved_config_is_the_same_one() -> None:
    config = RunConfig.model_validate(
        {
            "protocol": "epymarl",
            "task": {"env": "small_tasks:Walk", "n_max": 20},
            "trainer": {"algorithm": "ippo", "steps": 9_000, "ippo": {"lr": 0.01}, "evaluation": {"episodes": 4}},
            **QUIET,
        }
    )
    assert (config.trainer.steps, config.trainer.rollout, config.trainer.ippo.lr) == (9_000, 20, 0.01)
    assert (config.trainer.evaluation.episodes, config.trainer.evaluation.every_steps) == (4, 50_000)
    assert config.trainer.ippo.hidden == (128, 128)
    assert RunConfig.model_validate_json(config.resolved_json()) == config


@pytest.mark.parametrize(
    ("task", "ids"),
    [
        ({"name": "lbf"}, True),
        ({"name": "rware_original", "env_args": {"agents": 3}}, True),
        ({"name": "rware", "env_args": {"agent_ids": False}}, False),
        ({"name": "lbf", "env_args": {"grid_observation": True}}, False),
        ({"name": "rware", "env_args": {"observation_type": "image"}}, False),
    ],
)
def test_agents_observe_who_they_are_but_beside_images(task: dict[str, object], ids: bool) -> None:
    config = RunConfig.model_validate({"protocol": "epymarl", "task": task, **QUIET})
    assert config.task.env_args["agent_ids"] is ids
    assert RunConfig.model_validate_json(config.resolved_json()) == config
    # one of an older version has every key but this one
    older = config.model_dump(mode="json")
    del older["task"]["env_args"]["agent_ids"]
    assert "agent_ids" not in RunConfig.model_validate(older).task.env_args


def test_without_it_nothing_changes_and_without_a_length_it_is_refused() -> None:
    assert with_protocol({"task": {"name": "lbf"}}) == {"task": {"name": "lbf"}}
    assert RunConfig.model_validate({"trainer": {"algorithm": "mappo"}}).trainer.time_limit == "truncation"
    with pytest.raises(ValidationError, match=r"task\.n_max must be set for a task other than lbf, .*, got none; set"):
        RunConfig.model_validate({"protocol": "epymarl", "task": {"name": "two_switch"}})
    with pytest.raises(ValidationError, match=r"protocol"):
        RunConfig.model_validate({"protocol": "mava"})


def test_sections_that_are_models_are_filled_in_too() -> None:
    config = RunConfig(
        protocol="epymarl",
        task=TaskConfig(name="lbf"),
        trainer=TrainerConfig(algorithm="mappo"),
        adaptation=AdaptationConfig(enabled=False),
    )
    assert (config.trainer.rollout, config.trainer.mappo.network, config.trainer.steps) == (50, "gru", 20_050_000)
    kept = RunConfig(protocol="epymarl", task=TaskConfig(name="lbf"), trainer=TrainerConfig(steps=9_000_000))
    assert (kept.trainer.steps, kept.trainer.time_limit) == (9_000_000, "termination")


def test_an_unknown_algorithm_is_told_once() -> None:
    with pytest.raises(ValidationError) as told:
        RunConfig.model_validate({"protocol": "epymarl", "task": {"name": "lbf"}, "trainer": {"algorithm": "coma"}})
    assert told.value.error_count() == 1


def test_liir_stays_feed_forward() -> None:
    settings = {"protocol": "epymarl", "task": {"name": "lbf"}, "trainer": {"algorithm": "liir"}, **QUIET}
    assert RunConfig.model_validate(settings).trainer.liir.network == "mlp"
