"""Config of the trainer, and what trainer and branch workers need of a run. Imports neither torch nor LangChain."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..algorithms.config import IPPOConfig, LIIRConfig, MAPPOConfig, QMIXConfig, VDNConfig
from ..base_config import Config
from ..envs.config import TaskConfig
from ..signals.config import SignalConfig
from ..signals.reward_view import RewardView


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
