"""A stand-in for the package ray, in this process and without actors: what `RayExecutor` does with its answers.

What an actor does with a job is the job's arm, as in `fake_worker`: "die" loses the actor the first time, "die always"
every time, "fail" answers with an error, "hang" never answers; else a result comes. An actor can be made to die at its
start, or to have other code.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cosignal.rl.branches
import pytest
from cosignal.rl.branches.jobs import JOB
from fake_worker import answer


class RayError(Exception):
    pass


class _Method:
    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        self.remote = lambda *arguments: asyncio.ensure_future(call(*arguments))


class _Actor:
    def __init__(self, ray: FakeRay) -> None:
        self._ray = ray
        self.ready, self.run, self.close = _Method(self._ready), _Method(self._run), _Method(self._close)

    async def _close(self) -> None:
        """Close nothing: there are no environments."""

    async def _ready(self) -> str:
        await asyncio.sleep(0.001)
        if self._ray.dead_starts > 0:
            self._ray.dead_starts -= 1
            raise RayError("no start")
        return self._ray.version

    async def _run(self, text: str, files: Any) -> tuple[bytes, Any]:
        job = JOB.validate_json(text)
        self._ray.sent.append(job.key)
        await asyncio.sleep(0.001)
        if job.arm == "die always" or (job.arm == "die" and self._ray.sent.count(job.key) == 1):
            raise RayError("out of memory")
        if job.arm == "hang":
            await asyncio.sleep(600)
        content = job.model_dump(mode="json") | ({"arm": "control"} if job.arm == "die" else {})
        return json.dumps(answer(Path("/nowhere"), content)).encode(), {"of": job.key}


class FakeRay(ModuleType):
    """`sent`: keys of the jobs that actors got, in order; `stored`: how often each thing was put into the store."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.sent: list[str] = []
        self.stored: Counter[str] = Counter()
        self.killed: list[Any] = []
        self.started: list[Any] = []
        self.dead_starts = 0
        self.version = ""
        self.up = False

    def is_initialized(self) -> bool:
        return self.up

    def init(self, **_: Any) -> None:
        self.up = True

    def shutdown(self) -> None:
        self.up = False

    def put(self, files: str) -> str:
        self.stored[files] += 1
        return files

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)

    def remote(self, _: type) -> FakeRay:
        def start(*_: Any) -> _Actor:
            self.started.append(_Actor(self))
            return self.started[-1]

        class Options:
            options = staticmethod(lambda **_: Options)
            remote = staticmethod(start)

        return Options  # type: ignore[return-value]


def install(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """Put it in the place of the package, and load `ray_pool` anew with it, until the test ends."""
    ray = FakeRay()
    exceptions, private, raylet = ModuleType("ray.exceptions"), ModuleType("ray._private"), ModuleType("ray._raylet")
    exceptions.RayError = RayError  # type: ignore[attr-defined]
    private.worker = ModuleType("ray._private.worker")  # type: ignore[attr-defined]

    class Config:
        initialize = staticmethod(lambda _: None)

    class AuthenticationTokenLoader:
        instance = staticmethod(lambda: AuthenticationTokenLoader)
        reset_cache = staticmethod(lambda: None)

    raylet.Config, raylet.AuthenticationTokenLoader = Config, AuthenticationTokenLoader  # type: ignore[attr-defined]
    for module in (ray, exceptions, private, raylet):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    # Set before it is deleted, so that what the test imports is removed at its end.
    monkeypatch.setattr(cosignal.rl.branches, "ray_pool", None, raising=False)
    monkeypatch.setitem(sys.modules, "cosignal.rl.branches.ray_pool", ray)
    del sys.modules["cosignal.rl.branches.ray_pool"]
    return ray
