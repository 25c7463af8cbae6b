"""One address: TLS in both directions, certificates, and the path below which models are asked."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from cosignal.doctor import addresses
from cosignal.doctor.addresses import try_address
from cosignal.doctor.check import Check
from cosignal.testing import MisbehavingServer
from cosignal.testing.server import says
from tls import speaking_tls

pytestmark = pytest.mark.usefixtures("plain_environment")


def look(url: str, first: bool = True) -> Check:
    return try_address("network", url, first, asks_path=True)


def told(check: Check) -> str:
    return f"{check.state}: {check.message} -> {check.remedy}"


# ---------------------------------------------------------------- TLS


def test_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = MisbehavingServer(says("x"))
    certificate = speaking_tls(server, tmp_path)
    with server:
        port = server.server_port
        unknown = told(look(f"https://localhost:{port}/v1"))
        assert unknown.startswith("problem: ")
        assert "self-signed certificate" in unknown
        assert "SSL_CERT_FILE" in unknown
        assert look(f"https://localhost:{port}/v1", first=False).state == "warning"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert look(f"https://localhost:{port}/v1").state == "ok"
        other_name = told(look(f"https://127.0.0.1:{port}/v1"))
        assert "certificate is not valid for '127.0.0.1'" in other_name
        assert "host name" in other_name


def test_a_certificate_that_has_expired(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = MisbehavingServer(says("x"))
    monkeypatch.setenv("SSL_CERT_FILE", str(speaking_tls(server, tmp_path, "expired")))
    with server:
        expired = told(look(f"https://localhost:{server.server_port}/v1"))
    assert "certificate has expired" in expired
    assert "renew" in expired


def test_http_to_a_server_that_speaks_tls_and_the_reverse(tmp_path: Path) -> None:
    with MisbehavingServer(says("x")) as plain:
        reverse = look(plain.url.replace("http://", "https://"))
    assert (reverse.state, "with http://" in (reverse.remedy or "")) == ("problem", True)
    server = MisbehavingServer(says("x"))
    speaking_tls(server, tmp_path)
    with server:
        check = look(f"http://localhost:{server.server_port}/v1")
    assert (check.state, check.remedy) == ("problem", "the server speaks TLS; write base_url with https://")


# ---------------------------------------------------------------- paths


def test_the_version_that_a_path_lacks_is_looked_for() -> None:
    with MisbehavingServer(says("x")) as server:
        base = server.url.removesuffix("/v1")
        check = look(base)
        assert (check.state, check.remedy) == ("problem", f"write base_url as {server.url}")
        assert look(base, first=False).state == "warning"
        elsewhere = look(f"{base}/api")
        assert (elsewhere.state, f"{base}/api/v1" in (elsewhere.remedy or "")) == ("warning", True)
        versioned = look(f"{base}/v2")
        assert (versioned.state, "path of base_url" in (versioned.remedy or "")) == ("warning", True)


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (b"401 Unauthorized\r\n\r\n{}", "ok", "401"),
        (b"200 OK\r\n\r\n<html>Sign in</html>", "warning", "Sign in"),
        (b"308 Moved\r\nLocation: https://x.test/v1/models\r\n\r\n", "warning", "https://x.test/v1/models"),
        (b"503 Busy\r\n\r\nloading model", "warning", "loading model"),
        (b"400 Bad\r\n\r\nThe plain HTTP request was sent to HTTPS port", "problem", "write base_url with https://"),
        (b"", "warning", "does not answer"),
        (b"nonsense\r\n", "problem", "nonsense"),
    ],
)
def test_what_a_server_says_of_its_path(
    answer: bytes, state: str, words: str, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "TIMEOUT_S", 0.2)
    done = threading.Event()

    def act() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(10_000)
            if answer:
                connection.sendall(answer if answer.startswith(b"nonsense") else b"HTTP/1.1 " + answer)
            else:
                done.wait(5)

    thread = threading.Thread(target=act)
    thread.start()
    check = look(f"http://127.0.0.1:{server.getsockname()[1]}/v1")
    done.set()
    thread.join()
    assert (check.state, words in told(check)) == (state, True), told(check)


@pytest.mark.parametrize(
    ("scheme", "begin"),
    [
        ("http", b""),
        ("http", b"HTTP/1.1 200 OK\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"),
        ("https", b"\x16\x03\x03\x3f\xff"),
    ],
)
def test_a_server_that_trickles_is_waited_for_once(
    scheme: str, begin: bytes, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte comes in time, the answer does not, whether of the status line, the head, the body or TLS."""
    monkeypatch.setattr(addresses, "TIMEOUT_S", 0.2)
    done = threading.Event()

    def act() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.recv(10_000)
            connection.sendall(begin)
            while not done.wait(0.02):
                connection.sendall(b"X")

    thread = threading.Thread(target=act)
    thread.start()
    check = look(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/v1")
    done.set()
    thread.join()
    assert check.state == ("problem" if scheme == "https" else "warning"), told(check)
    assert "0.2 s" in told(check)
