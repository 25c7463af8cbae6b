"""Config of task, trainer and the signal a run starts with. Imports neither torch nor LangChain."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from .algorithms.config import IPPOConfig, LIIRConfig, MAPPOConfig, QMIXConfig, VDNConfig
from .base_config import Config
from .envs.registry import EXTRAS, NATIVE, ShippedName
from .signals.signal import MAX_BETA, MAX_TERMS, Exploration, Signal, Term
from .training.rollout import RewardView


class TaskConfig(Config):
    """A shipped task by `name`, or any PettingZoo `ParallelEnv` by `env`."""

    name: ShippedName | None = None
    env: str | None = Field(default=None, pattern=r"^[\w.]+:[\w.]+$")  # "package.module:factory"
    env_args: dict[str, Any] = Field(default_factory=dict)  # given by name to the factory, or to a shipped task
    n_max: int | None = Field(default=None, ge=1)  # time limit of an episode, in steps
    allow_agent_overlap: bool = True
    team_reward: Literal["sum", "mean"] = "sum"  # how a PettingZoo env's rewards become the team's
    agent_ids: bool = True  # agents of a group of a PettingZoo env observe which of them they are
    workers: int = Field(default=0, ge=0)  # processes that a PettingZoo env's copies are divided over; 0: the trainer's
    step_timeout_s: float = Field(default=60.0, gt=0)  # for one joint step of all copies in one of these processes

    @model_validator(mode="after")
    def _one_of_name_and_env(self) -> TaskConfig:
        if (self.name is None) == (self.env is None):
            raise ValueError("set exactly one of task.name (a shipped task) and task.env ('package.module:factory')")
        if self.name is not None and self.name not in EXTRAS and self.env_args:
            raise ValueError(
                f"task.env_args go with task.env or one of {', '.join(EXTRAS)}, got {self.env_args!r} with"
                f" task.name {self.name!r}; drop them"
            )
        if self.name in NATIVE and self.workers:
            raise ValueError(
                f"task.workers are for environments of PettingZoo, got {self.workers!r} with task.name {self.name!r},"
                " whose environments are compiled into one batch; drop it"
            )
        return self


class EvaluationConfig(Config):
    """Sparse return of the current stochastic policy on fixed seeds. The steps are counted."""

    every_steps: int = Field(default=100_000, ge=1)
    episodes: int = Field(default=32, ge=1)


class TrainerConfig(Config):
    """`steps`: main environment steps (all agents act once) of the run. `rollout`: steps per environment and update.

    `keep_looks`: of so many last looks (interventions) the snapshot is kept, so that branches can start there later.
    `reward`: whom the task's reward is paid to while learning, see `reward_view`; what is evaluated is the team's.
    Of `ippo`, `mappo`, `liir`, `vdn` and `qmix` the one that `algorithm` names counts.
    """

    algorithm: Literal["ippo", "mappo", "liir", "vdn", "qmix"] = "ippo"
    steps: int = Field(default=1_500_000, ge=1)
    envs: int = Field(default=64, ge=1)
    rollout: int = Field(default=32, ge=2)
    device: Literal["cpu", "cuda"] = "cpu"
    reward: RewardView = "team"
    checkpoint_every_steps: int = Field(default=100_000, ge=1)
    keep_looks: int = Field(default=3, ge=3)  # a look's branches may start until two later looks were taken
    ippo: IPPOConfig = IPPOConfig()
    mappo: MAPPOConfig = MAPPOConfig()
    liir: LIIRConfig = LIIRConfig()
    vdn: VDNConfig = VDNConfig()
    qmix: QMIXConfig = QMIXConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def chosen(self) -> IPPOConfig | VDNConfig:
        """The hyper-parameters of `algorithm`."""
        known: dict[str, IPPOConfig | VDNConfig] = {
            "ippo": self.ippo, "mappo": self.mappo, "liir": self.liir, "vdn": self.vdn, "qmix": self.qmix
        }  # fmt: skip
        return known[self.algorithm]


class SignalConfig(Config):
    """The signal a run starts with; `terms: []` is the plain sparse reward. `scorers`: folder of the scorers that its
    learned terms name, `scorers` of another run directory; they are copied into the run's own."""

    beta: float = Field(default=0.5, ge=0, le=MAX_BETA)
    terms: tuple[Term, ...] = Field(default=(), max_length=MAX_TERMS)
    exploration: Exploration = Exploration()
    scorers: Path | None = None

    def to_signal(self) -> Signal:
        return Signal(beta=self.beta, terms=self.terms, exploration=self.exploration)


class TrainingConfig(Config):
    """What the trainer process and the branch workers need of a run; the loop writes it to `training.json`.

    `pause_every_steps`: distance of adaptation points in main steps, None where nothing adapts; a trainer under the
    overlap clock never pauses. `record_obs`: observations are kept with the sample of transitions, which learned terms
    are checked on.
    """

    seed: int
    clock: Literal["lockstep", "overlap"]
    task: TaskConfig
    trainer: TrainerConfig
    signal: SignalConfig
    pause_every_steps: int | None
    margin: float  # share of the return range
    record_obs: bool = False

    def for_branches(self) -> TrainingConfig:
        """Branch workers run beside each other already: where environments have processes, those of a worker share one,
        which can be started again when it crashes or hangs. It steps as many copies as all of them together, and has
        the time of all of them."""
        timeout_s = self.task.step_timeout_s * max(self.task.workers, 1)
        task = self.task.model_copy(update={"workers": min(self.task.workers, 1), "step_timeout_s": timeout_s})
        return self.model_copy(update={"task": task})
