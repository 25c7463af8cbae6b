"""Hyper-parameters of the algorithms, and what the rest of the framework must know about each of them.

To add an algorithm: its learner in a file of its own (say `coma.py`), its hyper-parameters, its name and its section
here, and its learner's class in `registry.py`. Nothing else names algorithms. Imports neither torch nor LangChain.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..base_config import Config

Layers = tuple[Annotated[int, Field(ge=1)], ...]  # units of each hidden layer; () is a linear network


class AlgorithmConfig(Config):
    """The base of all hyper-parameters. A subclass sets what its algorithm can do.

    Attributes:
        on_policy: whether each rollout is learned from once and then dropped; an off-policy learner keeps a replay.
        continuous_actions: whether agents may choose numbers of a Box; else only one of `n_actions` choices.
        offsets_potentials: whether every value that its TD errors are made of gets `Rewards.offset`, so that none of
            them changes when a potential leaves the reward. tests/rl/algorithms/test_potentials_leave.py proves it of
            each algorithm; of one without it, a potential leaves only by branches.
        lr: step size of Adam.
        gamma: discount factor, 0..1.
    """

    on_policy: ClassVar[bool]
    continuous_actions: ClassVar[bool]
    offsets_potentials: ClassVar[bool] = False

    lr: float = Field(gt=0)
    gamma: float = Field(default=0.99, gt=0, le=1)

    @property
    def initial_log_std(self) -> float:
        """The logarithm of the first standard deviation of continuous actions; 0 where there are none."""
        return 0.0

    def check_update_size(self, section: str, samples: int) -> None:
        """Check the hyper-parameters against the size of an update.

        Args:
            section: the dotted key of this section in the config, for the message.
            samples: environment steps of an update, `trainer.envs` × `trainer.rollout`.

        Raises:
            ValueError: an update cannot be made; the message names key, rule, value and remedy.
        """


class IPPOConfig(AlgorithmConfig):
    """Independent PPO. Defaults after Yu et al. 2022 (official MAPPO code), with four epochs.

    Attributes:
        share_parameters: agents of a group are samples of one policy; without it every agent has networks of its own.
        value_norm: the critic learns targets of zero mean and unit deviation (Yu et al. 2022, section 5.1).
        advantage_norm: advantages are normalised over all samples of a minibatch, or for every agent apart.
        log_std_init: where actions are numbers in -1..1, the logarithm of their first standard deviation.
    """

    on_policy = True
    continuous_actions = True
    offsets_potentials = True

    lr: float = Field(default=6e-4, gt=0)
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

    @property
    def initial_log_std(self) -> float:
        return self.log_std_init

    def check_update_size(self, section: str, samples: int) -> None:
        if self.minibatches > samples:
            raise ValueError(
                f"{section}.minibatches: must be at most the {samples:_} samples of an update, "
                f"got {self.minibatches!r}; lower it"
            )


class MAPPOConfig(IPPOConfig):
    """PPO with a central critic. Defaults as for IPPO, so that the two differ in what the critic sees."""


class LIIRConfig(MAPPOConfig):
    """LIIR (Du et al. 2019). Defaults as for MAPPO; those of what it adds after the official code (yalidu/liir), with
    the layers of our other networks.

    Attributes:
        intrinsic_weight: λ of the intrinsic rewards, which lie in -10..10, beside the task's; with 0 this is MAPPO.
        intrinsic_lr: step size of the network that gives them; one step a rollout. `lr` is also α of the policy's step
            that its gradient goes through.
        intrinsic_hidden: layers of that network.
    """

    intrinsic_weight: float = Field(default=0.01, ge=0)
    intrinsic_lr: float = Field(default=5e-4, gt=0)
    intrinsic_hidden: Layers = (64, 64)


class VDNConfig(AlgorithmConfig):
    """Value decomposition networks. Defaults after EPyMARL (Papoudakis et al. 2021), with feed-forward networks.

    Attributes:
        buffer_size: transitions of the whole team that the replay holds, one an environment step.
        batch_size: transitions that a gradient is computed from.
        samples_per_step: sampled transitions that are learned from for every environment step; EPyMARL's default (one
            update on 32 episodes after each episode) is 32.
        learning_starts: environment steps before the first gradient.
        epsilon_start: share of random actions at the start; it falls linearly over `epsilon_steps` main steps.
        epsilon_end: where it stays then.
        double_q: the online network chooses the next actions, the target network values them.
        target_every: gradient updates between two copies into the target network.
        standardise_rewards: rewards are divided by the running standard deviation of what is sampled.
    """

    on_policy = False
    continuous_actions = False
    offsets_potentials = True

    lr: float = Field(default=5e-4, gt=0)
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

    def check_update_size(self, section: str, samples: int) -> None:  # noqa: ARG002 the replay holds several updates
        if self.buffer_size < self.batch_size:
            raise ValueError(
                f"{section}.buffer_size: must be at least {section}.batch_size = {self.batch_size:_}, "
                f"got {self.buffer_size!r}; raise it"
            )


class QMIXConfig(VDNConfig):
    """QMIX (Rashid et al. 2018; defaults after EPyMARL).

    Attributes:
        mixing_embed: units of the mixing network.
        hypernet_embed: hidden units of the networks that make its weights from the global state.
    """

    mixing_embed: int = Field(default=32, ge=1)
    hypernet_embed: int = Field(default=64, ge=1)


AlgorithmName = Literal["ippo", "mappo", "liir", "vdn", "qmix"]


class AlgorithmSections(Config):
    """The sections of `trainer`, one an algorithm, each under the name that `trainer.algorithm` has for it."""

    ippo: IPPOConfig = IPPOConfig()
    mappo: MAPPOConfig = MAPPOConfig()
    liir: LIIRConfig = LIIRConfig()
    vdn: VDNConfig = VDNConfig()
    qmix: QMIXConfig = QMIXConfig()
