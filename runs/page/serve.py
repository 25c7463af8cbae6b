"""Serving the pages on this machine, to whoever has the token."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from ...errors import ConfigError
from .app import create_app
from .auth import HOST


def serve(paths: Sequence[Path], port: int, tell: Callable[[str], None]) -> None:
    """Serve until interrupted; `tell` gets the address with its token once it can be opened. `port` 0: any free one.

    Raises NotARunError where a path is no folder, ConfigError where the port is taken.
    """
    listening = _listen(port)
    token, number = secrets.token_urlsafe(18), int(listening.getsockname()[1])
    app = create_app(paths, token, number)
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, server_header=False, timeout_graceful_shutdown=1
    )
    tell(f"http://{HOST}:{number}/?token={token}")
    uvicorn.Server(config).run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
    except OSError as error:
        found.close()
        raise ConfigError(f"port {port} of {HOST} must be free, it is not ({error.strerror}); give another") from error
    return found
