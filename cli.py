"""The command line. Exit codes: 0 done, 1 failed or stopped, 2 bad usage or bad config.

Whatever is heavy is imported inside the commands, so that `--help` is quick. This module stands above all others: it
alone knows both the graph and the pages, and hands the one to the other.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import (
    ApprovalError,
    ConfigError,
    CosignalError,
    ExportError,
    NotARunError,
    ReplayError,
    ResumeError,
    TrustError,
)
from .studies import NAMES as STUDIES
from .studies.bench import NAMES as BENCHES

if TYPE_CHECKING:
    from .agents.replay_results import Replay, RoleReplay
    from .config.run_config import RunConfig
    from .runs.events import Event
    from .runs.graph_picture import Topology
    from .runs.page.replay_jobs import ReplayRequest
    from .runs.trust import Trust

FAILED, BAD_INPUT = 1, 2
PROGRESS_S = 5.0  # between two lines of progress where nobody looks at a terminal
BAD_INPUT_ERRORS = (ConfigError, NotARunError, ApprovalError, ExportError, ReplayError, ResumeError, TrustError)


class RoleName(StrEnum):
    """The roles of `agents.config`, which is not imported for `--help`."""

    critic = "critic"
    generator = "generator"
    ranker = "ranker"


class GraphFormat(StrEnum):
    """The forms in which the graph can be drawn."""

    mermaid = "mermaid"
    html = "html"
    png = "png"


app = typer.Typer(
    help="Redesign the learning signal of a cooperative multi-agent RL run while it trains.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line, and nothing else on stdout.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Set one key of the config; may be given again.")
]
RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
OwnConfigs = Annotated[
    list[Path] | None,
    typer.Option("--config", help="A config of yours: a run may load its environment and ask its models."),
]
AllowedEnvs = Annotated[
    list[str] | None,
    typer.Option("--allow-env", metavar="MODULE:ATTR", help="Let a run load this environment; may be given again."),
]
AllowedModels = Annotated[
    list[str] | None,
    typer.Option("--allow-model", metavar="MODEL", help="Let a run ask this model, as the refusal names it."),
]


# ---------------------------------------------------------------- runs


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Argument(help="A YAML file, or a packaged example such as two_switch.")
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN", help="With --resume: the run directory to go on with; alone with its own config."
        ),
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with RUN, or with the newest run of this config that is not done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train with the adaptation loop; writes a run directory with report.html."""
    from rich.console import Console

    from .config.run_config import RunConfig
    from .examples import example_path
    from .runs.progress import LiveDisplay, PlainDisplay

    if resume and config is not None and config.is_dir():
        config, run_dir = run_dir, config
    if run_dir is not None and not resume:
        raise typer.BadParameter("a run directory goes with --resume")
    if config is None and run_dir is None:
        raise typer.BadParameter("name a config, or with --resume a run directory")

    # A config may be wrong in several places, each on a line of its own.
    with _errors_as_lines(split=True):
        if config is None:
            assert run_dir is not None
            loaded = _own_config(run_dir, overrides or [])
        else:
            path = example_path(config)
            if path != config:
                typer.echo(f"using the packaged example {path}", err=True)
            loaded = RunConfig.load(path, overrides or [])

    # A panel on a terminal, lines elsewhere; with --json both go to stderr, since stdout belongs to the result.
    console = Console(stderr=as_json)
    display = LiveDisplay(console) if console.is_terminal else PlainDisplay(console)

    async def train() -> dict[str, Any]:
        from .graphs.session.run import start

        with display:
            async with start(loaded, resume=run_dir or resume) as live:
                async for event in live.events():
                    display.show(event)
                result = await live.result()
        display.close(result.status)
        return result.status

    with _errors_as_lines():
        try:
            status = asyncio.run(train())
        except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C, SIGTERM
            typer.echo(f"stopped; continue with: {resume_command(config, overrides or [], run_dir)}", err=True)
            raise typer.Exit(FAILED) from None
    if as_json:
        typer.echo(json.dumps(status))
    if status["state"] != "done":
        raise typer.Exit(FAILED)


def _own_config(run_dir: Path, overrides: list[str]) -> RunConfig:
    """Read the config in a run directory, which a stranger may have written: it may name nothing to import or to ask.

    Raises:
        NotARunError: there is no run.
        ResumeError: it names something of that kind which no override names.
    """
    from .config.run_config import RunConfig
    from .runs.run_view import RunView

    config = RunConfig.load(RunView(run_dir).path / "config.json", overrides)
    named: dict[str, tuple[object, ...]] = (
        {} if config.task.env is None else {"task.env": (config.task.env, config.task.env_args)}
    )
    for role in ("default", "critic", "generator", "ranker"):
        model = getattr(config.llm, role)
        asked = [] if model is None else [part for part in (model, *model.fallback) if part.provider != "rules"]
        named |= {f"llm.{role}": (part.provider, part.base_url, part.api_key_env) for part in asked}
    # What the caller sets is his own.
    said = tuple(f"{override.partition('=')[0]}." for override in overrides)
    unsaid = {key: value for key, value in named.items() if not f"{key}.".startswith(said)}
    if unsaid:
        command = shlex.join(["cosignal", "run", "CONFIG", "--resume", str(run_dir)])
        raise ResumeError(
            f"--resume: a run directory without a config of yours must name nothing to import or to ask, "
            f"{str(run_dir)!r} names {unsaid!r}; resume it with your config: {command}"
        )
    return config


def resume_command(config: Path | None, overrides: list[str], run_dir: Path | None = None) -> str:
    """Return the shell command that continues a run."""
    sets = [word for override in overrides for word in ("--set", override)]
    words = [str(path) for path in (config, run_dir) if path is not None]
    return shlex.join(["cosignal", "run", *words, *sets, "--resume"])


@app.command()
def status(path: RunDirectory, as_json: AsJson = False) -> None:
    """Say where a run stands."""
    from .runs.run_files import damage_in_words
    from .runs.run_view import RunView
    from .text import one_line

    with _errors_as_lines(), damage_in_words(path):
        fields = RunView(path).status()
    if as_json:
        typer.echo(json.dumps(fields))
        return
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        text = "; ".join(value) if isinstance(value, list) else "" if value is None else str(value)
        typer.echo(f"{name:<{width}}  {one_line(text) or '–'}")


@app.command()
def approve(
    path: RunDirectory,
    promotion: Annotated[
        str, typer.Argument(metavar="ID", help="The promotion that waits, as `cosignal status` names it.")
    ],
    yes: Annotated[
        bool | None, typer.Option("--yes/--no", help="Promote it, or decline it. Without either the question is shown.")
    ] = None,
    because: Annotated[
        str, typer.Option(metavar="TEXT", help="With --no: why, in your words; later prompts show it to the models.")
    ] = "",
) -> None:
    """Answer a promotion that waits; works also while no process runs the run."""
    from .runs.approvals import answer, given_answer, question

    if because and yes is None:
        raise typer.BadParameter("--because goes with --no")
    with _errors_as_lines():
        # Without an answer the command shows the question, and counts as bad usage.
        if yes is None:
            for line in question(path, promotion):
                typer.echo(line)
            raise typer.Exit(BAD_INPUT)
        is_new = answer(path, promotion, yes, because)
        kept = given_answer(path, promotion)
    text = "promote it" if yes else "decline it"
    text += "" if is_new else ", as it was answered before"
    # A reason is told as it is kept: cut where it was too long, and the first one where there are two.
    text += f", because: {kept.because}" if kept is not None and kept.because else ""
    typer.echo(f"{promotion}: {text}")


@app.command()
def signals(
    paths: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Run directories, or folders of runs.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write them to a file for `adaptation.library`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the signals that did well in runs, and say what was proven there: of a policy, or of the signal."""
    from .config.given_signals import GivenSignal
    from .runs.library import best_first, good_signals, table_lines, write_library
    from .runs.run_files import damage_in_words, run_directories
    from .runs.run_view import RunView
    from .text import one_line

    found, unreadable = list[GivenSignal](), dict[str, str]()
    with _errors_as_lines():
        runs = dict.fromkeys(run.absolute() for path in paths for run in sorted(run_directories(path)))
        if not runs:
            raise NotARunError(f"there must be a run in {', '.join(map(str, paths))}, found none; name a run directory")
        # A run that cannot be read hides no other.
        for run in runs:
            try:
                with damage_in_words(run):
                    found += good_signals(RunView(run))
            except NotARunError as error:
                unreadable[str(run)] = str(error)
                typer.echo(f"left out: {one_line(str(error))}", err=True)
        if len(unreadable) == len(runs):
            raise NotARunError(f"of {len(runs)} runs one must be readable, none is; see the lines above")
        found = best_first(found)
        if as_json:
            rows = [entry.model_dump(mode="json") for entry in found]
            typer.echo(json.dumps({"signals": rows, "unreadable": unreadable}))
        elif found:
            for line in table_lines(found):
                typer.echo(line)
        else:
            typer.echo("no signal was put in force after a proof, or each was undone again")
        if out is not None:
            written = write_library(out, found)
            more = f", the best of {len(found)}" if written < len(found) else ""
            typer.echo(f"wrote {written} signal{'s' if written != 1 else ''}{more} to {out}", err=True)


@app.command()
def view(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUNS", help="Run directories, or folders of runs; runs_out if left out."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to serve on; 0 takes a free one.")] = 0,
    configs: OwnConfigs = None,
    allow_env: AllowedEnvs = None,
    allow_model: AllowedModels = None,
) -> None:
    """Look at runs in a browser: prompts, answers, branches, curves; live while a run is running."""
    from .runs.page import serve

    def tell(address: str) -> None:
        typer.echo(f"{address}\nCtrl-C ends it.", err=True)

    with _errors_as_lines():
        trust = trust_in(configs, allow_env, allow_model)
        serve(paths or [Path("runs_out")], port, tell, topology=loop_topology, ask_again=ask_again, trust=trust)


@app.command()
def export(
    path: RunDirectory,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The new folder; NAME-export here, after the run, if left out.")
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option(metavar="NAME", help="A snapshot of the run; what is in force if left out.")
    ] = None,
    configs: OwnConfigs = None,
    allow_env: AllowedEnvs = None,
) -> None:
    """Write a run's policy for plain PyTorch, and its signal as a PettingZoo wrapper; the run stays as it is."""
    from .export.write import export_run

    with _errors_as_lines():
        folder = export_run(path, out, snapshot, trust_in(configs, allow_env, None))
    typer.echo(f"wrote {folder}; README.md in it says what is there")


def trust_in(configs: list[Path] | None, envs: list[str] | None, models: list[str] | None) -> Trust:
    """Return what the options allow run directories to load. Raises ConfigError where a config cannot be used."""
    from .config.run_config import RunConfig
    from .runs.trust import Trust

    return Trust(tuple(RunConfig.load(path) for path in configs or []), frozenset(envs or []), frozenset(models or []))


# ---------------------------------------------------------------- the graph


@app.command()
def graph(
    form: Annotated[
        GraphFormat, typer.Option("--format", help="mermaid is text, html one self-contained page, png a picture.")
    ] = GraphFormat.mermaid,
    output: Annotated[Path | None, typer.Option(help="Write to this file instead of to stdout.")] = None,
) -> None:
    """Draw the adaptation graph; needs no network."""
    with _errors_as_lines():
        if form is GraphFormat.png and output is None and sys.stdout.isatty():
            raise ConfigError("--format png: a picture is not for a terminal, got no --output; add --output graph.png")
        drawing = _draw(form)
        if output is None:
            # A PNG is bytes, to which no newline belongs.
            typer.echo(drawing, nl=isinstance(drawing, str))
            return
        try:
            output.write_bytes(drawing.encode() if isinstance(drawing, str) else drawing)
        except OSError as error:
            raise ConfigError(
                f"--output: must be a file that can be written, got {str(output)!r} ({error.strerror})"
            ) from None
        typer.echo(f"wrote {output}", err=True)


def _draw(form: GraphFormat) -> str | bytes:
    if form is GraphFormat.mermaid:
        from .config.run_config import RunConfig
        from .graphs.graph import build_graph

        return build_graph(RunConfig()).get_graph(xray=True).draw_mermaid()
    from .runs.graph_picture import graph_png
    from .runs.report import graph_page

    return (graph_png if form is GraphFormat.png else graph_page)(loop_topology())


def loop_topology() -> Topology:
    """Return the nodes and edges of the graph that runs compile. Imports LangGraph, which takes a second."""
    from .graphs import graph

    return graph.loop_topology()


# ---------------------------------------------------------------- replays


@app.command()
def replay(
    path: RunDirectory,
    call: Annotated[
        str | None, typer.Argument(metavar="CALL", help="The recorded call: an id of the run's table `calls`.")
    ] = None,
    role: Annotated[
        RoleName | None, typer.Option("--all", help="Ask every question of this role instead, and sum up.")
    ] = None,
    prompt: Annotated[
        Path | None, typer.Option(help="Ask with this template, a file as llm.prompts names one.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Ask this model of the role's provider.")] = None,
    overrides: Overrides = None,
    validate: Annotated[
        bool,
        typer.Option(
            "--validate",
            help="Try the new proposals as the run tried its own, in a race or on branches; for a generator's call.",
        ),
    ] = False,
    configs: OwnConfigs = None,
    allow_env: AllowedEnvs = None,
    allow_model: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Ask a recorded call again, with another prompt or model; shows the difference. The run stays as it is."""
    if (call is None) == (role is None):
        raise typer.BadParameter("name either one CALL, or a role by --all")
    if role is not None and validate:
        raise typer.BadParameter("--validate goes with one CALL")
    from rich.console import Console

    from .graphs.replay.replay import Changes, replay_call, replay_role
    from .graphs.replay.validation import Trial
    from .runs.replays import FOLDER, branch_line, call_line, new_name, show, write_replay

    def tell_call(replayed: Replay) -> None:
        typer.echo(call_line(replayed).text, err=as_json)

    def tell_branch(event: Event) -> None:
        if (line := branch_line(event)) is not None and not as_json:
            typer.echo(line.text, err=True)

    # Ask, keep what came of it below the run, and show it.
    changes = Changes(prompt, model, overrides or [])
    name = new_name(call or f"all-{role}")
    result: Replay | RoleReplay
    with _errors_as_lines():
        trust = trust_in(configs, allow_env, allow_model)
        if role is not None:
            result = asyncio.run(replay_role(path, role.value, changes, tell_call, trust))
        else:
            trial = Trial(path / FOLDER / name, emit=tell_branch) if validate else None
            result = asyncio.run(replay_call(path, str(call), changes, trial, trust))
            if validate and result.validation is None:
                typer.echo("no branch was run: without a valid answer there is nothing to try", err=True)
        file: Path | None = None
        try:
            file = write_replay(path, name, result)
        finally:  # an answer that was paid for is shown also where it cannot be kept
            if as_json:
                typer.echo(json.dumps({"file": None if file is None else str(file), **result.model_dump(mode="json")}))
            else:
                show(result, Console())
        if not as_json:
            typer.echo(f"wrote {file}")
    if not result.answered:
        raise typer.Exit(FAILED)


async def ask_again(
    run_dir: Path, request: ReplayRequest, prompt: Path | None, branches: Path, trust: Trust
) -> Replay | RoleReplay:
    """Ask recorded calls again for the pages of `view`; see `runs.page.replay_jobs.AskAgain`.

    The imports take seconds, and most who look at runs never ask; nobody else waits for them.
    """
    await asyncio.to_thread(import_module, f"{__package__}.graphs.replay.validation")
    from .graphs.replay.replay import Changes, replay_call, replay_role
    from .graphs.replay.validation import Trial

    changes = Changes(prompt, request.model)
    if request.call:
        trial = Trial(branches) if request.validate else None
        return await replay_call(run_dir, request.call, changes, trial, trust)
    return await replay_role(run_dir, request.role, changes, trust=trust)


# ---------------------------------------------------------------- studies and benchmarks


@app.command()
def study(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(STUDIES)}.")],
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many seeds (gate-trials, policy-power: trials); the study's own number if left out."
        ),
    ] = None,
    first_seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The first seed, which the others follow; 1 if left out (lca: 11; ranking: 101; races: 311).",
        ),
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help="Run only this arm; may be given again. All arms if left out.")
    ] = None,
    figure: Annotated[
        list[int] | None, typer.Option(help="lca: draw only this figure, 3 to 6; may be given again.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="lca, ranking, curves, signals: only this task; may be given again. race, race-harm: the task,"
            " two_switch if left out."
        ),
    ] = None,
    proposals: Annotated[
        Path | None,
        typer.Option(help="race, race-harm: a file of signals that are tried in place of the rules' proposals."),
    ] = None,
    stalled: Annotated[
        int | None, typer.Option(min=1, help="race: add seeds until plain training fails on so many.")
    ] = None,
    algorithm: Annotated[
        list[str] | None, typer.Option(help="curves: only arms of this algorithm; may be given again.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="curves: main steps of a run in place of the protocol's.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="curves: set one key of every row's config; may be given again."),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="signals: only this kind of signal; may be given again.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Reproduce a comparison; says what it measured, with intervals."""
    from .studies import run_study

    with _errors_as_lines():
        tell = _progress_printer(as_json)
        options = (figure or (), task or (), proposals, stalled, algorithm or (), steps, overrides or (), kind or ())
        result = run_study(name, seeds, arm or (), tell, first_seed, *options)
    if as_json:
        typer.echo(json.dumps(result))


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BENCHES)}.")],
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Compare with the kept baseline; exit code 1 if worse.")
    ] = False,
    write_baseline: Annotated[bool, typer.Option("--write-baseline", help="Keep this result as the baseline.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure this machine."""
    from .studies.bench import baseline as baselines
    from .studies.bench import run_bench

    tell = _progress_printer(as_json)
    with _errors_as_lines():
        # Read first: a missing baseline is told before minutes of measuring.
        before = baselines.read(name) if baseline else None
        result = run_bench(name, tell)
        holds = before is None or baselines.holds(before, result, tell)
        if write_baseline:
            tell(f"wrote {baselines.write(baselines.baseline_of(result))}")
    typer.echo(json.dumps(result) if as_json else json.dumps(result["metrics"], indent=2))
    if not holds:
        raise typer.Exit(FAILED)


def _progress_printer(as_json: bool) -> Callable[[str], None]:
    """Return what prints a line of progress: to stderr where stdout belongs to the result."""

    def tell(line: str) -> None:
        typer.echo(line, err=as_json)

    return tell


# ---------------------------------------------------------------- this installation


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="A YAML file or a packaged example, as for run; two_switch if left out.")
    ] = None,
    overrides: Overrides = None,
    online: Annotated[bool, typer.Option("--online", help="Also try the addresses of hosted providers.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check that all a run needs is reachable and sane; says exactly what is not; sends no prompt and no key."""
    from rich.console import Console

    from .doctor import examine
    from .doctor.check import show

    console = Console(stderr=True)
    with console.status("looking; the speed of training is measured for two seconds") as status:
        last_line = time.monotonic()

        def tell(place: str) -> None:
            nonlocal last_line
            status.update(f"looking at the task: {place}")
            # A log gets a line now and then.
            if not console.is_terminal and time.monotonic() - last_line > PROGRESS_S:
                last_line = time.monotonic()
                typer.echo(f"looking at the task: {place}", err=True)

        examination = examine(config, overrides or [], online=online, tell=tell)
    if as_json:
        typer.echo(json.dumps(examination.as_dict()))
    else:
        show(examination, Console())
    raise typer.Exit(examination.exit_code)


# ---------------------------------------------------------------- errors


@contextmanager
def _errors_as_lines(split: bool = False) -> Iterator[None]:
    """Print an error that cosignal raises on purpose as one line on stderr, and exit with its code; warnings likewise.

    Other exceptions are defects and keep their traceback.

    Args:
        split: print each line of the message as one of its own. By default they are joined, since a message may quote
            what a provider says.
    """
    from .text import one_line

    def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        typer.echo(f"cosignal: warning: {one_line(str(message))}", err=True)

    try:
        with warnings.catch_warnings():
            # One line, without the place in pydantic that Python would add.
            warnings.showwarning = show_warning
            yield
    except CosignalError as error:
        for line in str(error).split("\n") if split else [str(error)]:
            typer.echo(f"cosignal: {one_line(line)}", err=True)
        raise typer.Exit(BAD_INPUT if isinstance(error, BAD_INPUT_ERRORS) else FAILED) from None
