"""One round of an intervention: its arms, and what gate and budget need to know about the point it forks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import RunConfig
from ..rl.branches.gate import horizon_steps, look_levels
from ..rl.ipc.messages import BranchJob, BranchResult, Evidence, TrainerStatus
from ..rl.signals.signal import Exploration, Signal
from .branching import CONTROL, branch_job, kept_exploration, run_branches, snapshot_of
from .budget import branch_budget, cost_of_intervention
from .context import Ctx
from .state import State

Results = dict[str, list[BranchResult]]


@dataclass(frozen=True)
class Round:
    """`signals`: by arm, the control first, then the candidates in rank order. `horizon` in environment steps."""

    point: int
    number: int
    fork: str
    status: TrainerStatus
    signals: dict[str, Signal]
    exploration: Exploration
    horizon: int
    return_range: tuple[float, float] | None

    @property
    def in_force(self) -> Signal:
        return self.status.signal

    @property
    def explores(self) -> bool:
        """Whether the arms were given another exploration than the one in force."""
        return self.exploration != kept_exploration(self.in_force)

    @property
    def candidates(self) -> list[str]:
        """Those that are branched, in rank order."""
        return [arm for arm in self.signals if arm != CONTROL]

    @property
    def width(self) -> float:
        """Of the return range; 0 where nothing is known of it."""
        return 0.0 if self.return_range is None else self.return_range[1] - self.return_range[0]

    def job(self, ctx: Ctx, arm: str, seed: int, horizon: int, start: str | None = None) -> BranchJob:
        return branch_job(ctx, self.fork, arm, self.signals[arm], self.exploration, seed, horizon, start)

    async def run(self, ctx: Ctx, phase: Literal["screen", "full"], jobs: list[BranchJob]) -> Results:
        """By arm, in the order of the jobs."""
        by_arm: Results = {}
        for result in await run_branches(ctx, self.point, self.number, phase, jobs):
            by_arm.setdefault(result.arm, []).append(result)
        return by_arm


async def this_round(ctx: Ctx, state: State) -> Round:
    """The round that `state` is in, its candidates ranked."""
    status = TrainerStatus.model_validate(state["status"])
    rows = {row["id"]: row for row in await ctx.store.rows("proposals", point=state["point"], round=state["round"])}
    candidates = {key: Signal.model_validate(rows[key]["signal"]) for key in state["ranked"]}
    return_range = await return_range_at(ctx, state["point"])
    return Round(
        point=state["point"],
        number=state["round"],
        fork=snapshot_of(status),
        status=status,
        signals={CONTROL: status.signal, **candidates},
        exploration=Exploration.model_validate(state["exploration"]),
        horizon=horizon_at(ctx.config, status, return_range),
        return_range=return_range,
    )


async def evidence_at(ctx: Ctx, point: int) -> Evidence:
    [row] = await ctx.store.rows("diagnoses", point=point)
    return Evidence.model_validate(row["evidence"])


async def return_range_at(ctx: Ctx, point: int) -> tuple[float, float] | None:
    """Declared by the task, else what the evidence at the point says has been seen."""
    return ctx.spec.return_range or (await evidence_at(ctx, point)).sparse.return_range


def competence(status: TrainerStatus, return_range: tuple[float, float] | None) -> float | None:
    """The last evaluation's return as a share of the return range, None where either is unknown."""
    if status.sparse_return is None or return_range is None or return_range[1] <= return_range[0]:
        return None
    return (status.sparse_return - return_range[0]) / (return_range[1] - return_range[0])


def horizon_at(config: RunConfig, status: TrainerStatus, return_range: tuple[float, float] | None) -> int:
    """Environment steps of a full branch from this point."""
    return horizon_steps(config.branches, status.success_rate, competence(status, return_range), status.stage)


# ---------------------------------------------------------------- budget


def levels(config: RunConfig) -> list[float]:
    """The gate's level at each look; 0 where a look has too few seeds to decide anything."""
    return look_levels(config.gate.level, config.gate.looks, config.branches.finalists, config.adaptation.rounds)


def cost_until(config: RunConfig, horizon: int, look: int, finalists: int = 1, candidates: int | None = None) -> int:
    """Branch steps of one round, at most, until `finalists` finalists have been judged up to look number `look`.

    `candidates`: how many are branched, where that is known; else `adaptation.candidates`.
    """
    settings = (config.branches, config.gate, config.adaptation)
    return cost_of_intervention(*settings, horizon, look, finalists, candidates).total


def cost_of_round(config: RunConfig, horizon: int, candidates: int | None = None) -> int:
    """Branch steps of one round until the first look that can decide, and under the overlap clock of the confirmation
    that a verdict may need by then."""
    first = next(look for look, level in enumerate(levels(config)) if level > 0)
    confirmation = 2 * config.gate.looks[-1] * horizon if config.clock == "overlap" else 0
    return cost_until(config, horizon, first, candidates=candidates) + confirmation


def steps_left(config: RunConfig, steps_budget: int, branch_steps: int) -> int:
    """Branch steps that `adaptation.max_share` still allows; `steps_budget` is the run's main steps."""
    return branch_budget(config.adaptation, steps_budget) - branch_steps
