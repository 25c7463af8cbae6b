"""Access control: pages are for whoever has the token that the command printed, from this machine alone.

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
    """ASGI middleware that refuses other hosts (400) and requests without the token (403).

    It adds `HEADERS` to every response, its own included.

    Args:
        app: the application behind it.
        token: what a visitor must know.
        port: of this server; None where there is no socket, as in tests.
    """

    def __init__(self, app: ASGIApp, token: str, port: int | None = None) -> None:
        self.app, self.token = app, token
        self.cookie = f"cosignal_{port or 0}"  # cookies do not tell ports apart
        self.hosts = {f"{name}:{port}" if port else name for name in (HOST, "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            response = self._response(Request(scope))
            await (response or self.app)(scope, receive, send_with_headers)

    def _response(self, request: Request) -> Response | None:
        """Answer in place of the application; None where the request may pass."""
        if request.headers.get("host") not in self.hosts:
            return PlainTextResponse(f"ask for {sorted(self.hosts)[0]}, not for another host\n", 400)

        # The token in the address: on to the same page, with the token in a cookie instead.
        if request.method == "GET" and self._is_token(request.query_params.get("token", "")):
            query = [(key, value) for key, value in request.query_params.multi_items() if key != "token"]
            path = "/" + request.url.path.lstrip("/")  # two slashes would lead to another host
            response = RedirectResponse(path + (f"?{urlencode(query)}" if query else ""), 303)
            response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return response

        if not self._is_token(request.cookies.get(self.cookie, "")):
            return PlainTextResponse("This page needs the token in the address that `cosignal view` printed.\n", 403)

        # A request that changes something must come from one of our own pages.
        if request.method != "GET" and request.headers.get("origin") not in {f"http://{host}" for host in self.hosts}:
            return PlainTextResponse("a form of another page may not be sent here\n", 403)
        return None

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self.token.encode())
