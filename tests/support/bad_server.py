"""A real HTTP server on loopback that speaks chat completions and misbehaves on order.

A script is a list of behaviours, one a request, the last one for ever. `requests` is what it was asked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


class BadServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, script: list[Behaviour]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.released = threading.Event()  # set at the end: whoever hangs stops

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def next(self) -> Behaviour:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: BadServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, "key": self.headers["Authorization"], **body})
        self.server.next()(self)

    def reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.begin(status, len(body), headers)
        self.wfile.write(body)

    def begin(self, status: int, length: int, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        always = {"Content-Type": "application/json", "Content-Length": str(length)}
        for name, value in (always | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server uses
        """Quiet."""


Behaviour = Callable[[_Handler], None]


@contextmanager
def bad_server(*script: Behaviour) -> Iterator[BadServer]:
    with BadServer(list(script)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


# ---------------------------------------------------------------- behaviours


def completion(message: Mapping[str, Any], **more: Any) -> bytes:
    answer = {
        "id": "1", "object": "chat.completion", "created": 0, "model": "tiny-1", "usage": USAGE,
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}],
    } | more  # fmt: skip
    return json.dumps(answer).encode()


def says(content: str | None, **more: Any) -> Behaviour:
    """An answer with this text; `more` replaces fields of the completion."""
    return lambda handler: handler.reply(200, completion({"content": content}, **more))


def says_tokens(*tokens: tuple[str, Mapping[str, float]], **logprobs: Any) -> Behaviour:
    """An answer made of these tokens, each with the log-probabilities of the likely ones at its place; `logprobs`
    replaces parts of what is said about them."""
    content = "".join(text for text, _ in tokens)
    said = [
        {
            "token": text,
            "logprob": likely.get(text, -0.01),
            "bytes": list(text.encode()),
            "top_logprobs": [{"token": other, "logprob": p, "bytes": None} for other, p in likely.items()],
        }
        for text, likely in tokens
    ]
    choice = {
        "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content},
        "logprobs": {"content": said, "refusal": None} | logprobs,
    }  # fmt: skip
    return says(content, choices=[choice])


def sends(body: bytes, status: int = 200) -> Behaviour:
    """This body, whatever it is."""
    return lambda handler: handler.reply(status, body)


def calls_tool(name: str, arguments: str) -> Behaviour:
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return lambda handler: handler.reply(200, completion({"content": None, "tool_calls": [call]}))


def refuses(status: int, retry_after: str | None = None, **error: Any) -> Behaviour:
    """An HTTP error; its text repeats the key, as careless servers do."""
    headers = {"Retry-After": retry_after} if retry_after is not None else {}

    def act(handler: _Handler) -> None:
        told = {"message": f"refused {handler.headers['Authorization']}", **error}
        handler.reply(status, json.dumps({"error": told}).encode(), headers)

    return act


def refuses_format(content: str) -> Behaviour:
    """400 to a request with a response format, else an answer."""

    def act(handler: _Handler) -> None:
        has_format = "response_format" in handler.server.requests[-1]
        (refuses(400) if has_format else says(content))(handler)

    return act


def hangs(handler: _Handler) -> None:
    handler.server.released.wait(30)


def drips(handler: _Handler) -> None:
    """A byte now and then: the time between two of them is never long."""
    handler.begin(200, 10_000)
    while not handler.server.released.wait(0.02):
        handler.wfile.write(b" ")


def cuts(handler: _Handler) -> None:
    """The connection ends in the middle of the body."""
    body = completion({"content": "x" * 100})
    handler.begin(200, len(body))
    handler.wfile.write(body[:50])


def drops(handler: _Handler) -> None:
    """The connection ends before any answer."""
    handler.connection.close()


def echoes_key(content: str) -> Behaviour:
    """An answer in which the word KEY is the key it was called with."""

    def act(handler: _Handler) -> None:
        key = handler.headers["Authorization"].removeprefix("Bearer ")
        says(content.replace("KEY", key), model=f"tiny {key}")(handler)

    return act
