"""The trainer's side of the seam.

Why nothing is lost, stale or applied twice:

* *Lost.* A request without a reply is sent again by the loop, and every request may be repeated: reads change nothing,
  `release` of a past point is ignored, `promote` carries a key made of its content and is looked up in the signal log
  first. The log is on disk before the reply leaves. What PUB/SUB drops is only a wake-up: the loop also asks.
* *Stale.* A promotion names the version it was proposed against; if another one is in force it is refused, never
  merged. Requests are served between updates only, so that nobody sees half an update.
* *Twice.* A key that is in the log is answered with what was done then. After a crash the trainer starts from a
  snapshot and replays the log at the same updates, so what was promoted applies exactly once on the line that counts.

It does not protect against two loops driving one trainer: the run directory's lock does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Protocol

import zmq
from pydantic import ValidationError

from .messages import REQUEST, ErrorReply, Reply, Request, Wakeup
from .process import runtime_dir


class Handler(Protocol):
    def handle(self, request: Request) -> Reply: ...


class TrainerServer:
    """ROUTER and PUB sockets in a private directory, and the pointer file `trainer.json` that names them."""

    def __init__(self, run_dir: Path) -> None:
        self._runtime = runtime_dir()
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._publisher = self._context.socket(zmq.PUB)
        for socket, name in ((self._router, "requests"), (self._publisher, "events")):
            socket.setsockopt(zmq.LINGER, 500)
            socket.bind(f"ipc://{self._runtime}/{name}")
        self._pointer = run_dir / "trainer.json"
        pointer = {
            "pid": os.getpid(),
            "address": f"ipc://{self._runtime}/requests",
            "events": f"ipc://{self._runtime}/events",
        }
        partial = self._pointer.with_suffix(".partial")
        partial.write_text(json.dumps(pointer))
        partial.rename(self._pointer)

    def poll(self, handler: Handler, timeout_ms: int) -> bool:
        """Serve all waiting requests; wait up to `timeout_ms` for the first one. True if any was served."""
        served = False
        while self._router.poll(0 if served else timeout_ms):
            identity, request_id, *body = self._router.recv_multipart()
            reply = self._answer(handler, b"".join(body))
            self._router.send_multipart([identity, request_id, reply.model_dump_json().encode()])
            served = True
        return served

    def _answer(self, handler: Handler, body: bytes) -> Reply:
        try:
            request = REQUEST.validate_json(body)
        except ValidationError as error:
            return ErrorReply(error="protocol", message=f"not a request of this protocol: {error}")
        return handler.handle(request)

    def publish(self, wakeup: Wakeup) -> None:
        self._publisher.send(wakeup.model_dump_json().encode())

    def close(self) -> None:
        self._pointer.unlink(missing_ok=True)
        self._router.close()
        self._publisher.close()
        self._context.term()
        for path in self._runtime.iterdir():
            path.unlink()
        self._runtime.rmdir()
