"""The command line. Exit codes: 0 done, 1 failed or stopped, 2 bad usage or bad config.

Everything heavy is imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import ApprovalError, ConfigError, CosignalError, NotARunError, ReplayError
from .studies import NAMES as STUDIES
from .studies.bench import NAMES as BENCHES

if TYPE_CHECKING:
    from .agents.config import Role
    from .agents.replay_results import Replay, RoleReplay
    from .config.run_config import RunConfig
    from .graphs.replay.replay import Changes
    from .runs.events import Event
    from .runs.progress import Display

FAILED, BAD_INPUT = 1, 2
BAD_INPUT_ERRORS = (ConfigError, NotARunError, ApprovalError, ReplayError)

app = typer.Typer(
    help="Redesign the learning signal of a cooperative multi-agent RL run while it trains.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line, and nothing else on stdout.")]

Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Set one key; may be given again.")]


class RoleName(StrEnum):
    critic = "critic"
    generator = "generator"
    ranker = "ranker"


class GraphFormat(StrEnum):
    mermaid = "mermaid"
    html = "html"
    png = "png"


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="A YAML file, or a packaged example such as two_switch.")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option(help="Continue the newest unfinished run of this config.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train with the adaptation loop; writes a run directory with report.html."""
    from .config.run_config import RunConfig

    with _clear_errors(each_line=True):
        loaded = RunConfig.load(_config_file(config), overrides or [])
    with _clear_errors():
        final = _run_to_the_end(loaded, resume, as_json, _resume_command(config, overrides))
    if as_json:
        typer.echo(json.dumps(final))
    if final["state"] != "done":
        raise typer.Exit(FAILED)


@app.command()
def status(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")], as_json: AsJson = False
) -> None:
    """Say where a run stands."""
    from .runs.store import RunView
    from .text import one_line

    with _clear_errors():
        found = RunView(path).status()
    if as_json:
        typer.echo(json.dumps(found))
        return
    width = max(len(name) for name in found)
    for name, value in found.items():
        typer.echo(f"{name:<{width}}  {'–' if value is None else one_line(str(value))}")


@app.command()
def approve(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    key: Annotated[str, typer.Argument(metavar="ID", help="The promotion that waits, as `cosignal status` names it.")],
    yes: Annotated[
        bool | None, typer.Option("--yes/--no", help="Promote it, or decline it. Without either the question is shown.")
    ] = None,
) -> None:
    """Answer a promotion that waits; works also while no process runs the run."""
    from .runs.approvals import answer, question

    with _clear_errors():
        if yes is None:
            for line in question(path, key):
                typer.echo(line)
            raise typer.Exit(BAD_INPUT)
        is_new = answer(path, key, yes)
    told = "promote it" if yes else "decline it"
    typer.echo(f"{key}: {told}" if is_new else f"{key}: {told}, as it was answered before")


@app.command()
def view(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUNS", help="Run directories, or folders of runs; runs_out without any."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
) -> None:
    """Look at runs in a browser: prompts, answers, branches, curves; live while a run is running."""
    from .runs.page import serve

    with _clear_errors():
        serve(paths or [Path("runs_out")], port, lambda address: typer.echo(f"{address}\nCtrl-C ends it.", err=True))


@app.command()
def graph(
    form: Annotated[
        GraphFormat, typer.Option("--format", help="mermaid is text, html one self-contained page, png a picture.")
    ] = GraphFormat.mermaid,
    output: Annotated[Path | None, typer.Option(help="Write here instead of to stdout.")] = None,
) -> None:
    """Draw the adaptation graph; needs no network."""
    with _clear_errors():
        if form is GraphFormat.png and output is None and sys.stdout.isatty():
            raise ConfigError("--format png: a picture is not for a terminal, got no --output; add --output graph.png")
        drawn = _drawn(form)
        if output is None:
            typer.echo(drawn, nl=isinstance(drawn, str))
        else:
            _write(output, drawn)
            typer.echo(f"wrote {output}", err=True)


@app.command()
def replay(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    call: Annotated[str | None, typer.Argument(metavar="CALL", help="Id of a row of its table `calls`.")] = None,
    role: Annotated[RoleName | None, typer.Option("--all", help="Every question of this role, summed up.")] = None,
    prompt: Annotated[Path | None, typer.Option(help="Ask with this template, as llm.prompts names one.")] = None,
    model: Annotated[str | None, typer.Option(help="Ask this model of the role's provider.")] = None,
    overrides: Overrides = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Of the generator: try the new proposals on branches of the snapshot.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a recorded call again, with another prompt or model; shows the difference. The run stays as it is."""
    if (call is None) == (role is None):
        raise typer.BadParameter("name either one CALL, or a role by --all")
    if role is not None and validate:
        raise typer.BadParameter("--validate goes with one CALL")
    from rich.console import Console

    from .graphs.replay.replay import Changes
    from .runs.replays import show

    changes = Changes(prompt, model, overrides or [])
    with _clear_errors():
        if role is not None:
            found, kept = asyncio.run(_replay_role(path, role.value, changes, as_json))
        else:
            found, kept = asyncio.run(_replay_call(path, str(call), changes, validate, as_json))
    if as_json:
        typer.echo(json.dumps({"file": str(kept), **found.model_dump(mode="json")}))
    else:
        show(found, Console())
        typer.echo(f"wrote {kept}")
    if not found.answered:
        raise typer.Exit(FAILED)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(STUDIES)}.")],
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="How many seeds (gate-trials: trials); the study's own number when left out."),
    ] = None,
    first_seed: Annotated[
        int | None, typer.Option(min=0, help="The first of them; they follow each other. 1 without it (lca: 11).")
    ] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm; may be given again. All without it.")] = None,
    figure: Annotated[list[int] | None, typer.Option(help="lca: only this figure, 3 to 6; may be given again.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="lca: only this task; may be given again.")] = None,
    as_json: AsJson = False,
) -> None:
    """Reproduce a comparison; says what it measured, with intervals."""
    from .studies import run_study

    with _clear_errors():
        result = run_study(name, seeds, arm or (), _teller(as_json), first_seed, figure or (), task or ())
    if as_json:
        typer.echo(json.dumps(result))


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BENCHES)}.")],
    baseline: Annotated[bool, typer.Option("--baseline", help="Compare with the kept baseline; 1 if worse.")] = False,
    write_baseline: Annotated[bool, typer.Option("--write-baseline", help="Keep this result as the baseline.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure this machine."""
    from .studies.bench import baseline as baselines
    from .studies.bench import run_bench

    tell = _teller(as_json)
    with _clear_errors():
        before = baselines.read(name) if baseline else None
        result = run_bench(name, tell)
        holds = before is None or baselines.holds(before, result, tell)
        if write_baseline:
            tell(f"wrote {baselines.write(baselines.baseline_of(result))}")
    typer.echo(json.dumps(result) if as_json else json.dumps(result["metrics"], indent=2))
    if not holds:
        raise typer.Exit(FAILED)


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(help="As for run; without it, the example two_switch.")] = None,
    overrides: Overrides = None,
    online: Annotated[bool, typer.Option("--online", help="Also try the addresses of hosted providers.")] = False,
    as_json: AsJson = False,
) -> None:
    """Is everything reachable and sane? Says exactly what is not; sends nothing to anybody."""
    from rich.console import Console

    from .doctor import examine
    from .doctor.check import show

    with Console(stderr=True).status("looking; the speed of training is measured for two seconds"):
        found = examine(config, overrides or [], online=online)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        show(found, Console())
    raise typer.Exit(found.exit_code)


# ---------------------------------------------------------------- running


def _config_file(path: Path) -> Path:
    """`path`, or the packaged example of that name, which is said."""
    from .examples import example_path

    found = example_path(path)
    if found != path:
        typer.echo(f"using the packaged example {found}", err=True)
    return found


def _teller(as_json: bool) -> Callable[[str], None]:
    """Lines of progress; to stderr where stdout belongs to the result."""

    def tell(line: str) -> None:
        typer.echo(line, err=as_json)

    return tell


def _run_to_the_end(config: RunConfig, resume: bool, as_json: bool, command: str) -> dict[str, Any]:
    """Train with progress on the terminal; the final status. Ctrl-C and SIGTERM stop cleanly and exit with 1."""
    try:
        return asyncio.run(_run(config, resume, _display(as_json)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo(f"stopped; continue with: {command}", err=True)
        raise typer.Exit(FAILED) from None


async def _run(config: RunConfig, resume: bool, display: Display) -> dict[str, Any]:
    from .graphs.session.run import start

    with display:
        async with start(config, resume=resume) as live:
            async for event in live.events():
                display.show(event)
            result = await live.result()
    display.close(result.status)
    return result.status


def _display(as_json: bool) -> Display:
    """Live on a terminal, lines elsewhere; with `--json` it goes to stderr, since stdout belongs to the result."""
    from rich.console import Console

    from .runs.progress import LiveDisplay, PlainDisplay

    console = Console(stderr=as_json)
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


def _resume_command(config: Path, overrides: list[str] | None) -> str:
    sets = [word for override in overrides or [] for word in ("--set", override)]
    return shlex.join(["cosignal", "run", str(config), *sets, "--resume"])


# ---------------------------------------------------------------- replaying


async def _replay_call(
    path: Path, call: str, changes: Changes, validate: bool, as_json: bool
) -> tuple[Replay | RoleReplay, Path]:
    """What came of it, and the file in which that is kept."""
    from .graphs.replay.offline_round import Trial
    from .graphs.replay.replay import replay_call
    from .runs.replays import FOLDER, branch_line, new_name, write_replay

    def tell(event: Event) -> None:
        if (line := branch_line(event)) is not None:
            typer.echo(line.text, err=True)

    name = new_name(call)
    trial = Trial(path / FOLDER / name, emit=tell if not as_json else lambda _: None) if validate else None
    found = await replay_call(path, call, changes, trial)
    if validate and found.validation is None:
        typer.echo("no branch was run: without a valid answer there is nothing to try", err=True)
    return found, write_replay(path, name, found)


async def _replay_role(path: Path, role: Role, changes: Changes, as_json: bool) -> tuple[Replay | RoleReplay, Path]:
    """As `_replay_call`; a line a call is told as they come."""
    from .graphs.replay.replay import replay_role
    from .runs.replays import call_line, new_name, write_replay

    found = await replay_role(path, role, changes, lambda one: typer.echo(call_line(one).text, err=as_json))
    return found, write_replay(path, new_name(f"all-{role}"), found)


# ---------------------------------------------------------------- drawing


def _drawn(form: GraphFormat) -> str | bytes:
    from .config.run_config import RunConfig
    from .graphs.graph import build_graph

    drawable = build_graph(RunConfig()).get_graph(xray=True)
    if form is GraphFormat.mermaid:
        return drawable.draw_mermaid()
    from .runs.graph_picture import Topology, graph_png
    from .runs.report import graph_page

    draw = graph_png if form is GraphFormat.png else graph_page
    return draw(Topology.from_json(drawable.to_json()))


def _write(path: Path, content: str | bytes) -> None:
    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise ConfigError(
            f"--output: must be a file that can be written, got {str(path)!r} ({error.strerror})"
        ) from None


# ---------------------------------------------------------------- errors


@contextmanager
def _clear_errors(each_line: bool = False) -> Iterator[None]:
    """What went wrong as one clear line on stderr, and its exit code. A defect of our own keeps its traceback.

    `each_line`: each line of the error is one of its own, since a config may be wrong in several places. Other errors
    may quote people whose words have newlines.
    """
    try:
        yield
    except CosignalError as error:
        _complain(str(error).split("\n") if each_line else [str(error)])
        raise typer.Exit(BAD_INPUT if isinstance(error, BAD_INPUT_ERRORS) else FAILED) from None


def _complain(lines: Sequence[str]) -> None:
    from .text import one_line

    for line in lines:
        typer.echo(f"cosignal: {one_line(line)}", err=True)
