"""The trainer's side of the interface to the loop.

Why nothing is lost, stale or applied twice:

* *Lost.* A request without a reply is sent again by the loop, and every request may be repeated: reads change nothing
  (`look` writes a snapshot of what is there anyway), `release` of a past point is ignored, `promote` and `rollback`
  carry a key made of their content and are looked up in the signal log first. The log is on disk before the reply
  leaves. What PUB/SUB drops is only a wake-up: the loop also asks.
* *Stale.* A promotion names the version it was proposed against, a rollback the one it undoes; if another one is in
  force it is refused, never merged. Requests are served between updates only, so that nobody sees half an update, and
  under the overlap clock nothing more is served at a boundary at which the signal changed.
* *Twice.* A key that is in the log is answered with what was done then. The line's own state is on disk before a
  change is logged. After a crash the trainer starts from a snapshot and replays the log at the same updates, so what
  was promoted or rolled back applies exactly once on the line that counts.

It does not protect against two loops driving one trainer: the run directory's lock does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import zmq
from pydantic import ValidationError

from ...files import write_whole
from .messages import PROTOCOL, REQUEST, ErrorReply, Reply, RequestHandler, Wakeup
from .runtime_dir import make_runtime_dir, remove_runtime_dir

MAX_MESSAGE = 2_000  # characters of an error


def answered(handler: RequestHandler, body: bytes) -> Reply:
    """Return the reply to a request as it comes from the socket; what is none gets an error."""
    try:
        request = REQUEST.validate_json(body)
    except ValidationError as error:
        message = f"not a request of protocol {PROTOCOL}: {error}"
        return ErrorReply(error="protocol", message=message[:MAX_MESSAGE])
    return handler.handle(request)


class TrainerServer:
    """ROUTER and PUB sockets in a private directory, and the pointer file `trainer.json` that names them."""

    def __init__(self, run_dir: Path) -> None:
        self._runtime = make_runtime_dir()
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._publisher = self._context.socket(zmq.PUB)
        for socket, name in ((self._router, "requests"), (self._publisher, "events")):
            socket.setsockopt(zmq.LINGER, 500)
            socket.bind(f"ipc://{self._runtime}/{name}")
        # the sockets listen before anybody can read where
        self._pointer = run_dir / "trainer.json"
        pointer = {
            "pid": os.getpid(),
            "address": f"ipc://{self._runtime}/requests",
            "events": f"ipc://{self._runtime}/events",
        }
        write_whole(self._pointer, json.dumps(pointer), sync=False)

    def poll(self, handler: RequestHandler, timeout_ms: int) -> bool:
        """Serve the next request, waiting up to `timeout_ms` for one. True if there was one."""
        if not self._router.poll(timeout_ms):
            return False
        identity, request_id, *body = [*self._router.recv_multipart(), b""]
        reply = answered(handler, b"".join(body))
        self._router.send_multipart([identity, request_id, reply.model_dump_json().encode()])
        return True

    def publish(self, wakeup: Wakeup) -> None:
        """Send a wake-up to whoever subscribed."""
        self._publisher.send(wakeup.model_dump_json().encode())

    def close(self) -> None:
        """Remove the pointer file, the sockets and their directory. Safe to repeat."""
        self._pointer.unlink(missing_ok=True)
        self._router.close()
        self._publisher.close()
        self._context.term()
        remove_runtime_dir(self._runtime)
