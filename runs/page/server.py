"""Serves the pages on this machine, to whoever has the token."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from ...errors import ConfigError
from ..graph_picture import Topology
from ..trust import SHIPPED_ONLY, Trust
from .app import create_app
from .auth import HOST
from .replay_jobs import AskAgain


def serve(
    paths: Sequence[Path],
    port: int,
    tell: Callable[[str], None],
    *,
    topology: Callable[[], Topology],
    ask_again: AskAgain,
    trust: Trust = SHIPPED_ONLY,
) -> None:
    """Serve the pages of runs until interrupted.

    Args:
        paths: run directories, or folders of runs.
        port: to listen on; 0 takes any free one.
        tell: gets the address with its token, once it can be opened.
        topology: as for `create_app`.
        ask_again: as for `create_app`.
        trust: as for `create_app`.

    Raises:
        NotARunError: a path is no folder.
        ConfigError: the port is taken.
    """
    listener = listen(port)
    token, number = secrets.token_urlsafe(18), int(listener.getsockname()[1])
    app = create_app(paths, token, topology=topology, ask_again=ask_again, trust=trust, port=number)
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, server_header=False, timeout_graceful_shutdown=1
    )
    tell(f"http://{HOST}:{number}/?token={token}")
    uvicorn.Server(config).run(sockets=[listener])


def listen(port: int) -> socket.socket:
    """Bind a socket to the port of this machine; 0 takes any free one.

    Raises:
        ConfigError: the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"port {port} of {HOST} must be free, it is not ({error.strerror}); give another") from error
    return listener
