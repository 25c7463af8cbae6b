"""The web application of `cosignal view`: an address for each page, and those that forms are sent to.

Endpoints that are no coroutines run in Starlette's threads, since they read databases. A page of a live run follows it:
`change_events` tells it when to load itself anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from jinja2 import ChoiceLoader, PackageLoader, TemplateError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ...config.run_config import RunConfig
from ...errors import ApprovalError, CosignalError, DamagedRunError, EpisodeError, NotARunError, NotInRunError
from ...rl.processes import lock_is_held
from ..approvals import answer
from ..graph_picture import Topology
from ..report import ASSETS, page_environment
from ..run_files import damage_in_words
from ..run_view import RunView
from ..trust import SHIPPED_ONLY, Trust, Wish, hidden_names, read_training, replay_wishes, task_wishes
from . import content
from .auth import Guard
from .confirmations import Confirmations
from .content import Variables
from .playback import Episodes, snapshots
from .replay_jobs import AskAgain, ReplayJobs, ReplayRequest
from .run_index import RunIndex, address

STATIC = Path(__file__).with_name("static")
LONGEST_FORM = 500_000  # characters
LOOK_S = 1.0  # seconds between two looks at the files of a live run
WATCHED = ("trainer.db", "trainer.db-wal", "loop.db", "loop.db-wal", "replays", "approvals")


def create_app(
    paths: Sequence[Path],
    token: str,
    *,
    topology: Callable[[], Topology],
    ask_again: AskAgain,
    trust: Trust = SHIPPED_ONLY,
    port: int | None = None,
) -> Starlette:
    """Make the application.

    Args:
        paths: run directories, or folders of runs.
        token: what a visitor must know, see `auth.Guard`.
        topology: gives the graph to draw; called once, when a page first needs it.
        ask_again: asks recorded calls again.
        trust: what runs may name to import, and to send to, without a confirmation.
        port: of the server; None where there is no socket, as in tests.

    Raises:
        NotARunError: a path is no folder.
    """
    pages = Pages(RunIndex(paths), cache(topology), ReplayJobs(ask_again), Confirmations(trust))
    return Starlette(
        routes=pages.routes(),
        middleware=[Middleware(Guard, token=token, port=port)],
        exception_handlers={
            DamagedRunError: pages.failed,
            NotARunError: pages.missing,
            NotInRunError: pages.missing,
            404: pages.missing,
            EpisodeError: pages.failed,
            CosignalError: pages.failed,
        },
        lifespan=pages.lifespan,
    )


class Pages:
    """The endpoints.

    Args:
        index: the runs that are shown.
        topology: the graph to draw.
        replays: recorded calls that are asked again.
        confirmations: what the viewer allows runs to load.
    """

    def __init__(
        self, index: RunIndex, topology: Callable[[], Topology], replays: ReplayJobs, confirmations: Confirmations
    ) -> None:
        self.index, self.topology, self.replays, self.episodes = index, topology, replays, Episodes()
        self.confirmations = confirmations
        # What report and pages have in common is a template of the report.
        shared = PackageLoader("cosignal.runs", "assets")
        self.templates = page_environment(ChoiceLoader([PackageLoader(__package__, "templates"), shared]))

    def routes(self) -> list[Route | Mount]:
        """Return what each address leads to."""
        run, part = "/runs/{name}", "{key}"
        return [
            # The list of runs, and two of them side by side.
            Route("/", self.run_list),
            Route("/compare", self.comparison),
            Route("/compare/curves.json", self.comparison_curves),
            # One run: its page, the data of its charts, and a stream that tells of changes.
            Route(run, self.part_of_run("overview.html.j2", lambda view, _: content.overview(view, self.topology()))),
            Route(f"{run}/curves.json", self.curves),
            Route(f"{run}/changes", self.changes),
            # One thing of a run.
            Route(
                f"{run}/nodes/{part}",
                self.part_of_run("node.html.j2", lambda view, key: content.node(view, self.topology(), key)),
            ),
            Route(f"{run}/calls/{part}", self.part_of_run("call.html.j2", content.call)),
            Route(f"{run}/proposals/{part}", self.part_of_run("proposal.html.j2", content.proposal)),
            # The answer to a promotion that waits.
            Route(f"{run}/approvals/{part}", self.approve, methods=["POST"]),
            # What is computed when it is asked for.
            Route(f"{run}/episode", self.episode, methods=["GET", "POST"]),
            Route(f"{run}/replays", self.ask_again, methods=["POST"]),
            Route(f"{run}/replays/{part}", self.replay),
            # Scripts and styles; those of report.html are shared.
            Route("/static/plotly.js", self.plotly),
            Mount("/static/report", StaticFiles(directory=ASSETS)),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """End the replays that are running when the server ends."""
        yield
        await self.replays.close()

    # ------------------------------------------------------------ pages

    def run_list(self, _: Request) -> Response:
        """Show all runs."""
        return self._page("runs.html.j2", {"runs": content.run_list(self.index.runs())})

    def part_of_run(
        self, template: str, variables: Callable[[RunView, str], Variables]
    ) -> Callable[[Request], Response]:
        """Return the endpoint of one thing of a run; `variables` reads it from the run by the key in the address."""

        def endpoint(request: Request) -> Response:
            view = self._view(request)
            with damage_in_words(view.path):
                shown = variables(view, request.path_params.get("key", ""))
                return self._page(template, {"run": content.head(view), **shown})

        return endpoint

    def comparison(self, request: Request) -> Response:
        """Show two runs side by side."""
        one, other = self._pair(request)
        with damage_in_words(one.path), damage_in_words(other.path):
            return self._page("compare.html.j2", content.comparison(one, other))

    async def episode(self, request: Request) -> Response:
        """Show the choice of snapshots; with one in the address, the episode that its policy plays.

        Where the run's task is none that the viewer has named, he is asked first, and a form confirms it.
        """
        view = await asyncio.to_thread(self._view, request)
        # An address allows nothing: only a form confirms.
        asked = {name: request.query_params[name] for name in ("snapshot", "seed") if name in request.query_params}
        form = await read_form(request) if request.method == "POST" else asked
        snapshot, text = form.get("snapshot"), form.get("seed", "0")
        if not (text.isdecimal() and len(text) <= 9):
            raise NotARunError(f"a seed is a whole number from 0 to 999999999, got {text[:20]!r}; give one")
        here, variables = address(view.path.name, "episode"), dict[str, Any](snapshot=snapshot, seed=int(text))
        if snapshot is not None:
            if snapshot not in await asyncio.to_thread(snapshots, view.path):
                raise EpisodeError(f"the run has no snapshot {snapshot!r} any more; choose one of the list")
            task = (await asyncio.to_thread(read_training, view.path)).task
            wishes = await asyncio.to_thread(lambda: list(task_wishes(view.path, task)))
            if (question := await self._question(view, wishes, here, form)) is not None:
                return question
            if request.method == "POST":
                return RedirectResponse(f"{here}?{urlencode({'snapshot': snapshot, 'seed': text})}", 303)
            secrets = [*self.confirmations.trust.secrets(), *hidden_names(view.config)]
            variables["episode"] = await self.episodes.play(view.path, snapshot, int(text), task, secrets)

        def shown() -> Response:
            with damage_in_words(view.path):
                more = {"run": content.head(view), "snapshots": snapshots(view.path)}
                return self._page("episode.html.j2", {"episode": None, **variables, **more})

        return await asyncio.to_thread(shown)

    async def ask_again(self, request: Request) -> Response:
        """Begin the replay that a form asks for, and lead on to its page; ask first where the run names more."""
        view = await asyncio.to_thread(self._view, request)
        form = await read_form(request)

        def read() -> tuple[ReplayRequest, list[Wish]]:
            with damage_in_words(view.path):
                asked = ReplayRequest.from_form(form, view)
                training = read_training(view.path) if asked.validate else None
                config = RunConfig.load(view.path / "config.json")
                return asked, replay_wishes(view.path, config, asked.role, training, own=asked.model)

        asked, wishes = await asyncio.to_thread(read)
        here = address(view.path.name, "replays")
        if (question := await self._question(view, wishes, here, form)) is not None:
            return question
        name = await self.replays.start(view.path, asked, self.confirmations.trust)
        return RedirectResponse(f"{here}/{quote(name, safe='')}", 303)

    async def approve(self, request: Request) -> Response:
        """Write the answer that a form gives to a promotion that waits, and lead back to the run's page."""
        view = await asyncio.to_thread(self._view, request)
        form = await read_form(request)
        said = form.get("answer", "")
        if said not in ("yes", "no"):
            raise ApprovalError(f"an answer must be yes or no, got {said!r:.40}; use the buttons of the run's page")
        await asyncio.to_thread(answer, view.path, request.path_params["key"], said == "yes", form.get("because", ""))
        return RedirectResponse(address(view.path.name), 303)

    def replay(self, request: Request) -> Response:
        """Show a replay, or that it is running."""
        view = self._view(request)
        with damage_in_words(view.path):
            job = self.replays.status(view.path, request.path_params["key"])
            return self._page("replay.html.j2", {"run": content.head(view), "job": job})

    def missing(self, request: Request, error: Exception) -> Response:
        """Say that the address leads nowhere."""
        message = str(error) if isinstance(error, CosignalError) else f"there is no page at {request.url.path}"
        return self._page("problem.html.j2", {"message": message}, 404)

    def failed(self, _: Request, error: Exception) -> Response:
        """Say what went wrong."""
        return self._page("problem.html.j2", {"message": str(error)}, 422)

    # ------------------------------------------------------------ data

    def curves(self, request: Request) -> Response:
        """Send the charts of a run."""
        view = self._view(request)
        with damage_in_words(view.path):
            return JSONResponse(content.curves(view))

    def comparison_curves(self, request: Request) -> Response:
        """Send the charts of two runs."""
        one, other = self._pair(request)
        with damage_in_words(one.path), damage_in_words(other.path):
            return JSONResponse([{**content.curves(view), "name": view.path.name} for view in (one, other)])

    def changes(self, request: Request) -> Response:
        """Send an event whenever the run has changed."""
        return StreamingResponse(change_events(self._view(request).path), media_type="text/event-stream")

    def plotly(self, _: Request) -> Response:
        """Send the script that draws the charts, which comes with the Python package."""
        from plotly.offline import get_plotlyjs

        headers = {"Cache-Control": "max-age=86400"}
        return Response(get_plotlyjs(), media_type="text/javascript", headers=headers)

    # ------------------------------------------------------------ parts

    def _view(self, request: Request) -> RunView:
        return self.index.view(request.path_params["name"])

    def _pair(self, request: Request) -> tuple[RunView, RunView]:
        names = request.query_params.getlist("run")
        if len(names) != 2:
            raise NotARunError(f"two runs are compared, got {len(names)}; tick two in the list of runs")
        return self.index.view(names[0]), self.index.view(names[1])

    async def _question(
        self, view: RunView, wishes: Sequence[Wish], action: str, form: Mapping[str, str]
    ) -> Response | None:
        """Return the page that asks whether the run may do what it names; None where the viewer has allowed it.

        Args:
            view: the run.
            wishes: what it names.
            action: where the form of the page is sent.
            form: what is sent again with it.
        """
        unknown = self.confirmations.trust.unknown(wishes)
        if not unknown or self.confirmations.confirm(unknown, form.get("confirm", "")):
            return None
        variables = {
            "wishes": unknown,
            "seal": self.confirmations.seal(unknown),
            "action": action,
            "fields": {name: value for name, value in form.items() if name != "confirm"},
        }

        def shown() -> Response:
            with damage_in_words(view.path):
                return self._page("confirm.html.j2", {"run": content.head(view), **variables}, 409)

        return await asyncio.to_thread(shown)

    def _page(self, template: str, variables: dict[str, Any], status: int = 200) -> Response:
        try:
            return HTMLResponse(self.templates.get_template(template).render(variables), status)
        except TemplateError as error:  # a part that every run has is not there
            raise ValueError(str(error)) from error


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form. It is parsed here, since Starlette wants another package for forms.

    Raises:
        NotInRunError: it is too long.
    """
    size, parts = 0, list[bytes]()
    async for part in request.stream():
        size += len(part)
        if size > 3 * LONGEST_FORM:  # characters come as up to three each
            raise NotInRunError(f"a form may have at most {LONGEST_FORM} characters; shorten the template")
        parts.append(part)
    return dict(parse_qsl(b"".join(parts).decode("utf-8", "replace"), keep_blank_values=True))


# ---------------------------------------------------------------- live runs


async def change_events(run_dir: Path) -> AsyncIterator[bytes]:
    """Yield a server-sent event `changed` at once and after every change, until the directory is gone.

    Comments are sent in between, so that the server notices a page that was closed.
    """
    shown = ""
    while await asyncio.to_thread(run_dir.exists):
        now = await asyncio.to_thread(fingerprint, run_dir)
        yield b"event: changed\ndata: \n\n" if now != shown else b": still here\n\n"
        shown = now
        await asyncio.sleep(LOOK_S)


def fingerprint(run_dir: Path) -> str:
    """Return a text that is another one after every write, and after the run begins, ends or is resumed."""
    # SQLite writes to the -wal file first, so that the database itself may stay as it is for long.
    stamps = []
    for name in WATCHED:
        try:
            stamps.append(str((run_dir / name).stat().st_mtime_ns))
        except OSError:  # not there, or not any more
            stamps.append("-")
    with suppress(OSError):
        stamps.append(str(lock_is_held(run_dir / "loop.lock")))
    return ",".join(stamps)
