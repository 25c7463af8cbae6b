"""A real HTTP server on loopback that speaks chat completions, and misbehaves as its script says.

    with MisbehavingServer(refuses(500), says("hello")) as server:
        ...  # a client of `server.url` is refused once and then answered

A script is a list of behaviours, one for each request; the last one repeats. Behaviours with arguments are made by a
call (`says("hello")`), those without are functions themselves (`hangs`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}  # tokens that every answer reports


class MisbehavingServer(ThreadingHTTPServer):
    """The server is at a free port and runs in a thread of its own while its `with` block does.

    Attributes:
        script: behaviours that are left; the last one repeats.
        requests: what was asked so far: `path`, `key` (the Authorization header) and the fields of the JSON body.
        released: set at the end, so that a request that hangs ends, too.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, *script: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), ChatRequestHandler)
        self.script = list(script)
        self.requests: list[dict[str, Any]] = []
        self.released = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """The base URL for a client, such as `http://127.0.0.1:34567/v1`."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.released.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def next_behaviour(self) -> Behaviour:
        """Return the behaviour for the next request."""
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away in the middle are what this server is for."""


class ChatRequestHandler(BaseHTTPRequestHandler):
    """One request; a behaviour is called with it and answers through `reply`, `begin` and `wfile`."""

    server: MisbehavingServer

    def do_GET(self) -> None:
        """Note the request; the list of models is there and nothing else."""
        self.server.requests.append({"path": self.path, "key": self.headers["Authorization"]})
        if self.path == "/v1/models":
            self.reply(200, b'{"object": "list", "data": []}')
        else:
            self.reply(404, b"404 page not found")

    def do_POST(self) -> None:
        """Note the request, then do what the script says."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, "key": self.headers["Authorization"], **body})
        self.server.next_behaviour()(self)

    def reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer: an HTTP status, `headers` besides the usual ones, and a body."""
        self.begin(status, len(body), headers)
        self.wfile.write(body)

    def begin(self, status: int, length: int, headers: Mapping[str, str] | None = None) -> None:
        """Send the head of an answer that announces a body of `length` bytes."""
        self.send_response(status)
        always = {"Content-Type": "application/json", "Content-Length": str(length)}
        for name, value in (always | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server uses
        """Log nothing."""


Behaviour = Callable[[ChatRequestHandler], None]


# ---------------------------------------------------------------- behaviours that answer


def completion(message: Mapping[str, Any], **fields: Any) -> bytes:
    """Return the JSON of a chat completion with this message; `fields` replace its own."""
    answer = {
        "id": "1", "object": "chat.completion", "created": 0, "model": "tiny-1", "usage": USAGE,
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}],
    } | fields  # fmt: skip
    return json.dumps(answer).encode()


def says(content: str | None, **fields: Any) -> Behaviour:
    """Answer with this text; `fields` replace fields of the completion."""
    return lambda handler: handler.reply(200, completion({"content": content}, **fields))


def says_tokens(*tokens: tuple[str, Mapping[str, float]], **logprobs: Any) -> Behaviour:
    """Answer with these tokens and their log-probabilities.

    Args:
        tokens: the text of each token, and the log-probability of the likely tokens at its place.
        logprobs: fields that replace those of the completion's `logprobs` object.
    """
    content = "".join(text for text, _ in tokens)
    rows = [
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
        "logprobs": {"content": rows, "refusal": None} | logprobs,
    }  # fmt: skip
    return says(content, choices=[choice])


def sends(body: bytes, status: int = 200) -> Behaviour:
    """Send this body, whatever it is."""
    return lambda handler: handler.reply(status, body)


def calls_tool(name: str, arguments: str) -> Behaviour:
    """Answer with one call of a tool; `arguments` is JSON text, or is meant not to be."""
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return lambda handler: handler.reply(200, completion({"content": None, "tool_calls": [call]}))


def echoes_key(content: str) -> Behaviour:
    """Answer with `content` in which the word KEY is replaced by the API key of the request."""

    def act(handler: ChatRequestHandler) -> None:
        key = handler.headers["Authorization"].removeprefix("Bearer ")
        says(content.replace("KEY", key), model=f"tiny {key}")(handler)

    return act


# ---------------------------------------------------------------- behaviours that refuse


def refuses(status: int, retry_after: str | None = None, **error: Any) -> Behaviour:
    """Answer with an HTTP error whose text repeats the API key, as careless servers do.

    Args:
        status: the HTTP status.
        retry_after: the header of that name, None for none.
        error: fields of the error object in the body.
    """
    headers = {"Retry-After": retry_after} if retry_after is not None else {}

    def act(handler: ChatRequestHandler) -> None:
        report = {"message": f"refused {handler.headers['Authorization']}", **error}
        handler.reply(status, json.dumps({"error": report}).encode(), headers)

    return act


def refuses_format(content: str) -> Behaviour:
    """Answer a request that has a response format with 400, and any other with `content`."""

    def act(handler: ChatRequestHandler) -> None:
        has_format = "response_format" in handler.server.requests[-1]
        (refuses(400) if has_format else says(content))(handler)

    return act


# ---------------------------------------------------------------- behaviours that never end, or end too early


def hangs(handler: ChatRequestHandler) -> None:
    """Send nothing for 30 s, or until the server ends."""
    handler.server.released.wait(30)


def drips(handler: ChatRequestHandler) -> None:
    """Send a byte every 20 ms: the time between two of them is never long, the whole answer is."""
    handler.begin(200, 10_000)
    while not handler.server.released.wait(0.02):
        handler.wfile.write(b" ")


def cuts(handler: ChatRequestHandler) -> None:
    """End the connection in the middle of the body."""
    body = completion({"content": "x" * 100})
    handler.begin(200, len(body))
    handler.wfile.write(body[:50])


def drops(handler: ChatRequestHandler) -> None:
    """End the connection before any answer."""
    handler.connection.close()
