"""The rules of conftest.py themselves."""

from __future__ import annotations

import socket

import pytest


def test_there_is_no_network() -> None:
    with socket.socket() as sock, pytest.raises(RuntimeError, match="tests have no network"):
        sock.connect(("192.0.2.1", 80))
    with socket.socket() as sock, pytest.raises(RuntimeError, match="tests have no network"):
        sock.connect_ex(("192.0.2.1", 80))


def test_loopback_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sock:
        sock.connect(server.getsockname())
        assert sock.getpeername() == server.getsockname()
