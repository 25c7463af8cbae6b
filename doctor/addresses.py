"""One address: does its server answer, does it speak TLS, and is the path right? No key and no prompt is sent."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..agents.llm.completion import words_in
from ..agents.llm.explain import NOT_THERE, lacks_version, tls_remedy
from .check import Check, ok, problem, warning

TIMEOUT_S = 3.0
MAX_BODY = 4_000  # bytes of an answer that are read
PORTS = {"http": 80, "https": 443}


def try_address(name: str, url: str, first: bool, *, asks_path: bool = False) -> Check:
    """Connect to the server of `url`, by TLS where it is https, and with `asks_path` ask it for its list of models.

    Neither a key nor a prompt is sent. Behind a proxy nothing but the proxy is connected to.

    Where no connection can be made, that is a problem if somebody asks there `first`, and a warning if the run can go
    on without.
    """
    bad, is_connected = problem if first else warning, False
    try:
        host, port, proxy = _route(url)
        if proxy:
            with socket.create_connection((host, port), TIMEOUT_S):
                return ok(name, f"{host}:{port}{proxy} answers for {url} (connected, nothing was sent)")
        with _connected(url, host, port) as connection:
            if not asks_path:
                return ok(name, f"{host}:{port} answers for {url} (connected, nothing was sent)")
            is_connected = True
            answer = _ask(connection, host, port, urlsplit(url).path.rstrip("/"))
        return _judge_path(name, url, answer, bad)
    except (OSError, ValueError, HTTPException) as error:  # ValueError: a port that is no number
        if is_connected and isinstance(error, TimeoutError):
            rule = f"{url!r} is connected to, and does not answer GET {url.rstrip('/')}/models in {TIMEOUT_S:g} s"
            return warning(name, rule, "it may be busy or still loading its model; look at the server's log")
        remedy = tls_remedy(error, url) or "start the server, or correct its address"
        if is_connected and urlsplit(url).scheme == "http" and _speaks_tls(url):
            remedy = "the server speaks TLS; write base_url with https://"
        rule = f"{url!r} must be reachable within {TIMEOUT_S:g} s, got {str(error) or type(error).__name__}"
        return bad(name, rule, remedy)


def _connected(url: str, host: str, port: int) -> socket.socket:
    """Return an open connection, by TLS where the address is https. Raises OSError, which TLS errors are."""
    connection = socket.create_connection((host, port), TIMEOUT_S)
    if urlsplit(url).scheme != "https":
        return connection
    return _by_tls(ssl.create_default_context(), connection, host)


def _by_tls(context: ssl.SSLContext, connection: socket.socket, host: str) -> ssl.SSLSocket:
    """Return the connection once its hands are shaken. Raises OSError, and closes it then."""
    try:
        secured = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        connection.close()
        raise
    try:
        with _one_deadline(secured):
            secured.do_handshake()
    except BaseException:
        secured.close()
        raise
    return secured


@contextmanager
def _one_deadline(connection: socket.socket) -> Iterator[None]:
    """End a connection after `TIMEOUT_S`. Its own timeout begins anew with every byte.

    Raises:
        TimeoutError: that was before the block had ended.
    """
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        with suppress(OSError):  # closed already
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # an SSLSocket's own is for the thread that reads

    timer = threading.Timer(TIMEOUT_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException) as error:
        if is_over.is_set():
            raise TimeoutError("timed out") from error
        raise
    finally:
        timer.cancel()
    if is_over.is_set():
        raise TimeoutError("timed out")


def _speaks_tls(url: str) -> bool:
    """Tell whether the server shakes hands by TLS; whose certificate it has is not asked."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        host, port, _ = _route(url)
        with _by_tls(context, socket.create_connection((host, port), TIMEOUT_S), host):
            return True
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class _Answer:
    """What a server says to a request for its list of models."""

    status: int
    location: str | None
    body: str


def _ask(connection: socket.socket, host: str, port: int, path: str) -> _Answer:
    """Ask for `path` and `/models` below it, without a key. Raises OSError or HTTPException."""
    client = HTTPConnection(host, port, timeout=TIMEOUT_S)
    client.sock = connection
    with _one_deadline(connection):
        client.request("GET", f"{path}/models", headers={"Accept": "application/json", "Connection": "close"})
        response = client.getresponse()
        body = response.read(MAX_BODY)
    return _Answer(response.status, response.headers["Location"], body.decode("utf-8", "replace"))


def _judge_path(name: str, url: str, answer: _Answer, bad: Callable[[str, str, str], Check]) -> Check:
    """Return what the answer to a request for the list of models says about the address."""
    asked = f"GET {url.rstrip('/')}/models"
    got = f"{asked} is answered {answer.status}"
    if answer.status in NOT_THERE and lacks_version(url):
        return _judge_version(name, url, got, bad)
    if answer.status in NOT_THERE:
        remedy = "check the path of base_url; some servers have no list of models and answer nevertheless"
        return warning(name, got, remedy)
    if answer.status == 400 and "https" in answer.body.lower():
        return bad(name, f"{got}: {words_in(answer.body)}", "the server speaks TLS; write base_url with https://")
    if 300 <= answer.status < 400:
        return warning(name, f"{got} and leads to {answer.location}", "write base_url as the address that it leads to")
    if answer.status >= 500:
        return warning(name, f"{got}: {words_in(answer.body)}", "look at the server's log")
    if answer.status < 300 and answer.body.lstrip().startswith("<"):
        remedy = "check the path of base_url, and whether a proxy wants a login"
        return warning(name, f"{got} with a page of HTML: {words_in(answer.body)}", remedy)
    return ok(name, f"{got} (sent without key or prompt)")


def _judge_version(name: str, url: str, got: str, bad: Callable[[str, str, str], Check]) -> Check:
    """Ask below `/v1`, which the address lacks, and say whether it belongs there."""
    with_version = f"{url.rstrip('/')}/v1"
    host, port, _ = _route(url)
    try:
        with _connected(url, host, port) as connection:
            is_there = _ask(connection, host, port, urlsplit(with_version).path).status not in NOT_THERE
    except (OSError, HTTPException):
        is_there = False
    if is_there:
        return bad(name, f"{got}, and {with_version}/models is there", f"write base_url as {with_version}")
    return warning(name, got, f"if the server answers below /v1, as most do, write base_url as {with_version}")


def _route(url: str) -> tuple[str, int, str]:
    """Return host and port to connect to, and a note on the proxy that the environment puts in between."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    # A model's package would go through the proxy too, so the proxy is what has to answer.
    proxy = getproxies().get(parts.scheme)
    if proxy is None or proxy_bypass(host):
        return host, parts.port or PORTS[parts.scheme], ""
    through = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return through.hostname or "", through.port or PORTS["http"], " (a proxy)"
