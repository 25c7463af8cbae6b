"""Config of task, trainer and the signal a run starts with. Imports neither torch nor LangChain."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .signals.signal import MAX_BETA, MAX_TERMS, Exploration, Signal, Term


class Config(BaseModel):
    """Base of all configs: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskConfig(Config):
    """A shipped task by `name`, or any PettingZoo `ParallelEnv` by `env`."""

    name: Literal["two_switch"] | None = None
    env: str | None = Field(default=None, pattern=r"^[\w.]+:[\w.]+$")  # "package.module:factory"
    n_max: int | None = Field(default=None, ge=1)  # time limit of an episode, in steps
    allow_agent_overlap: bool = True
    team_reward: Literal["sum", "mean"] = "sum"  # how a PettingZoo env's rewards become the team's

    @model_validator(mode="after")
    def _one_of_name_and_env(self) -> TaskConfig:
        if (self.name is None) == (self.env is None):
            raise ValueError("set exactly one of task.name (a shipped task) and task.env ('package.module:factory')")
        return self


class IPPOConfig(Config):
    """Independent PPO with shared parameters. Defaults after Yu et al. 2022 (official MAPPO code), with four epochs."""

    lr: float = Field(default=6e-4, gt=0)
    gamma: float = Field(default=0.99, gt=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    clip: float = Field(default=0.2, gt=0)
    entropy: float = Field(default=0.01, ge=0)
    value_coef: float = Field(default=0.5, ge=0)
    max_grad_norm: float = Field(default=10.0, gt=0)
    epochs: int = Field(default=4, ge=1)
    minibatches: int = Field(default=4, ge=1)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 64)  # () is a linear network


class EvaluationConfig(Config):
    """Sparse return of the current stochastic policy on fixed seeds. The steps are counted."""

    every_steps: int = Field(default=100_000, ge=1)
    episodes: int = Field(default=32, ge=1)


class TrainerConfig(Config):
    """`steps`: main environment steps (all agents act once) of the run. `rollout`: steps per environment and update."""

    algorithm: Literal["ippo"] = "ippo"
    steps: int = Field(default=1_500_000, ge=1)
    envs: int = Field(default=64, ge=1)
    rollout: int = Field(default=32, ge=2)
    device: Literal["cpu"] = "cpu"
    checkpoint_every_steps: int = Field(default=100_000, ge=1)
    ippo: IPPOConfig = IPPOConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


class SignalConfig(Config):
    """The signal a run starts with; `terms: []` is the plain sparse reward."""

    beta: float = Field(default=0.5, ge=0, le=MAX_BETA)
    terms: tuple[Term, ...] = Field(default=(), max_length=MAX_TERMS)
    exploration: Exploration = Exploration()

    def to_signal(self) -> Signal:
        return Signal(beta=self.beta, terms=self.terms, exploration=self.exploration)


class TrainingConfig(Config):
    """What the trainer process and the branch workers need of a run; the loop writes it to `training.json`.

    `pause_every_steps`: distance of adaptation points in main steps, None where nothing adapts; a trainer under the
    overlap clock never pauses.
    """

    seed: int
    clock: Literal["lockstep", "overlap"]
    task: TaskConfig
    trainer: TrainerConfig
    signal: SignalConfig
    pause_every_steps: int | None
    margin: float  # share of the return range
