"""What tests of the whole graph share: scripts, made-up gains, and what is left in the books."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cosignal.config.budget import branch_budget
from cosignal.config.run_config import RunConfig
from cosignal.rl.ipc.messages import BranchJob
from cosignal.runs.events import NodeEntered
from cosignal.runs.store import LoopStore
from cosignal.testing import LoopSession, fake_run_config
from cosignal.testing.answers import DIAGNOSIS, DOOR, GOAL, MATE, proposal, proposals, ranking
from cosignal.testing.fake_run import INTERVAL, UPDATE, Scripts
from langchain_core.messages import AIMessage
from records import ORDER, branch, rows

POINT = 128  # the first one with 250 000 main steps behind it, in updates of 2048
RUNG = INTERVAL * UPDATE  # environment steps
FIRST = f"p{POINT}-r0-0"  # the best ranked candidate, as the rules rank


def racing_config(clock: str = "lockstep", **race: Any) -> RunConfig:
    data = fake_run_config().model_dump(mode="json")
    data["gate"]["claim"] = "auto"
    settings = {"arms": 5, "look_episodes": 32, "confirm_episodes": 64, "most_confirm_episodes": 128}
    data["race"] |= settings | race
    return RunConfig.model_validate(data | {"clock": clock})


def titles(job: BranchJob) -> str:
    [term] = job.signal.terms
    return getattr(term, "expression", "")


def goal_helps(job: BranchJob) -> float:
    return 1.7 if "goal" in titles(job) else 0.0


def first_helps(job: BranchJob) -> float:
    return 1.7 if job.arm.endswith("-0") else 0.0


def nothing_helps(job: BranchJob) -> float:
    return 0.0


def nobody_rises(job: BranchJob) -> float:
    return -0.01 * job.seed  # the pool adds as much


def first_rises(job: BranchJob) -> float:
    """The best ranked candidate returns more from its third rung on."""
    rises = job.arm == FIRST and job.horizon >= 3 * RUNG
    return nobody_rises(job) + (1.5 if rises else 0.0)


def scripts(rounds: int = 1) -> Scripts:
    """One intervention; in each round the same three ideas under another weight."""
    generator = [proposals(DOOR, GOAL, MATE)]
    generator += [proposals(proposal("more door", "-dist_door / 3"), proposal("the goal", "-dist_goal / 8"))]
    rankings = [ranking(*(f"p{POINT}-r0-{i}" for i in (1, 0, 2))), ranking(f"p{POINT}-r1-0", f"p{POINT}-r1-1")]
    return {"critic": [DIAGNOSIS], "generator": generator[:rounds], "ranker": rankings[:rounds]}


async def tables(run_dir: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: await asyncio.to_thread(rows, run_dir, name) for name in ORDER}


def nodes(session: LoopSession) -> list[str]:
    """Visited nodes without `monitor`, runs of `observe` as one."""
    names = [event.node for event in session.events if isinstance(event, NodeEntered) and event.node != "monitor"]
    return [name for i, name in enumerate(names) if i == 0 or (name, names[i - 1]) != ("observe", "observe")]


async def leave_branch_steps(run_dir: Path, session: LoopSession, left: int) -> None:
    """As if branches before had spent all but `left` of the share."""
    spent = branch_budget(session.config.adaptation, session.trainer.steps_budget) - left
    store = await LoopStore.open(run_dir)
    await store.write(branch("before", point=0, arm="p0-r0-0", steps=spent, steps_evaluation=0))
    await store.close()


def queries(*ids: str) -> AIMessage:
    calls = [{"name": "query_trainer", "args": {"what": "metric_curve"}, "id": key} for key in ids]
    return AIMessage("", tool_calls=calls)


def comparable(kept: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Without clocks."""
    calls = [
        {name: value for name, value in row.items() if name not in ("latency_s", "started")} for row in kept["calls"]
    ]
    branches = sorted(kept["branches"], key=lambda row: str(row["key"]))
    return {**kept, "calls": calls, "branches": branches}
