"""Config of the trainer, and what trainer and branch workers need of a run. Imports neither torch nor LangChain."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ..algorithms.config import AlgorithmConfig, AlgorithmName, AlgorithmSections
from ..base_config import Config
from ..envs.config import TaskConfig
from ..signals.config import SignalConfig
from ..signals.reward_view import RewardView


class EvaluationConfig(Config):
    """The evaluation of the current policy on fixed seeds by its sparse return. The steps are counted."""

    every_steps: int = Field(default=100_000, ge=1)
    episodes: int = Field(default=32, ge=1)


class UpdateConfig(Config):
    """The part of `trainer` that is the same for every algorithm.

    Attributes:
        algorithm: the section of this name counts, the sections of the others do not.
        steps: main environment steps (all agents act once) of the run.
        envs: environments that are stepped together.
        rollout: steps per environment and update.
        device: where the networks live.
        time_limit: what the end of an episode by its time limit is learned as: `truncation`, after which something
            would follow, or `termination`, after which nothing does. The latter is wrong, and EPyMARL's way.
        reward: whom the task's reward is paid to while learning, see `RewardView`; what is evaluated is the team's.
        checkpoint_every_steps: main steps between two snapshots.
        keep_looks: the snapshots of so many last looks (interventions) stay, so that branches can start there later.
    """

    algorithm: AlgorithmName = "ippo"
    steps: int = Field(default=1_500_000, ge=1)
    envs: int = Field(default=64, ge=1)
    rollout: int = Field(default=32, ge=2)
    device: Literal["cpu", "cuda"] = "cpu"
    time_limit: Literal["truncation", "termination"] = "truncation"
    reward: RewardView = "team"
    checkpoint_every_steps: int = Field(default=100_000, ge=1)
    keep_looks: int = Field(default=3, ge=3)  # a look's branches may start until two later looks were taken


# The keys of the resolved config have the order of the classes from right to left, and the evaluation comes last.
class TrainerConfig(AlgorithmSections, UpdateConfig):
    """The section `trainer`: what an update is made of, the hyper-parameters of each algorithm, and the evaluation."""

    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def algorithm_config(self) -> AlgorithmConfig:
        """The hyper-parameters of the algorithm that `algorithm` names."""
        section: AlgorithmConfig = getattr(self, self.algorithm)
        return section


class TrainingConfig(Config):
    """The part of a run's config that the trainer process and the branch workers read, from `training.json`.

    Attributes:
        pause_every_steps: main steps between two adaptation points, None where nothing adapts; a trainer under the
            overlap clock never pauses.
        margin: share of the range of returns that counts as a difference.
        record_obs: observations are kept with the sample of transitions, which learned terms are checked on.
    """

    seed: int
    clock: Literal["lockstep", "overlap"]
    task: TaskConfig
    trainer: TrainerConfig
    signal: SignalConfig
    pause_every_steps: int | None
    margin: float
    record_obs: bool = False

    @classmethod
    def of_run(cls, run_dir: Path) -> TrainingConfig:
        """Read the config that the loop wrote to `training.json` in the run directory."""
        return cls.model_validate_json((run_dir / "training.json").read_text())

    def for_branches(self) -> TrainingConfig:
        """Return the config for one of several branch workers, which run beside each other already.

        Where environments have processes, those of a worker share one, which can be started again when it crashes or
        hangs. It steps as many copies as all of them together, and has the time of all of them.
        """
        timeout_s = self.task.step_timeout_s * max(self.task.workers, 1)
        task = self.task.model_copy(update={"workers": min(self.task.workers, 1), "step_timeout_s": timeout_s})
        return self.model_copy(update={"task": task})
