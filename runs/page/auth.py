"""Who may read: whoever has the token that the command printed, from this machine, under this machine's own name.

The token comes in the URL once and lives on in a cookie, so that no link carries it. A page of somebody else that makes
the browser ask has no token (the cookie is SameSite=Strict); one whose name was bound to 127.0.0.1 is refused by its
`Host`. What comes from a model can neither run nor load anything: scripts and styles come from here alone.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer our own forms would have no Origin
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware: refuses other hosts (400) and requests without the token (403), and adds HEADERS to all answers.

    `port`: of this server; None where it does not matter (tests without a socket).
    """

    def __init__(self, app: ASGIApp, token: str, port: int | None = None) -> None:
        self.app, self.token = app, token
        self.cookie = f"cosignal_{port or 0}"  # cookies do not tell ports apart
        self.hosts = {f"{name}:{port}" if port else name for name in (HOST, "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = self._refused(Request(scope))
        await (answer or self.app)(scope, receive, _with_headers(send))

    def _refused(self, request: Request) -> Response | None:
        """None where the request may pass."""
        if request.headers.get("host") not in self.hosts:
            return PlainTextResponse(f"ask for {sorted(self.hosts)[0]}, not for another host\n", 400)
        given = request.query_params.get("token")
        if given is not None and self._is_token(given) and request.method == "GET":
            return self._remembered(request)
        if self._is_token(request.cookies.get(self.cookie, "")):
            return self._forged(request)
        return PlainTextResponse("This page needs the token in the address that `cosignal view` printed.\n", 403)

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())

    def _remembered(self, request: Request) -> Response:
        """On to the same page, without the token in its address."""
        rest = [(key, value) for key, value in request.query_params.multi_items() if key != "token"]
        path = "/" + request.url.path.lstrip("/")  # two slashes would lead to another host
        answer = RedirectResponse(path + (f"?{urlencode(rest)}" if rest else ""), 303)
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
        return answer

    def _forged(self, request: Request) -> Response | None:
        """What changes something comes from a page of ours."""
        origin = request.headers.get("origin")
        if request.method == "GET" or origin in {f"http://{host}" for host in self.hosts}:
            return None
        return PlainTextResponse("a form of another page may not be sent here\n", 403)


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return wrapped
