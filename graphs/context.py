"""The live things that nodes and tools use. They are handed to every `astream`, never checkpointed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from langchain_core.callbacks import AsyncCallbackHandler
from langgraph.config import get_stream_writer

from ..agents.llm.ledger import Call
from ..agents.llm.models import Models
from ..config.run_config import RunConfig
from ..rl.branches.jobs import Executor
from ..rl.ipc.client import TrainerClient
from ..rl.ipc.messages import LookReply, TrainerStatus
from ..rl.signals.scorer import Scorers
from ..rl.task import TaskSpec, splitmix64
from ..runs.events import Event, Warned, stream_chunk
from ..runs.store import LoopStore

POLL_S = 0.2  # how long a node waits for a wake-up before it asks again
GATE_SEED = 0x6A7E
REPLAY = "replay"  # topic of the warning that episodes cannot be played again


@dataclass
class Context:
    """The handles of one run that every node is handed.

    Attributes:
        config: of the run.
        run_dir: the run directory.
        client: asks the trainer.
        pool: runs branches.
        store: the loop's tables.
        models: whom the roles ask.
        spec: of the task.
        calls: model calls that are not in the store yet; a node that asks a model writes them before it ends.
        tell: takes what happens for the run's own events and log; whatever happens is told by `emit`.
        scorers: files of learned terms.
        callbacks: of the graph, beside the one that records visits.
        poll_s: seconds between two questions to the trainer while the loop waits for it.
        wake: set by the trainer's wake-ups, so that waiting for it is shorter than a poll.
        probing: held by a probe from asking what the budget has left until its branches are paid.
        warning: held while a warning is told, so that each is told once.
        offline: no trainer trains beside, as in a replay: the control of a race is a branch then, and what an earlier
            race has left is not there.
    """

    config: RunConfig
    run_dir: Path
    client: TrainerClient
    pool: Executor
    store: LoopStore
    models: Models
    spec: TaskSpec
    calls: list[Call]
    tell: Callable[[Event], None]
    scorers: Scorers = field(default_factory=Scorers)
    callbacks: Sequence[AsyncCallbackHandler] = ()
    poll_s: float = POLL_S
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    probing: asyncio.Lock = field(default_factory=asyncio.Lock)
    warning: asyncio.Lock = field(default_factory=asyncio.Lock)
    offline: bool = False

    @property
    def evaluation_seed(self) -> int:
        """The seed of the gate's evaluation episodes; curves and report use others."""
        return splitmix64(splitmix64(GATE_SEED) ^ self.config.seed) >> 33

    async def status(self) -> TrainerStatus:
        """Ask the trainer for its status; the stage is what `adaptation.stage` fixes, if it does."""
        return self._with_fixed_stage(await self.client.status())

    async def look(self, episodes: bool = False) -> LookReply:
        """Ask the trainer for status, snapshot and evidence of one instant; the stage is as in `status`.

        Args:
            episodes: whether fresh episodes are played for the evidence.
        """
        reply, fixed = await self.client.look(episodes), self.config.adaptation.stage
        if fixed == "auto":
            return reply
        evidence = reply.evidence.model_copy(update={"stage": fixed, "stage_reason": "fixed by adaptation.stage"})
        return reply.model_copy(update={"status": self._with_fixed_stage(reply.status), "evidence": evidence})

    def _with_fixed_stage(self, status: TrainerStatus) -> TrainerStatus:
        fixed = self.config.adaptation.stage
        return status if fixed == "auto" else status.model_copy(update={"stage": fixed})

    async def pause(self) -> None:
        """Wait until the trainer says something, or `poll_s` have passed."""
        try:
            # Python 3.11's `wait_for` would lose a cancellation that comes together with the wake-up.
            async with asyncio.timeout(self.poll_s):
                await self.wake.wait()
        except TimeoutError:
            return  # a wake-up says nothing but that it is time to ask
        self.wake.clear()

    @asynccontextmanager
    async def recording_calls(self) -> AsyncIterator[None]:
        """Write the model calls that are made inside, whatever came of them: the ledger has every attempt."""
        try:
            yield
        finally:
            await self.write_calls()

    def emit(self, event: Event) -> None:
        """Tell what happens: to the run's own events, and to whoever streams the graph in the mode `custom`."""
        self.tell(event)
        try:
            writer = get_stream_writer()
        except (RuntimeError, KeyError):  # no node runs here: a callback of the graph, a test, a round offline
            return
        writer(stream_chunk(event))

    async def warn(self, topic: str, message: str) -> None:
        """Tell the user something, once a topic: as an event, in the log, and in what status and report show."""
        async with self.warning:
            warnings = await self.store.get("warnings", {})
            if topic not in warnings:
                await self.store.set(warnings=warnings | {topic: message})
                self.emit(Warned(message=message))

    async def begins_fresh(self) -> bool:
        """Return whether branches begin fresh episodes, since it is known that running ones cannot be played again."""
        return REPLAY in await self.store.get("warnings", {})

    async def write_calls(self) -> None:
        """Write the model calls that are not in the store yet."""
        await self.store.write(*self.calls)
        self.calls.clear()


async def wait_for_trainer_at(ctx: Context, point: int) -> None:
    """Return when a lockstep trainer waits at `point`, where a change of its signal must find it.

    A trainer that was restarted may wait at an earlier point: it is released from there until it comes here, where its
    log applies what had been applied here before.
    """
    while True:
        status = await ctx.client.status()
        if status.waiting_at is not None and status.waiting_at >= point:
            return
        if status.state in ("finished", "stopping"):
            return  # the trainer compares versions and refuses what comes too late
        if status.waiting_at is not None:
            await ctx.client.release(status.waiting_at)
        await ctx.pause()
