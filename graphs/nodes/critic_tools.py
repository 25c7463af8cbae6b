"""The tools that a Critic may call: evidence on demand and a short probe branch. Both are bounded and counted.

The docstrings of the two tools are what the model reads of them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.prebuilt.tool_node import ToolCallRequest, ToolInvocationError
from langgraph.types import Command

from ...errors import CosignalError, ProtocolError, SignalError
from ...rl.branches.jobs import CONTROL
from ...rl.ipc.messages import BranchJob, TrainerStatus
from ...rl.signals.shaping import CompiledSignal
from ...rl.signals.signal import Exploration, Signal
from ...rl.signals.terms import Term
from ...runs.records import BranchRecord
from ..branches import Ran, branch_job, kept_exploration, run_branches, snapshot_of, with_forks
from ..context import Context
from ..intervention import steps_left
from ..state import State, status_of

MAX_ANSWER_CHARS = 6_000
MAX_PROBE_STEPS = 50_000
PROBE_SEED = 1  # 0 would go on with the run's own random numbers; reseeded, the control shows another draw
CURVE_FIELDS = {"arm", "fork_return", "final_return", "success_rate", "curve"}  # of a probe's result, for the model

# ToolRuntime[Context, State] would be looked into by pydantic, field by field, and copied at every call.
Runtime = ToolRuntime[Any, Any]


class ProbeRefusedError(CosignalError):
    """The budget or its bounds do not allow a probe, or its branches cannot be run; the model reads why."""


@tool
async def query_trainer(
    what: Literal["metric_curve", "episode", "term_statistics", "feature_statistics"],
    runtime: Runtime,
    name: str | None = None,
    points: int = 20,
) -> str:
    """Ask the trainer for more evidence. Where training goes on meanwhile, the answer says at how many main steps.

    Args:
        what: metric_curve (sparse return and success over steps), episode (the last episodes as text),
            term_statistics (what each shaping term pays), feature_statistics (where a feature goes).
        name: the feature's name for feature_statistics; leave it out for all.
        points: rows of a curve, 2 to 100.
    """
    ctx: Context = runtime.context
    answer = await ctx.client.query(what, name, points)
    # Under the overlap clock the trainer has gone on since the evidence was taken.
    if ctx.config.clock == "overlap":
        answer = {"main_steps": (await ctx.client.status()).steps_main, **answer}
    return _bounded(answer)


@tool
async def launch_branches(
    steps: int,
    runtime: Runtime,
    terms: list[Term] | None = None,
    beta: float = 0.5,
    kick: float | None = None,
    entropy: float | None = None,
) -> str:
    """Try something on a short fork of the run, beside a control that changes nothing. Returns both curves.

    Args:
        steps: environment steps of each branch, at most 50000. They are paid from the branch budget.
        terms: shaping terms to put in force; leave it out to keep the signal.
        beta: strength of the shaping, 0 to 2.
        kick: scale the actor head by this once (0.05 revives a collapsed policy); leave it out for none.
        entropy: coefficient of the entropy bonus; leave it out to keep it.
    """
    state: State = runtime.state
    ctx: Context = runtime.context
    status = status_of(state)
    signal = status.signal if terms is None else Signal(beta=beta, terms=tuple(terms))
    # A signal that does not fit the task raises here, and the model reads why.
    CompiledSignal(signal, ctx.spec, ctx.scorers)

    async def attempt() -> Ran:
        fresh = await ctx.begins_fresh()
        jobs = probe_jobs(ctx, status, signal, Exploration(entropy=entropy, kick=kick), steps, fresh)
        return await _run_probe(ctx, state, status, jobs)

    # Calls of one message run beside each other: each must see what the others have spent.
    async with ctx.probing:
        ran = await with_forks(ctx, attempt)
    if ran.failed:
        arm, reason = next(iter(ran.failed.items()))
        raise ProbeRefusedError(f"a branch of {arm} could not be run, {reason}; go without it")
    return _bounded([result.model_dump(mode="json", include=CURVE_FIELDS) for result in ran.results])


async def _run_probe(ctx: Context, state: State, status: TrainerStatus, jobs: list[BranchJob]) -> Ran:
    """Run the branches of a probe, where the budget allows them."""
    # What has run is paid, so that a probe that runs again after a crash is not refused for its own steps.
    done = {row.key for row in await ctx.store.read(BranchRecord, point=state["point"])}
    cost = sum(job.horizon for job in jobs if job.key not in done)
    left = max(await steps_left(ctx, status), 0)
    if cost > left:
        raise ProbeRefusedError(f"the probe costs {cost} steps, {left} are left of adaptation.max_share; go without it")
    return await run_branches(ctx, state["point"], state["round"], "probe", jobs)


def probe_jobs(
    ctx: Context, status: TrainerStatus, signal: Signal, exploration: Exploration, steps: int, fresh: bool = False
) -> list[BranchJob]:
    """Return the jobs of a control under the signal in force and of the probe, both from the point's snapshot.

    Args:
        ctx: what nodes use.
        status: the trainer's at the point.
        signal: the signal of the probe.
        exploration: the exploration of the probe.
        steps: environment steps of each branch.
        fresh: see `Context.begins_fresh`.

    Raises:
        ProbeRefusedError: `steps` is out of bounds.
    """
    if not 1 <= steps <= MAX_PROBE_STEPS:
        raise ProbeRefusedError(f"steps must be in 1..{MAX_PROBE_STEPS}, got {steps!r}; ask again within it")
    # Both get the same seed, so that they differ in signal and exploration alone.
    fork, in_force = snapshot_of(status), kept_exploration(status.signal)
    return [
        branch_job(ctx, fork, CONTROL, status.signal, in_force, PROBE_SEED, steps, fresh=fresh),
        branch_job(ctx, fork, "probe", signal, exploration, PROBE_SEED, steps, fresh=fresh),
    ]


def _bounded(data: object) -> str:
    """Return JSON of at most MAX_ANSWER_CHARS characters; a longer text says that it was cut."""
    text = json.dumps(data, ensure_ascii=False)
    return text if len(text) <= MAX_ANSWER_CHARS else text[:MAX_ANSWER_CHARS] + " … (cut; ask for fewer points)"


TOOLS: list[BaseTool] = [query_trainer, launch_branches]
# The model reads what it did wrong, and what failed; everything else (TrainerGone, BranchError) is no answer and is
# raised.
MODEL_MISTAKES = (ToolInvocationError, ProbeRefusedError, SignalError, ProtocolError)


async def refuse_beyond_limit(
    request: ToolCallRequest, run: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
) -> ToolMessage | Command[Any]:
    """Run a tool call, or answer with a refusal where it is beyond `adaptation.evidence_calls`.

    A message may call several tools at once. `calls_left` was lowered by all of them: below 0 it says how many of the
    last ones are too many.
    """
    calls, left = request.state["messages"][-1].tool_calls, request.state["calls_left"]
    beyond = {call["id"] for call in calls[len(calls) + min(left, 0) :]}
    if request.tool_call["id"] not in beyond:
        return await run(request)
    return ToolMessage(
        "refused: no tool call is left of adaptation.evidence_calls; answer from what you have",
        name=request.tool_call["name"],
        tool_call_id=str(request.tool_call["id"]),
        status="error",
    )


def critic_tools() -> ToolNode:
    """Make the node that runs the Critic's tool calls."""
    return ToolNode(TOOLS, name="critic_tools", handle_tool_errors=MODEL_MISTAKES, awrap_tool_call=refuse_beyond_limit)
