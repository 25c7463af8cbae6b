"""The trainer's own loop in this process: a script asks instead of a loop, and it may be killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cosignal.rl.ipc import messages as m
from cosignal.rl.ipc.messages import RequestHandler
from cosignal.rl.trainer.process import Trainer
from cosignal.rl.training.config import TrainingConfig

Ask = tuple[int, Callable[["Script"], m.Request]]


class Killed(BaseException):
    """What a kill -9 looks like from inside: nobody handles it."""


class Script:
    """Stands in for `TrainerServer`: puts each request once the line has reached its update (under lockstep once it
    waits there), releases every point, and stops a finished trainer.

    `kills`: (update, "before" | "after") at which the process dies: before the requests of that update are put, or
    when they have been answered. A request whose answer was heard is not put again, as by a loop that wrote it down.
    """

    def __init__(self, asks: list[Ask], kills: set[tuple[int, str]] | None = None) -> None:
        self.asks = list(asks)
        self.kills = set(kills or ())
        self.replies: list[m.Reply] = []
        self.said: list[m.Wakeup] = []
        self.trainer: Trainer | None = None

    def poll(self, handler: RequestHandler, timeout_ms: int) -> bool:
        status = handler.handle(m.GetStatus())
        assert isinstance(status, m.TrainerStatus)
        if status.state == "finished":
            handler.handle(m.Stop())
            return False
        at = status.update if status.waiting_at is None else status.waiting_at
        self._die(at, "before")
        if self.asks and self.asks[0][0] <= at:
            self.replies.append(handler.handle(self.asks[0][1](self)))
            self.asks.pop(0)
            if self.asks and self.asks[0][0] <= at:
                return True
        self._die(at, "after")
        if status.waiting_at is not None:
            handler.handle(m.Release(update=status.waiting_at))
        return False

    def _die(self, at: int, when: str) -> None:
        if (at, when) in self.kills:
            self.kills.discard((at, when))
            raise Killed

    def publish(self, wakeup: m.Wakeup) -> None:
        self.said.append(wakeup)

    def close(self) -> None:
        """Nothing is open."""


def run_scripted(
    run_dir: Path,
    config: TrainingConfig,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    after_kill: Callable[[Path], None] = lambda _: None,
) -> Trainer:
    """Train to the end, however often it is killed on the way; the trainer that got there."""
    run_dir.mkdir(exist_ok=True)
    (run_dir / "training.json").write_text(config.model_dump_json())
    monkeypatch.setattr("cosignal.rl.trainer.process.TrainerServer", lambda _: script)
    while True:
        script.trainer = Trainer(run_dir)
        try:
            script.trainer.run()
        except Killed:
            script.trainer.main.close()  # what was queued may or may not have been written: let it be written
            after_kill(run_dir)
            continue
        return script.trainer
