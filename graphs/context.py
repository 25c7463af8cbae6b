"""The live handles that nodes and tools use. They are handed to every `astream`, never checkpointed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from langchain_core.callbacks import AsyncCallbackHandler

from ..agents.llm.ledger import Call
from ..agents.llm.models import Models
from ..config.run_config import RunConfig
from ..rl.branches.jobs import Executor
from ..rl.ipc.client import TrainerClient
from ..rl.ipc.messages import LookReply, TrainerStatus
from ..rl.signals.scorer import Scorers
from ..rl.task import TaskSpec, splitmix64
from ..runs.events import Event
from ..runs.store import LoopStore

POLL_S = 0.2  # how long a node waits for a wake-up before it asks again
_GATE_SEED = 0x6A7E


@dataclass
class Context:
    """The handles of one run.

    Attributes:
        calls: model calls that are not in the store yet; a node that asks a model writes them before it ends.
        emit: hears every event of the run.
        callbacks: callback handlers of the graph, beside the one that records visits.
        wake: set by the trainer's wake-ups, so that waiting for it is shorter than a poll.
        probing: held by a probe from asking what the budget has left until its branches are paid.
    """

    config: RunConfig
    run_dir: Path
    client: TrainerClient
    pool: Executor
    store: LoopStore
    models: Models
    spec: TaskSpec
    calls: list[Call]
    emit: Callable[[Event], None]
    scorers: Scorers = field(default_factory=Scorers)
    callbacks: Sequence[AsyncCallbackHandler] = ()
    poll_s: float = POLL_S
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    probing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def evaluation_seed(self) -> int:
        """Of the gate's evaluation episodes; curves and report use others."""
        return splitmix64(splitmix64(_GATE_SEED) ^ self.config.seed) >> 33

    async def status(self) -> TrainerStatus:
        """The trainer's, with the stage that `adaptation.stage` says: everything that follows from a stage reads it."""
        return self._staged(await self.client.status())

    async def look(self) -> LookReply:
        """As `status`: status, snapshot and evidence of one instant."""
        reply, fixed = await self.client.look(), self.config.adaptation.stage
        if fixed == "auto":
            return reply
        evidence = reply.evidence.model_copy(update={"stage": fixed, "stage_reason": "fixed by adaptation.stage"})
        return reply.model_copy(update={"status": self._staged(reply.status), "evidence": evidence})

    def _staged(self, status: TrainerStatus) -> TrainerStatus:
        fixed = self.config.adaptation.stage
        return status if fixed == "auto" else status.model_copy(update={"stage": fixed})

    async def pause(self) -> None:
        """Until the trainer says something, or `poll_s` have passed."""
        try:
            await asyncio.wait_for(self.wake.wait(), self.poll_s)
        except TimeoutError:
            return  # wake-ups carry no truth; asking again does
        self.wake.clear()

    @asynccontextmanager
    async def recording_calls(self) -> AsyncIterator[None]:
        """Write the model calls that are made inside, whatever came of them: the ledger has every attempt."""
        try:
            yield
        finally:
            await self.write_calls()

    async def write_calls(self) -> None:
        """Write the model calls that are not in the store yet."""
        await self.store.write(*self.calls)
        self.calls.clear()


async def wait_for_trainer_at(ctx: Context, point: int) -> None:
    """Return when a lockstep trainer waits at `point`, or will wait no more.

    A trainer that was restarted may wait at an earlier point. It is released from there, and its log applies at `point`
    what had been applied before.
    """
    while True:
        status = await ctx.client.status()
        if status.waiting_at is not None and status.waiting_at >= point:
            return
        if status.state in ("finished", "stopping"):
            return  # whoever wanted to apply something there is refused by compare-and-set
        if status.waiting_at is not None:
            await ctx.client.release(status.waiting_at)
        await ctx.pause()
