"""Telling a page that its run has changed: an event whenever a database was written or the lock changed hands."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from jinja2 import Environment, PackageLoader
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ...errors import CosignalError, EpisodeError, NotARunError, NotInRunError
from ...rl.processes import lock_is_held
from .. import graph_picture as drawing
from ..report import ASSETS, loop_topology, page_environment
from ..store import RunView
from . import content
from .auth import Guard
from .playback import Episodes, snapshots
from .replay_jobs import LONGEST, ROLES, ReplayJobs, ReplayRequest, template_text
from .run_index import RunIndex

# ---------------------------------------------------------------- MERGED runs.page.live

LOOK_S = 1.0
WATCHED = ("trainer.db", "trainer.db-wal", "loop.db", "loop.db-wal", "replays")


def fingerprint(run_dir: Path) -> str:
    """Another one after every write and when the run begins, ends or is resumed."""
    stamps = []
    for name in WATCHED:
        path = run_dir / name
        stamps.append(f"{path.stat().st_mtime_ns}" if path.exists() else "-")
    return ",".join([*stamps, str(lock_is_held(run_dir / "loop.lock"))])


async def changes(run_dir: Path) -> AsyncIterator[bytes]:
    """Events `changed`, the first at once; a comment in between, so that a closed page is noticed. Ends with the
    directory."""
    known = ""
    while await asyncio.to_thread(run_dir.exists):
        now = await asyncio.to_thread(fingerprint, run_dir)
        if now != known:
            known = now
            yield b"event: changed\ndata: \n\n"
        else:
            yield b": still here\n\n"
        await asyncio.sleep(LOOK_S)


# ---------------------------------------------------------------- MERGED runs.page.app
# DOC """The ASGI application: one address for each thing that can be looked at, and one to ask a recorded call again."""

HERE = Path(__file__).parent
Row = dict[str, Any]


def create_app(paths: Sequence[Path], token: str, port: int | None = None) -> Starlette:
    """The pages of all runs at or below `paths`, for whoever has `token`; see `access.Guard`.

    Raises NotARunError where a path is no folder.
    """
    pages = Pages(RunIndex(paths))
    return Starlette(
        routes=pages.routes(),
        middleware=[Middleware(Guard, token=token, port=port)],
        exception_handlers={
            NotARunError: pages.missing,
            NotInRunError: pages.missing,
            404: pages.missing,
            EpisodeError: pages.failed,
            CosignalError: pages.failed,
            sqlite3.Error: pages.failed,
        },
        lifespan=pages.lifespan,
    )


@lru_cache(maxsize=1)
def topology() -> drawing.Topology:
    """Importing LangGraph takes a second: once."""
    return loop_topology()


class Pages:
    """`shelf`: the runs. Sync endpoints run in Starlette's threads, since they read databases."""

    def __init__(self, shelf: RunIndex) -> None:
        self.shelf, self.episodes, self.replays = shelf, Episodes(), ReplayJobs()
        self.templates = _environment()

    def routes(self) -> list[Route | Mount]:
        one = "/runs/{name}"
        return [
            Route("/", self.listed),
            Route("/compare", self.compared),
            Route("/compare/curves.json", self.compared_curves),
            Route(one, self.of_run("overview.html.j2", lambda view, _: content.overview(view, topology()))),
            Route(f"{one}/curves.json", self.curves),
            Route(f"{one}/changes", self.changes),
            Route(f"{one}/nodes/{{key}}", self.of_run("node.html.j2", _node)),
            Route(f"{one}/calls/{{key}}", self.of_run("call.html.j2", content.call)),
            Route(f"{one}/proposals/{{key}}", self.of_run("proposal.html.j2", content.proposal)),
            Route(f"{one}/episode", self.episode),
            Route(f"{one}/replays", self.ask_again, methods=["POST"]),
            Route(f"{one}/replays/{{key}}", self.replay),
            Route("/static/plotly.js", _plotly),
            Mount("/static/report", StaticFiles(directory=ASSETS)),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]

    # ------------------------------------------------------------ pages

    def listed(self, _: Request) -> Response:
        return self._page("runs.html.j2", {"runs": content.listed(self.shelf.runs())})

    def of_run(self, template: str, find: Callable[[RunView, str], Row]) -> Callable[[Request], Response]:
        """The page of one thing of a run: `find` gets the view and the address's key."""

        def page(request: Request) -> Response:
            view = self.shelf.view(request.path_params["name"])
            found = find(view, request.path_params.get("key", ""))
            return self._page(template, {"run": content.head(view), **found})

        return page

    def compared(self, request: Request) -> Response:
        one, other = self._pair(request)
        return self._page("compare.html.j2", content.compared(one, other))

    async def episode(self, request: Request) -> Response:
        """The page itself, and with a snapshot in the address the episode that its policy plays."""
        view = self.shelf.view(request.path_params["name"])
        found, asked = snapshots(view.path), request.query_params.get("snapshot")
        seed = _whole_number(request.query_params.get("seed", "0"))
        played = None if asked is None else await self.episodes.played(view.path, asked, seed)
        told = {"run": content.head(view), "snapshots": found, "asked": asked, "seed": seed, "played": played}
        return self._page("episode.html.j2", told)

    async def ask_again(self, request: Request) -> Response:
        """Begins a replay; on to its page."""
        view = await asyncio.to_thread(self.shelf.view, request.path_params["name"])
        form = await _form(request)
        role = form.get("role", "")
        if role not in ROLES:
            raise NotInRunError(
                f"a role is one of {', '.join(ROLES)}, got {role[:40]!r}; use the form of a call's page"
            )
        wish = ReplayRequest.of(form, await asyncio.to_thread(template_text, view, role))
        known = {row["id"] for row in await asyncio.to_thread(view.calls) if row["role"] == role}
        if wish.call and wish.call not in known:  # before it becomes a file's name
            raise NotInRunError(
                f"the {role} was not asked {wish.call[:60]!r} in this run; use the form of a call's page"
            )
        name = await self.replays.start(view.path, wish)
        return RedirectResponse(f"/runs/{quote(view.path.name)}/replays/{quote(name)}", 303)

    def replay(self, request: Request) -> Response:
        view, key = self.shelf.view(request.path_params["name"]), request.path_params["key"]
        found = self.replays.found(view.path, key)
        return self._page("replay.html.j2", {"run": content.head(view), "name": key, **found})

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self.replays.close()

    def missing(self, request: Request, error: Exception) -> Response:
        words = str(error) if isinstance(error, CosignalError) else f"there is no page at {request.url.path}"
        return self._page("problem.html.j2", {"words": words}, 404)

    def failed(self, _: Request, error: Exception) -> Response:
        return self._page("problem.html.j2", {"words": str(error)}, 422)

    # ------------------------------------------------------------ data

    def curves(self, request: Request) -> Response:
        return JSONResponse(content.curves(self.shelf.view(request.path_params["name"])))

    def compared_curves(self, request: Request) -> Response:
        return JSONResponse([content.curves(view) | {"name": view.path.name} for view in self._pair(request)])

    def changes(self, request: Request) -> Response:
        view = self.shelf.view(request.path_params["name"])
        return StreamingResponse(changes(view.path), media_type="text/event-stream")

    # ------------------------------------------------------------ parts

    def _pair(self, request: Request) -> tuple[RunView, RunView]:
        names = request.query_params.getlist("run")
        if len(names) != 2:
            raise NotARunError(f"two runs are compared, got {len(names)}; tick two in the list of runs")
        return self.shelf.view(names[0]), self.shelf.view(names[1])

    def _page(self, template: str, context: Row, status: int = 200) -> Response:
        return HTMLResponse(self.templates.get_template(template).render(context), status)


def _environment() -> Environment:
    return page_environment(PackageLoader(__package__, "templates"))


def _node(view: RunView, key: str) -> Row:
    return content.node(view, topology(), key)


def _plotly(_: Request) -> Response:
    from plotly.offline import get_plotlyjs

    headers = {"Cache-Control": "max-age=86400"}
    return Response(get_plotlyjs(), media_type="text/javascript", headers=headers)


async def _form(request: Request) -> dict[str, str]:
    """Of a body as forms send it; parsed here, since Starlette wants another package for it."""
    size, parts = 0, list[bytes]()
    async for part in request.stream():
        size += len(part)
        if size > 3 * LONGEST:  # characters come as up to three each
            raise NotInRunError(f"a form may have at most {LONGEST} characters; shorten the template")
        parts.append(part)
    return dict(parse_qsl(b"".join(parts).decode("utf-8", "replace"), keep_blank_values=True))


def _whole_number(text: str) -> int:
    if not (text.isdecimal() and len(text) <= 9):
        raise NotARunError(f"a seed is a whole number from 0 to 999999999, got {text[:20]!r}; give one")
    return int(text)
