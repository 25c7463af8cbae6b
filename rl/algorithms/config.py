"""Hyper-parameters of the algorithms, and what the rest of the framework must know about each of them.

To add an algorithm: its learner in a file of its own (say `coma.py`), its hyper-parameters, its name and its section
here, and its learner's class in `registry.py`. Nothing else names algorithms. Imports neither torch nor LangChain.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from ...errors import SignalError
from ..base_config import Config
from ..signals.learner_settings import LearnerSettings
from ..signals.signal import Signal

NetworkName = Literal["auto", "mlp", "gru", "cnn"]
Layers = tuple[Annotated[int, Field(ge=1)], ...]  # units of each hidden layer; () is a linear network


class AlgorithmConfig(Config):
    """The base of all hyper-parameters. A subclass sets what its algorithm can do.

    Attributes:
        on_policy: whether each rollout is learned from once and then dropped; an off-policy learner keeps a replay.
        continuous_actions: whether agents may choose numbers of a Box; else only one of `n_actions` choices.
        offsets_potentials: whether every value that its TD errors are made of gets `Rewards.offset`, so that none of
            them changes when a potential leaves the reward. tests/rl/algorithms/test_potentials_leave.py proves it of
            each algorithm; of one without it, a potential leaves only by branches.
        has_advantages: whether it learns from advantages, to which a signal may add.
        lr: step size of Adam.
        gamma: discount factor, 0..1.
        network: `mlp` (feed-forward), `gru` (recurrent, for what one observation does not tell), `cnn` (for images);
            `auto` takes `cnn` for agents that observe a Box of height × width × channels, else `mlp`.
        hidden: units of each hidden layer; of a `gru` the last one is the recurrent unit, in a `cnn` they follow the
            convolutions.
    """

    on_policy: ClassVar[bool]
    continuous_actions: ClassVar[bool]
    offsets_potentials: ClassVar[bool] = False
    has_advantages: ClassVar[bool] = False

    lr: float = Field(gt=0)
    gamma: float = Field(default=0.99, gt=0, le=1)
    network: NetworkName = "auto"
    hidden: Layers = (64, 64)

    @model_validator(mode="after")
    def _recurrent_unit_has_a_size(self) -> Self:
        if self.network == "gru" and not self.hidden:
            raise ValueError("hidden: must name at least one layer, the recurrent unit, where network is gru; got ()")
        return self

    @property
    def initial_log_std(self) -> float:
        """The logarithm of the first standard deviation of continuous actions; 0 where there are none."""
        return 0.0

    def learning_as(self, settings: LearnerSettings) -> Self:
        """Return these hyper-parameters with what a signal changes of them.

        Raises:
            SignalError: the algorithm cannot be changed while it trains.
        """
        if settings.changed:
            raise SignalError(
                f"learner: must be left out where an algorithm learns from a replay, got {settings.changed}; set "
                "them in the trainer's section"
            )
        return self

    @property
    def can_blend(self) -> bool:
        """Whether the factors of terms can be learned, see `blend`."""
        return False

    def check_signal(self, signal: Signal) -> None:
        """Check that it can learn from a signal. Raises SignalError where it cannot."""
        self.learning_as(signal.learner)
        if not self.has_advantages and (terms := [x.name for x in signal.terms if x.acts_on_advantages]):
            raise SignalError(
                f"term {terms[0]!r} is added to advantages, which an algorithm by values has none of; leave it out"
            )
        # a replay gives transitions in any order
        if not self.has_advantages and (terms := [x.name for x in signal.terms if x.remembers]):
            raise SignalError(
                f"term {terms[0]!r} depends on earlier steps of the episode, which a replay does not give; leave it "
                "out, or its bound"
            )

    def check_update_size(self, section: str, envs: int, rollout: int) -> None:
        """Check the hyper-parameters against the size of an update.

        Args:
            section: the dotted key of this section in the config, for the message.
            envs: environments that are stepped together.
            rollout: steps of each.

        Raises:
            ValueError: an update cannot be made; the message names key, rule, value and remedy.
        """


class IPPOConfig(AlgorithmConfig):
    """Independent PPO. Defaults after Yu et al. 2022 (official MAPPO code), with four epochs.

    Attributes:
        chunk_length: steps that a `gru` is backpropagated through, a divisor of the rollout; None for all of them.
        share_parameters: agents of a group are samples of one policy; without it every agent has networks of its own.
        value_norm: the critic learns targets of zero mean and unit deviation (Yu et al. 2022, section 5.1).
        advantage_norm: advantages are normalised over all samples of a minibatch, for every agent apart, or not at all.
        standardise_rewards: rewards are divided by the running standard deviation of the sparse ones.
        greedy_evaluation: evaluations take the likeliest action; else they sample, as training does.
        blend_lr: the most that the factor of a term moves in an update, see `blend`; with 0 terms weigh what the signal
            says. Not for recurrent networks.
        log_std_init: where actions are numbers in -1..1, the logarithm of their first standard deviation.
    """

    on_policy = True
    continuous_actions = True
    offsets_potentials = True
    has_advantages = True

    lr: float = Field(default=6e-4, gt=0)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    clip: float = Field(default=0.2, gt=0)
    entropy: float = Field(default=0.01, ge=0)
    value_coef: float = Field(default=0.5, ge=0)
    max_grad_norm: float = Field(default=10.0, gt=0)
    epochs: int = Field(default=4, ge=1)
    minibatches: int = Field(default=4, ge=1)
    chunk_length: int | None = Field(default=None, ge=1)
    share_parameters: bool = True
    value_norm: bool = False
    advantage_norm: Literal["minibatch", "agent", "none"] = "minibatch"
    standardise_rewards: bool = False
    greedy_evaluation: bool = False
    blend_lr: float = Field(default=0.0, ge=0, le=0.2)
    log_std_init: float = Field(default=0.0, ge=-5, le=1)

    @field_validator("blend_lr")
    @classmethod
    def _blends_feed_forward(cls, blend_lr: float, info: ValidationInfo) -> float:
        if blend_lr and info.data.get("network") == "gru":
            raise ValueError(
                "must be 0 where network is gru, since factors are learned through a step of a feed-forward policy, "
                f"got {blend_lr!r}; take mlp, or leave it out"
            )
        return blend_lr

    @property
    def initial_log_std(self) -> float:
        return self.log_std_init

    @property
    def can_blend(self) -> bool:
        return self.network != "gru"

    def learning_as(self, settings: LearnerSettings) -> Self:
        try:
            return type(self).model_validate({**self.model_dump(), **settings.changed})
        except ValidationError as error:
            [wrong, *_] = error.errors()
            told = f"learner.{wrong['loc'][0]}: {wrong['msg'].removeprefix('Value error, ')}"
            raise SignalError(told) from error

    def check_update_size(self, section: str, envs: int, rollout: int) -> None:
        if self.network != "gru":
            if self.chunk_length is not None:
                raise ValueError(
                    f"{section}.chunk_length: must be left out where {section}.network is {self.network!r}, which has "
                    f"no sequences, got {self.chunk_length!r}; remove it, or take a gru"
                )
            if self.minibatches > envs * rollout:
                raise ValueError(
                    f"{section}.minibatches: must be at most the {envs * rollout:_} samples of an update, "
                    f"got {self.minibatches!r}; lower it"
                )
            return
        length = self.chunk_length or rollout
        if rollout % length:
            raise ValueError(
                f"{section}.chunk_length: must divide the {rollout} steps of trainer.rollout, got {length!r}; change "
                "either, or leave it out"
            )
        if self.minibatches > envs * rollout // length:
            raise ValueError(
                f"{section}.minibatches: must be at most the {envs * rollout // length:_} sequences of an update, "
                f"which a gru learns from, got {self.minibatches!r}; lower it, or shorten {section}.chunk_length"
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

    @property
    def can_blend(self) -> bool:
        return False

    @field_validator("blend_lr")
    @classmethod
    def _has_one_outer_level(cls, blend_lr: float) -> float:
        if blend_lr:
            raise ValueError(f"must be 0 in liir, which learns rewards of its own, got {blend_lr!r}; use mappo with it")
        return blend_lr

    @field_validator("network")
    @classmethod
    def _is_feed_forward(cls, network: NetworkName) -> NetworkName:
        if network == "gru":
            raise ValueError(
                "must be auto, mlp or cnn, since its rewards are learned through a step of a feed-forward policy, got "
                "'gru'; use mappo or ippo with it"
            )
        return network


class VDNConfig(AlgorithmConfig):
    """Value decomposition networks. Defaults after EPyMARL (Papoudakis et al. 2021), with feed-forward networks.

    A `gru` learns from whole episodes, as in EPyMARL, each from a state of zeros.

    Attributes:
        buffer_size: transitions of the whole team that the replay holds, one an environment step.
        batch_size: transitions that a gradient is computed from; a `gru` takes whole episodes until it has as many.
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

    def check_update_size(self, section: str, envs: int, rollout: int) -> None:  # noqa: ARG002 the replay holds several updates
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
