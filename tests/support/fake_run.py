"""An in-memory trainer, a branch pool with made-up gains, and scripted models: all that is around the graph."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from agent_roles import Scripted, stuck
from cosignal.agents.config import Role
from cosignal.agents.llm.ledger import Call
from cosignal.agents.llm.models import Models, build_models
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.config.run_config import RunConfig
from cosignal.errors import CosignalError
from cosignal.graphs.context import Context
from cosignal.graphs.session.graph_runner import open_checkpoints, run_graph
from cosignal.rl.branches.jobs import OnResult
from cosignal.rl.envs.factory import task_spec
from cosignal.rl.evidence.schema import (
    Evidence,
)
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.ipc import messages as m
from cosignal.rl.ipc.client import MemoryChannel, TrainerClient
from cosignal.rl.signals.signal import Signal
from cosignal.rl.stage import Stage
from cosignal.rl.task import TaskSpec
from cosignal.runs.events import Event
from cosignal.runs.store import LoopStore

UPDATE = 2048  # environment steps
FULL = 60_000  # steps of a full branch
INTERVAL = 16  # updates between two adaptation points
RUN_ID = "fake-run"


class Killed(CosignalError):
    """Stands for SIGKILL: nothing after it happens."""


def config(**adaptation: Any) -> RunConfig:
    """Half a million main steps, so one intervention; a round costs 720 000 branch steps at the look that decides."""
    settings = {"candidates": 3, "patience": 250_000, "interval": INTERVAL * UPDATE, **adaptation}
    return RunConfig.model_validate(
        {
            "trainer": {"steps": 500_000},
            "branches": {"horizon": FULL, "screen_seeds": 2, "finalists": 2},
            "gate": {"looks": [3, 5], "level": 0.1},
            "adaptation": {"max_share": 0.85, "rounds": 2, "evidence_calls": 3, **settings},
            "llm": {"limits": {"requests_per_minute": 100_000}},
        }
    )


def spec() -> TaskSpec:
    return task_spec(config().task)


def recorded(spec: TaskSpec) -> TransitionSample:
    rng = np.random.default_rng(0)
    group, n, ends = spec.groups[0], 50, 12
    low, high = (np.array([getattr(f, end) for f in group.features], np.float32) for end in ("low", "high"))

    def draw(count: int) -> Any:
        return rng.uniform(low, high, (count, len(group.agents), len(low))).astype(np.float32)

    return TransitionSample(
        features=[draw(n)],
        last_features=[draw(n)],
        events=[np.zeros((n, len(group.agents), len(group.events)), np.float32)],
        terminated=np.zeros(n, np.uint8),
        end_features=[draw(ends)],
        end_success=np.zeros(ends, np.uint8),
    )


def snapshot_name(point: int) -> str:
    return f"checkpoints/update_{point:09d}"


class Change(NamedTuple):
    """A line of the fake's signal log; `signal` is in force from `point` on."""

    key: str
    point: int
    signal: Signal
    adopt: str | None
    cause: m.Cause


class FakeTrainer:
    """Stuck until a signal is promoted, then solved. Its changes are what survives; `restart` forgets the rest, and
    puts it back to the last snapshot, as a killed trainer would be.

    Under the overlap clock it never waits: every status that is asked of it finds it `pace` updates further on.
    """

    def __init__(
        self,
        run_dir: Path,
        steps_budget: int = 500_000,
        stage: Stage = "plateaued",
        clock: Literal["lockstep", "overlap"] = "lockstep",
        pace: int = 1,
    ) -> None:
        self.run_dir = run_dir
        self.steps_budget = steps_budget
        self.stage: Stage = stage
        self.clock = clock
        self.pace = pace
        self.changes: list[Change] = []
        self.point = INTERVAL
        self.requests: list[str] = []
        self.conflict = False
        if clock == "lockstep":
            for point in range(INTERVAL, steps_budget // UPDATE + INTERVAL, INTERVAL):
                self._snapshot(point)

    @property
    def log(self) -> list[tuple[str, int, Signal, str | None]]:
        """The promotions: key, point, signal, adopt."""
        return [change[:4] for change in self.changes if change.cause == "promotion"]

    @property
    def signal(self) -> Signal:
        return self.changes[-1].signal if self.changes else Signal(scale=1.0)

    @property
    def in_force(self) -> Change | None:
        """The promotion whose signal is in force, None where there is none or it was rolled back."""
        lasting = [change for change in self.changes if change.cause != "control"]
        return lasting[-1] if lasting and lasting[-1].cause == "promotion" else None

    @property
    def adopted_steps(self) -> int:
        return FULL * sum(change.adopt is not None for change in self.changes) if self.clock == "lockstep" else 0

    @property
    def steps(self) -> int:
        return self.point * UPDATE + self.adopted_steps

    @property
    def finished(self) -> bool:
        return self.steps >= self.steps_budget

    def score(self) -> float:
        """Sparse return of an evaluation made now."""
        return 2.8 if self.in_force else 1.0

    def restart(self, points_back: int = 0) -> None:
        if self.clock == "lockstep":
            self.point = max(self.point - points_back * INTERVAL, INTERVAL)

    def handle(self, request: m.Request) -> m.Reply:
        self.requests.append(request.kind)
        match request:
            case m.GetStatus():
                self.point += self.pace if self.clock == "overlap" and not self.finished else 0
                return self._status()
            case m.GetEvidence():
                return m.EvidenceReply(evidence=self._evidence())
            case m.Look():
                if self.clock == "overlap":
                    self._snapshot(self.point)
                status = self._status().model_copy(update={"snapshot": snapshot_name(self.point)})
                return m.LookReply(status=status, evidence=self._evidence())
            case m.Query():
                return m.QueryReply(data={"what": request.what, "rows": list(range(request.points))})
            case m.Promote():
                return self._change(request, request.signal, request.adopt, request.cause)
            case m.Rollback():
                return self._roll_back(request)
            case m.Release():
                if request.update == self.point:
                    self.point += INTERVAL
        return m.Ack()

    def _roll_back(self, request: m.Rollback) -> m.Reply:
        undone = max((i for i, change in enumerate(self.changes) if change.cause == "promotion"), default=None)
        if undone is None:
            return m.ErrorReply(error="bad_request", message="only a promotion can be undone")
        before = self.changes[undone - 1].signal if undone else Signal(scale=1.0)
        signal = before.model_copy(update={"version": self.signal.version + 1})
        return self._change(request, signal, None, "rollback")

    def _change(self, request: m.Promote | m.Rollback, signal: Signal, adopt: str | None, cause: m.Cause) -> m.Reply:
        for change in self.changes:
            if change.key == request.key:
                return self._changed(change, repeated=True)
        if request.base_version != self.signal.version or self.conflict:
            return m.ErrorReply(error="version_conflict", message="another version is in force")
        self.changes.append(Change(request.key, self.point, signal, adopt, cause))
        return self._changed(self.changes[-1], repeated=False)

    def _changed(self, change: Change, repeated: bool) -> m.PromoteReply:
        return m.PromoteReply(
            version=change.signal.version,
            applied_at_update=change.point,
            steps_main=change.point * UPDATE,
            repeated=repeated,
        )

    def _status(self) -> m.TrainerStatus:
        solved, waits = self.in_force is not None, self.clock == "lockstep"
        success = 0.95 if solved else 0.0
        running: m.TrainerState = "waiting" if waits else "training"
        return m.TrainerStatus(
            state="finished" if self.finished else running,
            update=self.point,
            steps_main=self.steps,
            steps_evaluation=1000,
            steps_repeated=0,
            steps_adopted=self.adopted_steps,
            steps_budget=self.steps_budget,
            waiting_at=self.point if waits and not self.finished else None,
            snapshot=snapshot_name(self.point) if waits else None,
            stage="improving" if solved else self.stage,
            signal=self.signal,
            sparse_return=self.score(),
            success_rate=success,
            evaluation=m.EvaluationReport(
                steps=self.steps,
                mean=self.score(),
                sd=0.1,
                episodes=32,
                success_rate=success,
                version=self.signal.version,
            ),
        )

    def _evidence(self) -> Evidence:
        raw = stuck() | {"steps": self.steps, "stage": self.stage, "signal": self.signal.model_dump(mode="json")}
        return Evidence.model_validate(raw)

    def _snapshot(self, point: int) -> None:
        folder = self.run_dir / snapshot_name(point)
        folder.mkdir(parents=True, exist_ok=True)
        recorded(spec()).save(folder / "recorded.safetensors")


Gain = Callable[[m.BranchJob], float]


class FakePool:
    """Final return = 1 + gain(job) + a little noise by seed. Raises Killed instead of job number `kill_at`.

    `kick_revives`: full branches of the control end well above the fork, so that the kick alone is accepted.
    """

    def __init__(self, run_dir: Path, gain: Gain, kill_at: int | None = None, kick_revives: bool = False) -> None:
        self.kick_revives = kick_revives
        self.run_dir = run_dir
        self.gain = gain
        self.kill_at = kill_at
        self.jobs: list[m.BranchJob] = []

    async def run(self, jobs: Sequence[m.BranchJob], on_result: OnResult | None = None) -> list[m.BranchResult]:
        results = []
        for job in jobs:
            if self.kill_at is not None and len(self.jobs) >= self.kill_at:
                raise Killed("branch worker, loop and all")
            self.jobs.append(job)
            results.append(await asyncio.to_thread(self._result, job))
            if on_result is not None:
                await on_result(job, results[-1])
        return results

    def _result(self, job: m.BranchJob) -> m.BranchResult:
        assert job.start == job.fork or (self.run_dir / job.start).is_dir(), job.start
        (self.run_dir / job.end_state).mkdir(parents=True, exist_ok=True)  # of a job whose result was lost
        final = 1.0 + (0.0 if job.arm == "control" else self.gain(job)) + 0.01 * job.seed
        half = job.horizon // 2
        return m.BranchResult(
            key=job.key,
            arm=job.arm,
            seed=job.seed,
            horizon=job.horizon,
            signal=job.signal.model_copy(update={"scale": 2.0}),
            final_return=final,
            success_rate=0.0,
            fork_return=0.5 if self.kick_revives or job.horizon < FULL else final - 0.05,
            curve=[(half, (1.0 + final) / 2, 0.0), (job.horizon, final, 0.0)],
            steps=job.horizon if job.start == job.fork else half,
            steps_evaluation=100,
            end_state=job.end_state,
            end_update=100,
            cpu_s=0.1,
        )


# ---------------------------------------------------------------- models

DIAGNOSIS = json.dumps(
    {
        "findings": [
            {
                "failure": "subgoal_never_reached",
                "cites": ["features.dist_goal.mean"],
                "explanation": "The goal is far.",
            }
        ]
    }
)


def proposal(title: str, expression: str, kick: float | None = None) -> dict[str, Any]:
    return {
        "title": title,
        "reason": "it may help",
        "addresses": ["subgoal_never_reached"],
        "terms": [{"name": "phi", "kind": "potential", "expression": expression}],
        "exploration": {"kick": kick},
    }


def proposals(*given: dict[str, Any]) -> str:
    return json.dumps({"proposals": list(given)})


GOAL = proposal("goal", "-dist_goal / 17", kick=0.05)
DOOR = proposal("door", "-dist_door / 9", kick=0.05)
MATE = proposal("mate", "-dist_mate / 12", kick=0.05)


def ranking(*order: str) -> str:
    return json.dumps({"order": list(order), "reason": "the first is closest to the diagnosis"})


Scripts = dict[str, list[Any]]


# ---------------------------------------------------------------- one session of a loop


class Session:
    """One process's life: opens the run directory, runs the graph until it ends or is killed."""

    def __init__(self, run_dir: Path, trainer: FakeTrainer, pool: FakePool, scripts: Scripts | None = None) -> None:
        self.run_dir = run_dir
        self.trainer = trainer
        self.pool = pool
        self.scripts = scripts
        self.config = config()
        self.events: list[Event] = []

    async def run(self) -> None:
        store = await LoopStore.open(self.run_dir)
        calls: list[Call] = []
        try:
            async with open_checkpoints(self.run_dir) as checkpoints:
                await run_graph(await self.context(store, calls), checkpoints, RUN_ID)
        finally:
            await store.close()

    async def context(self, store: LoopStore, calls: list[Call]) -> Context:
        door = CallBudget(self.config.llm.limits, *await store.usage())
        return Context(
            config=self.config,
            run_dir=self.run_dir,
            client=TrainerClient(MemoryChannel(self.trainer)),
            pool=self.pool,
            store=store,
            models=await asyncio.to_thread(self._models, door, calls),
            spec=spec(),
            calls=calls,
            emit=self.events.append,
            poll_s=0.0002,
        )

    def _models(self, door: CallBudget, calls: list[Call]) -> Models:
        roles: tuple[Role, ...] = ("critic", "generator", "ranker")
        chats = {} if self.scripts is None else {role: Scripted(script=self.scripts.get(role, [])) for role in roles}
        return build_models(self.config.llm, door, calls.append, chats)
