"""The whole adaptation graph without training: a trainer in memory, a pool with made-up gains, and one loop session.

    trainer, pool = FakeTrainer(run_dir), FakeBranchPool(run_dir, gain=lambda job: 1.7)
    await LoopSession(run_dir, trainer, pool).run()

The graph, the run directory's `loop.db` and the checks of proposals are the real ones. The task is Two-Switch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from ..agents.config import ROLES
from ..agents.llm.ledger import Call
from ..agents.llm.models import Models, build_models
from ..agents.llm.rate_limits import CallBudget
from ..config.run_config import RunConfig
from ..errors import CosignalError
from ..graphs.context import Context
from ..graphs.session.graph_runner import open_checkpoints, run_graph
from ..rl.branches.jobs import Failures, Job, JobReply, OnReply, OnResult
from ..rl.envs.factory import task_spec
from ..rl.evidence.schema import Evidence
from ..rl.experience.transition_sample import TransitionSample
from ..rl.ipc import messages as m
from ..rl.ipc.client import MemoryChannel, TrainerClient
from ..rl.signals.signal import Signal
from ..rl.stage import Stage
from ..rl.task import FloatArray, TaskSpec
from ..runs.events import Event
from ..runs.store import LoopStore
from .chat_models import ScriptedChatModel
from .evidence import stuck_evidence

UPDATE = 2048  # environment steps
FULL = 60_000  # environment steps of a full branch
INTERVAL = 16  # updates between two adaptation points
RUN_ID = "fake-run"
FINAL_RETURN = "final_return.txt"  # file of an end state

Gain = Callable[[m.BranchJob], float]
Fails = Callable[[Job], str | None]
Scripts = Mapping[str, list[Any]]  # role: what its `ScriptedChatModel` answers


class Killed(CosignalError):
    """Stands for SIGKILL: whoever raises it does nothing afterwards, and nobody handles it."""


def fake_run_config(**adaptation: Any) -> RunConfig:
    """Return a config of half a million main steps, which leave room for one intervention.

    A round costs 720 000 branch steps at the look that decides. `adaptation` replaces settings of that section.
    """
    settings = {"candidates": 3, "patience": 250_000, "interval": INTERVAL * UPDATE, **adaptation}
    return RunConfig.model_validate(
        {
            "trainer": {"steps": 500_000},
            "branches": {"horizon": FULL, "screen_seeds": 2, "finalists": 2},
            "gate": {"claim": "signal", "looks": [3, 5], "level": 0.1},
            "adaptation": {"max_share": 0.85, "rounds": 2, "evidence_calls": 3, **settings},
            "llm": {"limits": {"requests_per_minute": 100_000}},
        }
    )


def fake_run_spec() -> TaskSpec:
    """Return the description of the task of `fake_run_config`."""
    return task_spec(fake_run_config().task)


def random_transitions(spec: TaskSpec) -> TransitionSample:
    """Return 50 transitions and 12 ends of episodes of the first group, uniform over the features' ranges.

    They are the same at every call. No event happens and no episode ends well.
    """
    rng = np.random.default_rng(0)
    group, n, ends = spec.groups[0], 50, 12
    low, high = (np.array([getattr(f, end) for f in group.features], np.float32) for end in ("low", "high"))

    def draw(count: int) -> FloatArray:
        return rng.uniform(low, high, (count, len(group.agents), len(low))).astype(np.float32)

    return TransitionSample(
        features=[draw(n)],
        last_features=[draw(n)],
        events=[np.zeros((n, len(group.agents), len(group.events)), np.float32)],
        terminated=np.zeros(n, np.uint8),
        end_features=[draw(ends)],
        end_success=np.zeros(ends, np.uint8),
    )


# ---------------------------------------------------------------- the trainer


class SignalChange(NamedTuple):
    """A line of the fake's signal log.

    Attributes:
        key: the request's, which makes it idempotent.
        point: update from which `signal` is in force.
        signal: the signal.
        adopt: the state that became the main line with it, None where the line kept its own.
        cause: promotion, rollback, a control whose end state was kept, or potentials that left by their offset.
    """

    key: str
    point: int
    signal: Signal
    adopt: str | None
    cause: m.Cause


class FakeTrainer:
    """A trainer that is stuck until a signal is promoted, and has then solved its task.

    It speaks the trainer's protocol (`rl/ipc/messages.py`) in memory: `TrainerClient(MemoryChannel(FakeTrainer(...)))`.
    Under the lockstep clock it waits at every adaptation point, whose snapshots exist from the start. Under the overlap
    clock it never waits: every status that is asked of it finds it `pace` updates further on.

    Subclasses may override `score`, `status`, `evidence`, `rollback` and `signal`.

    Attributes:
        changes: the signal log; it survives `restart`.
        point: the update at which it is.
        requests: kinds of the requests so far, in order.
        conflict: whether every promotion and rollback is refused as stale.
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
        self.changes: list[SignalChange] = []
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
        """The signal in force."""
        return self.changes[-1].signal if self.changes else Signal(scale=1.0)

    @property
    def in_force(self) -> SignalChange | None:
        """The promotion whose signal is in force, None where there is none or it was rolled back."""
        lasting = [change for change in self.changes if change.cause not in ("control", "offset")]
        return lasting[-1] if lasting and lasting[-1].cause == "promotion" else None

    @property
    def adopted_steps(self) -> int:
        """Environment steps that adopted branches have brought along."""
        return FULL * sum(change.adopt is not None for change in self.changes) if self.clock == "lockstep" else 0

    @property
    def steps(self) -> int:
        """Main steps so far."""
        return self.point * UPDATE + self.adopted_steps

    @property
    def finished(self) -> bool:
        """Whether the budget of main steps is used up."""
        return self.steps >= self.steps_budget

    def score(self) -> float:
        """Return the mean sparse return of an evaluation made now."""
        return 2.8 if self.in_force else 1.0

    def restart(self, points_back: int = 0) -> None:
        """Go back to an earlier snapshot, as a killed trainer would; `changes` are what survives."""
        if self.clock == "lockstep":
            self.point = max(self.point - points_back * INTERVAL, INTERVAL)

    def handle(self, request: m.Request) -> m.Reply:
        """Answer one request, as `rl.ipc.client.Handler` asks for."""
        self.requests.append(request.kind)
        match request:
            case m.GetStatus():
                # under the overlap clock time passes with every status
                self.point += self.pace if self.clock == "overlap" and not self.finished else 0
                return self.status()
            case m.GetEvidence():
                return m.EvidenceReply(evidence=self.evidence())
            case m.Look():
                if self.clock == "overlap":
                    self._snapshot(self.point)
                status = self.status().model_copy(update={"snapshot": _snapshot_name(self.point)})
                return m.LookReply(status=status, evidence=self.evidence())
            case m.Query():
                return m.QueryReply(data={"what": request.what, "rows": list(range(request.points))})
            case m.Promote():
                return self._change(request, request.signal, request.adopt, request.cause)
            case m.Rollback():
                return self.rollback(request)
            case m.Release():
                if request.update == self.point:
                    self.point += INTERVAL
        return m.Ack()

    def rollback(self, request: m.Rollback) -> m.Reply:
        """Return to the signal before the last promotion, under a new version."""
        # the last promotion, whatever came after it
        undone = max((i for i, change in enumerate(self.changes) if change.cause == "promotion"), default=None)
        if undone is None:
            return m.ErrorReply(error="bad_request", message="only a promotion can be undone")
        before = self.changes[undone - 1].signal if undone else Signal(scale=1.0)
        signal = before.model_copy(update={"version": self.signal.version + 1})
        return self._change(request, signal, None, "rollback")

    def status(self) -> m.TrainerStatus:
        """Return the status as it is now."""
        solved, waits = self.in_force is not None, self.clock == "lockstep"
        success = 0.95 if solved else 0.0
        running: m.TrainerState = "waiting" if waits else "training"
        return m.TrainerStatus(
            state="finished" if self.finished else running,
            update=self.point,
            steps_main=self.steps,
            steps_evaluation=1000,
            steps_repeated=0,
            steps_trained=self.steps - self.adopted_steps,
            steps_budget=self.steps_budget,
            waiting_at=self.point if waits and not self.finished else None,
            snapshot=_snapshot_name(self.point) if waits else None,
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

    def evidence(self) -> Evidence:
        """Return the evidence as it is now: `stuck_evidence` with this trainer's steps, stage and signal."""
        signal = self.signal.model_dump(mode="json")
        return Evidence.model_validate(stuck_evidence() | {"steps": self.steps, "stage": self.stage, "signal": signal})

    def _change(self, request: m.Promote | m.Rollback, signal: Signal, adopt: str | None, cause: m.Cause) -> m.Reply:
        # a repeated key changes nothing, and is answered as before
        change = next((change for change in self.changes if change.key == request.key), None)
        repeated = change is not None
        if change is None:
            # compare-and-set, as the trainer does it
            if request.base_version != self.signal.version or self.conflict:
                return m.ErrorReply(error="version_conflict", message="another version is in force")
            change = SignalChange(request.key, self.point, signal, adopt, cause)
            self.changes.append(change)
        return m.PromoteReply(
            version=change.signal.version,
            applied_at_update=change.point,
            steps_main=change.point * UPDATE,
            repeated=repeated,
        )

    def _snapshot(self, point: int) -> None:
        folder = self.run_dir / _snapshot_name(point)
        folder.mkdir(parents=True, exist_ok=True)
        random_transitions(fake_run_spec()).save(folder / "recorded.safetensors")


def _snapshot_name(point: int) -> str:
    # rl.training.checkpoint has the same one, but importing it takes torch, and so seconds
    return f"checkpoints/update_{point:09d}"


# ---------------------------------------------------------------- the branches


class FakeBranchPool:
    """A pool whose branches end at a made-up return: 1 + gain + 0.01 · seed, and the control without the gain.

    An end state's policy plays at the return that its branch ended at, any other at 1. Every second episode pays 0.1
    more, the others 0.1 less. Subclasses may override `result` and `evaluation`.

    Attributes:
        jobs: the branches so far, in order.
        evaluations: the evaluations so far, in order.
    """

    def __init__(
        self,
        run_dir: Path,
        gain: Gain,
        kill_at: int | None = None,
        kick_revives: bool = False,
        fails: Fails = lambda _: None,
    ) -> None:
        """Make a pool.

        Args:
            run_dir: the run directory, where end states become folders that hold a return.
            gain: how much better than the control's a branch's final return is.
            kill_at: number of the job of either kind, from 0, at which Killed is raised instead; None for never.
            kick_revives: whether full branches, the control's included, end well above their fork, so that the kick
                alone is accepted.
            fails: why a job cannot be run; None where it can.
        """
        self.fails = fails
        self.kick_revives = kick_revives
        self.run_dir = run_dir
        self.gain = gain
        self.kill_at = kill_at
        self.jobs: list[m.BranchJob] = []
        self.evaluations: list[m.EvaluationJob] = []

    @overload
    async def run(self, jobs: Sequence[m.BranchJob], on_result: OnResult | None = None) -> list[m.BranchReply]: ...
    @overload
    async def run(self, jobs: Sequence[Job], on_result: OnReply | None = None) -> list[JobReply]: ...
    async def run(self, jobs: Sequence[Job], on_result: Any = None) -> Any:
        """Run the jobs one after another, as `rl.branches.jobs.Executor` asks for."""
        replies: list[JobReply] = []
        for job in jobs:
            skipped = Failures(replies).skipped(job)
            if skipped is not None:
                replies.append(skipped)
                continue
            if self.kill_at is not None and len(self.jobs) + len(self.evaluations) >= self.kill_at:
                raise Killed("branch worker, loop and all")
            if isinstance(job, m.BranchJob):
                self.jobs.append(job)
                replies.append(await asyncio.to_thread(self.reply, job))
            else:
                self.evaluations.append(job)
                replies.append(await asyncio.to_thread(self.reply_to_evaluation, job))
            if on_result is not None:
                await on_result(job, replies[-1])
        return replies

    def reply(self, job: m.BranchJob) -> m.BranchReply:
        """Return the result of the job; its failure where `fails` says so, after 700 environment steps."""
        reason = self.fails(job)
        if reason is None:
            return self.result(job)
        return m.BranchFailure(key=job.key, arm=job.arm, seed=job.seed, reason=reason, cause="error", steps=700)

    def reply_to_evaluation(self, job: m.EvaluationJob) -> m.EvaluationReply:
        """Return the result of the job; its failure where `fails` says so, after 700 environment steps."""
        reason = self.fails(job)
        if reason is None:
            return self.evaluation(job)
        return m.BranchFailure(key=job.key, arm=job.arm, seed=job.seed, reason=reason, cause="error", steps=700)

    def evaluation(self, job: m.EvaluationJob) -> m.EvaluationResult:
        """Return what the policy of the job's state plays at."""
        kept = self.run_dir / job.state / FINAL_RETURN
        episodes = made_up_episodes(float(kept.read_text()) if kept.exists() else 1.0, job.episodes)
        return m.EvaluationResult(key=job.key, arm=job.arm, steps_main=UPDATE, episodes=episodes, cpu_s=0.01)

    def result(self, job: m.BranchJob) -> m.BranchResult:
        """Return what the job ends in, and make its end state's folder. A job that starts nowhere fails."""
        assert job.start == job.fork or (self.run_dir / job.start).is_dir(), job.start
        (self.run_dir / job.end_state).mkdir(parents=True, exist_ok=True)  # is there where a result was lost
        # seeds differ a little, so that the gate has a spread
        final = 1.0 + (0.0 if job.arm == "control" else self.gain(job)) + 0.01 * job.seed
        (self.run_dir / job.end_state / FINAL_RETURN).write_text(repr(final))
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
            # A rung of a race goes on from the one before it, what the gate judges from the screening.
            steps=job.horizon if job.start == job.fork else min(half, INTERVAL * UPDATE),
            steps_evaluation=100,
            end_state=job.end_state,
            end_update=100,
            episodes=made_up_episodes(final, job.evaluation_episodes),
            cpu_s=0.1,
        )


def made_up_episodes(mean: float, episodes: int, reached: Mapping[str, int] | None = None) -> m.EpisodeStats:
    """Return episodes of 10 steps whose returns are `mean` ± 0.1, in turns; no success.

    Args:
        mean: of the returns, exactly so where `episodes` is even.
        episodes: how many.
        reached: how often each of them reached a milestone.
    """
    return m.EpisodeStats(
        returns=[mean + (0.1 if number % 2 else -0.1) for number in range(episodes)],
        successes=[False] * episodes,
        lengths=[10] * episodes,
        reached={name: [times] * episodes for name, times in (reached or {}).items()},
        steps=10 * episodes,
    )


# ---------------------------------------------------------------- one session of a loop


class LoopSession:
    """One process's life of a loop: it opens the run directory and runs the graph until that ends or is killed.

    A second session on the same directory goes on where the first one was killed. Subclasses may override `context`
    and `models`.

    Attributes:
        config: `fake_run_config()`, may be replaced before `run`.
        events: what the run has told so far.
    """

    def __init__(
        self, run_dir: Path, trainer: FakeTrainer, pool: FakeBranchPool, scripts: Scripts | None = None
    ) -> None:
        """Make a session on an existing directory.

        Args:
            run_dir: the run directory.
            trainer: answers the loop's requests.
            pool: runs its branches.
            scripts: answers by role (a role that is missing has none); None to ask the embedded rules.
        """
        self.run_dir = run_dir
        self.trainer = trainer
        self.pool = pool
        self.scripts = scripts
        self.config = fake_run_config()
        self.events: list[Event] = []

    async def run(self) -> None:
        """Run the graph to its end, from its last checkpoint where there is one."""
        store = await LoopStore.open(self.run_dir)
        calls: list[Call] = []
        try:
            context = await self.context(store, calls)
            async with open_checkpoints(self.run_dir) as checkpoints, aclosing(context.models):
                await run_graph(context, checkpoints, RUN_ID)
        finally:
            await store.close()

    async def context(self, store: LoopStore, calls: list[Call]) -> Context:
        """Return what the graph's nodes use; `calls` gets the ledger row of every model call."""
        budget = CallBudget(self.config.llm.limits, *await store.usage())
        return Context(
            config=self.config,
            run_dir=self.run_dir,
            client=TrainerClient(MemoryChannel(self.trainer)),
            pool=self.pool,
            store=store,
            models=await asyncio.to_thread(self.models, budget, calls),
            spec=fake_run_spec(),
            calls=calls,
            tell=self.events.append,
            poll_s=0.0002,
        )

    def models(self, budget: CallBudget, calls: list[Call]) -> Models:
        """Return the roles' models: scripted ones, or the embedded rules where there are no scripts."""
        scripts = self.scripts
        chats = {} if scripts is None else {role: ScriptedChatModel(script=scripts.get(role, [])) for role in ROLES}
        return build_models(self.config.llm, budget, calls.append, chats)
