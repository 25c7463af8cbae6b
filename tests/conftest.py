"""Rules for every test: no network but loopback, and no module loaded under two names."""

from __future__ import annotations

import socket
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cosignal.testing import build_run_directory

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections may go to this machine and to Unix sockets; any other one fails the test that makes it."""
    real_connect, real_connect_ex = socket.socket.connect, socket.socket.connect_ex

    def refuse(sock: socket.socket, address: Any) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
            raise RuntimeError(f"tests have no network, got a connection to {address!r}; use a server on 127.0.0.1")

    def connect(sock: socket.socket, address: Any) -> None:
        refuse(sock, address)
        real_connect(sock, address)

    def connect_ex(sock: socket.socket, address: Any) -> int:
        refuse(sock, address)
        return real_connect_ex(sock, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes on one thread: many small products are no faster on more."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def one_name_per_module() -> Iterator[None]:
    """Two copies of a module have two copies of every class, and `isinstance` and `except` then fail in silence.

    A `tests/__init__.py` is enough: pytest then takes the repository for a package of the folder's name.
    What tests share lives in `tests/support` and is imported by its own name.
    """
    yield
    names: dict[str, list[str]] = defaultdict(list)
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and Path(path).is_relative_to(ROOT) and ".venv" not in Path(path).parts and name != "__main__":
            names[str(Path(path).resolve())].append(name)
    doubles = {path: found for path, found in names.items() if len(found) > 1}
    remedy = "import cosignal.<module>, and keep tests/ free of __init__.py"
    assert not doubles, f"modules loaded under two names: {doubles!r}; {remedy}"


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    """A run directory as a run leaves it: stuck, one round rejected, one promoted, then solved. Made up."""

    return build_run_directory(tmp_path / "two_switch-1-made-up")
