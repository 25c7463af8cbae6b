"""`cosignal bench ipc`: how long the trainer takes to answer, and what looking for a question costs it.

A real trainer process waits at an adaptation point; the loop's own client asks over the `ipc://` socket, one request at
a time. `round_trip_ms_*` are of a status, `evidence_ms_*` of the evidence that models see. `round_trip_to_echo`: the
median round trip of a status by that of the same bytes through the same client to a thread that sends them back, so
that what is left is the trainer's. `idle_poll_us`: CPU time of finding that nobody asks, once an update;
`idle_poll_share`: of the CPU time of a whole update.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from ...rl.ipc.client import ZmqChannel
from ...rl.ipc.messages import Ack, GetStatus, Reply, Request
from ...rl.ipc.runtime_dir import make_runtime_dir, remove_runtime_dir
from ...rl.ipc.server import TrainerServer
from ...rl.processes import one_thread
from ...rl.training.line import TrainingLine
from ..report import Tell
from .measure import bench_result, median, spell
from .trainer import training_config, waiting_trainer

UPDATES = 32  # before the point at which the trainer waits
ENVS, ROLLOUT = 64, 32


def run_ipc(tell: Tell, requests: int = 2000, polls: int = 20_000, updates: int = UPDATES) -> dict[str, Any]:
    """Measure round trips and idle polls.

    Args:
        tell: is given lines of progress.
        requests: status requests; of evidence a quarter of them are made.
        polls: looks for a request where there is none.
        updates: before the point at which the trainer waits.
    """
    one_thread()
    times = asyncio.run(measure_round_trips(requests, updates))
    metrics = round_trip_metrics(times)
    tell(f"round trips: {metrics}")
    metrics |= poll_metrics(idle_poll_s(polls), update_s())
    tell(f"an idle poll: {metrics['idle_poll_us']} µs")
    config = {
        "task": "two_switch", "algorithm": "ippo", "envs": ENVS, "rollout": ROLLOUT, "requests": requests,
        "polls": polls, "updates": updates,
    }  # fmt: skip
    return bench_result("ipc", config, metrics)


def round_trip_metrics(times: dict[str, list[float]]) -> dict[str, Any]:
    """Return the metrics of requests from the seconds of each "round_trip", "evidence" and "echo"."""
    metrics: dict[str, Any] = {}
    for name, seconds in times.items():
        for percent in (50, 99):
            metrics[f"{name}_ms_p{percent}"] = round(1000 * float(np.percentile(seconds, percent)), 3)
    # medians, since a single slow answer would move a mean
    ratio = np.median(times["round_trip"]) / np.median(times["echo"])
    return {**metrics, "round_trip_to_echo": round(float(ratio), 2)}


def poll_metrics(poll_s: float, update_s: float) -> dict[str, Any]:
    """Return the metrics of an idle poll from the CPU seconds of a poll and of an update."""
    return {
        "idle_poll_us": round(1e6 * poll_s, 2), "update_ms": round(1000 * update_s, 2),
        "idle_poll_share": round(poll_s / update_s, 6),
    }  # fmt: skip


# ------------------------------------------------------------ round trips


async def measure_round_trips(requests: int, updates: int) -> dict[str, list[float]]:
    """Return the seconds of each request, for "round_trip", "evidence" and "echo"."""
    pause = updates * ENVS * ROLLOUT
    config = training_config("ippo", ENVS, ROLLOUT).model_copy(update={"pause_every_steps": pause})
    with tempfile.TemporaryDirectory() as folder:
        async with waiting_trainer(config, Path(folder)) as client:
            status = await client.status()
            times = {
                "round_trip": await repeated(client.status, requests),
                "evidence": await repeated(client.evidence, max(1, requests // 4)),
            }
    # the same bytes through the same client, answered by a thread that does nothing else
    with echo(status) as address:
        channel = ZmqChannel(address)
        times["echo"] = await repeated(lambda: channel.request(GetStatus()), requests)
        channel.close()
    return times


async def repeated(ask: Callable[[], Awaitable[object]], times: int) -> list[float]:
    """Ask again and again, and return the seconds of the last `times` answers.

    The first ones, which find everything cold, are left out.
    """
    seconds = []
    for _ in range(times + min(50, times)):
        start = time.perf_counter()
        await ask()
        seconds.append(time.perf_counter() - start)
    return seconds[-times:]


@contextmanager
def echo(reply: Reply) -> Iterator[str]:
    """Give the address of a thread that answers every request with the bytes of `reply`."""
    folder = make_runtime_dir()
    address, answer, over = f"ipc://{folder}/echo", reply.model_dump_json().encode(), threading.Event()

    def answer_all(socket: zmq.Socket[bytes]) -> None:
        while not over.is_set():
            if socket.poll(20):
                identity, request_id, _ = socket.recv_multipart()
                socket.send_multipart([identity, request_id, answer])

    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(address)
        thread = threading.Thread(target=answer_all, args=(socket,), daemon=True)
        thread.start()
        try:
            yield address
        finally:
            over.set()
            thread.join()
    remove_runtime_dir(folder)


# ------------------------------------------------------------ polling


class NeverAsked:
    """A handler for a server that nobody asks."""

    def handle(self, request: Request) -> Reply:  # noqa: ARG002
        """Acknowledge the request."""
        return Ack()


def idle_poll_s(polls: int) -> float:
    """Return the CPU seconds of one look for a request where there is none, the mean of `polls`."""
    with tempfile.TemporaryDirectory() as folder:
        server, nobody = TrainerServer(Path(folder)), NeverAsked()
        start = time.process_time()
        for _ in range(polls):
            server.poll(nobody, timeout_ms=0)
        taken = time.process_time() - start
        server.close()
    return taken / polls


def update_s() -> float:
    """Return the CPU seconds of one update, the median of ten after two warm ones."""
    line = TrainingLine(training_config("ippo", ENVS, ROLLOUT))
    seconds = [spell(lambda: len([line.update()]), 0.0).cpu_s for _ in range(12)]
    return median(seconds[2:], 6)
