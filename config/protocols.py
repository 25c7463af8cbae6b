"""Presets of settings under which others have published their results: `protocol` of a config.

A preset only fills in what a config leaves open; whatever is written there counts. docs/protocols.md says what each
difference is worth, and what of the other code a preset does not follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from ..rl.algorithms.config import AlgorithmSections
from ..rl.envs.config import TaskConfig

ProtocolName = Literal["own", "epymarl"]

# Steps of an episode in EPyMARL's own commands, by task; others say it by `task.n_max`.
EPISODE_STEPS = {
    "lbf": 50,
    "lbf_original": 50,
    "rware": 500,
    "rware_original": 500,
    "mpe_spread": 25,
    "mpe_speaker_listener": 25,
}
WITH_AGENT_IDS = ("lbf", "lbf_original", "rware", "rware_original")  # own environments have `task.agent_ids`
ENVS = 10  # EPyMARL's `batch_size_run` of IPPO and MAPPO, and episodes of an update

Settings = dict[str, Any]


def with_protocol(settings: Mapping[str, Any]) -> Settings:
    """Return the settings of a config, with those of its `protocol` where it has none.

    Raises:
        ValueError: the protocol needs to know how long episodes are.
    """
    if settings.get("protocol") != "epymarl":
        return dict(settings)
    # sections that are models already hold what was set in them
    settings = {
        key: value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value
        for key, value in settings.items()
    }
    task, trainer = settings.get("task") or {}, settings.get("trainer") or {}
    # what is wrong there is told in its own place
    if not isinstance(task, Mapping) or not isinstance(trainer, Mapping):
        return settings
    algorithm = str(trainer.get("algorithm", "ippo"))
    if algorithm not in AlgorithmSections.model_fields:
        return settings
    episode = task.get("n_max") or EPISODE_STEPS.get(str(task.get("name")))
    if not isinstance(episode, int):
        raise ValueError(
            f"protocol: epymarl updates after whole episodes, so that task.n_max must be set for a task other than "
            f"{', '.join(EPISODE_STEPS)}, got none; set it"
        )
    filled = _filled(settings, epymarl(algorithm, episode))
    # its agents observe which of them they are; beside an image that is not offered, and a resolved config of a version
    # that knew nothing of it stays what it is
    arguments, is_resolved = task.get("env_args") or {}, TaskConfig.model_fields.keys() <= task.keys()
    if task.get("name") in WITH_AGENT_IDS and isinstance(arguments, Mapping) and not is_resolved:
        image = arguments.get("grid_observation") or arguments.get("observation_type", "flattened") != "flattened"
        filled["task"] = {**task, "env_args": {"agent_ids": not image, **arguments}}
    return filled


def epymarl(algorithm: str, episode: int) -> Settings:
    """Return the settings of EPyMARL (Papoudakis et al. 2021), as `src/config` of its repository ships them.

    Args:
        algorithm: whose section is filled in; LIIR, which EPyMARL does not have, has MAPPO's.
        episode: steps of an episode.
    """
    evaluation = {"every_steps": 50_000, "episodes": 100}
    common = {"envs": ENVS, "time_limit": "termination", "evaluation": evaluation}
    if algorithm in ("vdn", "qmix"):
        section: Settings = {
            "network": "mlp",
            "hidden": [64, 64],
            "lr": 5e-4,
            "buffer_size": 5_000 * episode,
            "batch_size": 32 * episode,
            "samples_per_step": 32,
            "learning_starts": 32 * episode,
            "epsilon_start": 1.0,
            "epsilon_end": 0.05,
            "epsilon_steps": 50_000,
            "double_q": True,
            "target_every": 200,
            "max_grad_norm": 10.0,
            "standardise_rewards": True,
        }
        mixer = {"mixing_embed": 32, "hypernet_embed": 64} if algorithm == "qmix" else {}
        return {"trainer": {**common, "steps": 2_050_000, "rollout": min(episode, 50), algorithm: section | mixer}}
    section = {
        # LIIR's rewards are learned through a step of a feed-forward policy
        "network": "mlp" if algorithm == "liir" else "gru",
        "hidden": [128, 128],
        "lr": 3e-4,
        "entropy": 0.001,
        "clip": 0.2,
        "epochs": 4,
        "minibatches": 1,
        "max_grad_norm": 10.0,
        "value_norm": False,
        "advantage_norm": "none",
        "standardise_rewards": True,
        "greedy_evaluation": True,
    }
    return {"trainer": {**common, "steps": 20_050_000, "rollout": episode, algorithm: section}}


def _filled(settings: Mapping[str, Any], preset: Mapping[str, Any]) -> Settings:
    """Return `settings` with what `preset` has besides, section by section."""
    filled = dict(settings)
    for key, value in preset.items():
        here = filled.get(key)
        if here is None:
            filled[key] = value
        elif isinstance(here, Mapping) and isinstance(value, Mapping):
            filled[key] = _filled(here, value)
    return filled
