"""Hyper-parameters of the algorithms. Imports neither torch nor LangChain."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..base_config import Config

Layers = tuple[Annotated[int, Field(ge=1)], ...]  # units of each tanh layer; () is a linear network


class IPPOConfig(Config):
    """Independent PPO. Defaults after Yu et al. 2022 (official MAPPO code), with four epochs.

    `share_parameters`: agents of a group are samples of one policy; without it every agent has networks of its own.
    `value_norm`: the critic learns targets of zero mean and unit deviation (Yu et al. 2022, section 5.1).
    `advantage_norm`: over all samples of a minibatch, or for every agent apart.
    `log_std_init`: where actions are numbers in -1..1, the logarithm of their first standard deviation.
    """

    lr: float = Field(default=6e-4, gt=0)
    gamma: float = Field(default=0.99, gt=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    clip: float = Field(default=0.2, gt=0)
    entropy: float = Field(default=0.01, ge=0)
    value_coef: float = Field(default=0.5, ge=0)
    max_grad_norm: float = Field(default=10.0, gt=0)
    epochs: int = Field(default=4, ge=1)
    minibatches: int = Field(default=4, ge=1)
    hidden: Layers = (64, 64)
    share_parameters: bool = True
    value_norm: bool = False
    advantage_norm: Literal["minibatch", "agent"] = "minibatch"
    log_std_init: float = Field(default=0.0, ge=-5, le=1)


class MAPPOConfig(IPPOConfig):
    """PPO with a central critic. Defaults as for IPPO, so that the two differ in what the critic sees."""


class LIIRConfig(MAPPOConfig):
    """LIIR (Du et al. 2019). Defaults as for MAPPO; those of what it adds after the official code (yalidu/liir), with
    the layers of our other networks.

    `intrinsic_weight`: λ of the intrinsic rewards, which lie in -10..10, beside the task's; with 0 this is MAPPO.
    `intrinsic_lr`: of the network that gives them; one step a rollout. `lr` is also α of the policy's step that its
    gradient goes through.
    """

    intrinsic_weight: float = Field(default=0.01, ge=0)
    intrinsic_lr: float = Field(default=5e-4, gt=0)
    intrinsic_hidden: Layers = (64, 64)


class VDNConfig(Config):
    """Value decomposition networks. Defaults after EPyMARL (Papoudakis et al. 2021), with feed-forward networks.

    `buffer_size`, `batch_size`, `learning_starts` in environment steps (transitions of the whole team).
    `samples_per_step`: sampled transitions a gradient learns from, for every environment step; EPyMARL's default (one
    update on 32 episodes after each episode) is 32.
    `epsilon_*`: share of random actions, falling linearly over `epsilon_steps` main steps.
    `target_every`: gradient updates between two copies into the target network.
    `standardise_rewards`: rewards are divided by the running standard deviation of what is sampled.
    """

    log_std_init: ClassVar[float] = 0.0  # as in IPPOConfig; Q-learners choose, so that nothing depends on it

    lr: float = Field(default=5e-4, gt=0)
    gamma: float = Field(default=0.99, gt=0, le=1)
    hidden: Layers = (64, 64)
    share_parameters: bool = True
    buffer_size: int = Field(default=200_000, ge=1)
    batch_size: int = Field(default=512, ge=1)
    samples_per_step: float = Field(default=8.0, gt=0)
    learning_starts: int = Field(default=5_000, ge=0)
    epsilon_start: float = Field(default=1.0, ge=0, le=1)
    epsilon_end: float = Field(default=0.05, ge=0, le=1)
    epsilon_steps: int = Field(default=50_000, ge=1)
    double_q: bool = True
    target_every: int = Field(default=200, ge=1)
    max_grad_norm: float = Field(default=10.0, gt=0)
    standardise_rewards: bool = False


class QMIXConfig(VDNConfig):
    """QMIX. `mixing_embed`: units of the mixing network; `hypernet_embed`: hidden units of the networks that make its
    weights from the global state (Rashid et al. 2018; EPyMARL)."""

    mixing_embed: int = Field(default=32, ge=1)
    hypernet_embed: int = Field(default=64, ge=1)
