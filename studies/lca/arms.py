"""Tasks of the LCA study, with the paper's budgets, and its arms (Lin et al., arXiv 2502.03723).

The paper leaves out its hyper-parameters; those here are one set for every arm of a task. Seeds 1 to 8 were looked at
while they and the way in which pairs are collected were chosen, so the study begins with seed 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...config.run_config import RunConfig
from ...rl.signals.reward_view import RewardView
from ...rl.training.config import TrainingConfig

FIRST_SEED = 11


@dataclass(frozen=True)
class LcaTask:
    """A task as the paper plots it.

    Attributes:
        name: of the task.
        title: in the figures.
        steps: environment steps of a run.
        optimum: of the metric return, mean over starts; by dynamic programming in the grids.
        axis: lowest and highest return of the paper's figure.
        counts: ranked pairs by group.
        window: episodes averaged in a curve.
        per_success: what the metric adds to the sparse return for a successful episode. The paper plots every agent's
            own events and 1 for each agent at success; the team's return in the grids has that 1 once.
        keep_ties: whether moves without a preference are pairs, too.
        scale: settings of the trainer.
    """

    name: str
    title: str
    steps: int
    optimum: float
    axis: tuple[float, float]
    counts: tuple[int, ...]
    window: int = 50
    per_success: int = 1
    keep_ties: bool = True
    scale: dict[str, float | int] = field(default_factory=dict)

    @property
    def range(self) -> float:
        """Width of the paper's axis."""
        return self.axis[1] - self.axis[0]


GRID = {"envs": 8, "rollout": 128, "lr": 5e-4, "max_grad_norm": 10.0, "q_rollout": 16, "epsilon_steps": 50_000}
TABLE = {"envs": 1, "rollout": 512, "lr": 1e-3, "max_grad_norm": 0.5, "q_rollout": 125, "epsilon_steps": 5_000}
TASKS = {
    task.name: task
    for task in (
        LcaTask("two_switch", "Two-Switch", 250_000, 4.83, (-1, 5), (4400,), scale=GRID),
        LcaTask("victim_rubble", "Victim-Rubble", 210_000, 6.86, (1, 7), (2000, 2000), scale=GRID),
        LcaTask("pistonball", "Pistonball", 18_000, 0.0, (-13, 0), (1000,), 20, 0, keep_ties=False, scale=TABLE),
    )
}


@dataclass(frozen=True)
class LcaArm:
    """A way to train.

    Attributes:
        name: of the arm.
        label: in the figures.
        algorithm: of the trainer.
        reward: what the trainer is paid.
        queries: votes that the oracle gives on each pair; with 0 there is no scorer.
        accuracy: share of its votes that are right.
        entropy: coefficient of the entropy bonus.
        drawn: whether the arm is in the figure.
    """

    name: str
    label: str
    algorithm: str = "ippo"
    reward: RewardView = "team"
    queries: int = 0
    accuracy: float = 1.0
    entropy: float = 0.01
    drawn: bool = True


LCA = LcaArm("lca", "LCA (heuristic)", queries=1)
TEAM = LcaArm("mappo_team", "MAPPO, team", "mappo")
INDIVIDUAL = LcaArm("mappo_individual", "MAPPO, team + individual", "mappo", "individual")
BOTH = LcaArm("mappo_team_and_individual", "MAPPO, team + own events twice", "mappo", "team_and_individual")
QMIX, VDN = LcaArm("qmix", "QMIX, team", "qmix"), LcaArm("vdn", "VDN, team", "vdn")
LIIR = LcaArm("liir", "LIIR, team", "liir")
IPPO = LcaArm("ippo_team", "IPPO, team", "ippo")  # LCA without its scorers
NOISY = tuple(
    LcaArm(f"lca_{queries}q{accuracy}", f"{queries} at {accuracy} %", queries=queries, accuracy=accuracy / 100)
    for queries, accuracy in ((4, 80), (4, 70), (1, 80), (1, 70))
)
TWO_QUERIES = LcaArm("lca_2q80", "2 at 80 %", queries=2, accuracy=0.8)
ENTROPY = tuple(
    replace(arm, name=f"{arm.name}_entropy", label=f"{arm.label}, entropy 0.05", entropy=0.05, drawn=False)
    for arm in (LCA, TEAM, INDIVIDUAL)
)
# paid densely, these must learn with the very same settings (QMIX and VDN are seen to learn on Pistonball)
CAPABLE = tuple(
    LcaArm(f"{arm.algorithm}_lca", f"{arm.algorithm.upper()} with LCA's scorers", arm.algorithm, queries=1, drawn=False)
    for arm in (TEAM, LIIR)
)

# figure → arms of a task
FIGURES = {
    3: (LCA, TEAM, INDIVIDUAL, BOTH, QMIX, VDN, LIIR, IPPO, *ENTROPY),
    4: (*NOISY,),
    5: (NOISY[2], TWO_QUERIES),
    6: (LCA,),
}


def arms_of(figure: int, task: LcaTask) -> tuple[LcaArm, ...]:
    """Return the figure's arms of a task.

    In Pistonball nothing is paid to single agents, and no gap asks for more entropy. That the baselines can learn at
    all is seen there, and on Two-Switch where they are paid densely.
    """
    arms = [
        arm for arm in FIGURES[figure] if task.name != "pistonball" or (arm.reward == "team" and arm not in ENTROPY)
    ]
    return (*arms, *(CAPABLE if figure == 3 and task.name == "two_switch" else ()))


def training_config(task: LcaTask, arm: LcaArm, seed: int) -> TrainingConfig:
    """Return the config of one run."""
    scale = task.scale
    ppo = {"lr": scale["lr"], "max_grad_norm": scale["max_grad_norm"], "epochs": 10, "entropy": arm.entropy}
    values = {
        "lr": 1e-3, "target_every": 50, "samples_per_step": 32, "batch_size": 512, "standardise_rewards": True,
        "epsilon_steps": scale["epsilon_steps"], "learning_starts": task.steps // 100,
    }  # fmt: skip
    # Q-learners update after fewer steps
    rollout = scale["q_rollout"] if arm.algorithm in ("qmix", "vdn") else scale["rollout"]
    hyper = dict.fromkeys(("ippo", "mappo", "liir"), ppo) | dict.fromkeys(("qmix", "vdn"), values)
    trainer = {"algorithm": arm.algorithm, "steps": task.steps, "envs": scale["envs"], "rollout": rollout}
    trainer |= {"reward": arm.reward, **hyper}
    adaptation = {"adaptation": {"enabled": False}}
    config = RunConfig.model_validate({"seed": seed, "task": {"name": task.name}, "trainer": trainer, **adaptation})
    return config.training()


def tasks_of(names: Sequence[str]) -> list[LcaTask]:
    """Return the named tasks, all where none is named."""
    return [TASKS[name] for name in names or TASKS]
