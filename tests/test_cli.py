"""The command line: what it prints, what it exits with, what it says about bad input."""

from __future__ import annotations

import io
import json
import shlex
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from cosignal.cli import _resume_command, app
from cosignal.errors import ConfigError
from cosignal.graphs import events as e
from cosignal.graphs.studio import graph
from cosignal.runs import progress
from cosignal.runs.drawing import Topology
from cosignal.runs.report import loop_topology
from rich.console import Console
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = str(ROOT / "examples" / "two_switch.yaml")
STATUS_KEYS = {
    "path", "state", "seed", "provider", "stage", "steps_main", "steps_total", "steps_budget", "signal_version",
    "proposals", "validated", "promotions", "rollbacks", "llm_calls", "sparse_return", "success_rate", "wall_s",
    "error", "waiting_for",
}  # fmt: skip

runner = CliRunner()


def test_help_names_the_commands_and_loads_nothing_heavy() -> None:
    code = "import sys; from cosignal.cli import app; app(['--help'], standalone_mode=False); "
    code += "print([m for m in ('torch', 'langgraph', 'langchain_core', 'numba', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in ("run", "status", "approve", "graph", "study"))
    assert done.stdout.strip().endswith("[]")


# ---------------------------------------------------------------- status


def test_status_json_is_one_object_on_one_line(finished_run: Path) -> None:
    result = runner.invoke(app, ["status", str(finished_run), "--json"])
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    status = json.loads(result.stdout)
    assert status.keys() >= STATUS_KEYS
    assert (status["state"], status["promotions"], status["proposals"], status["validated"]) == ("done", 1, 8, 6)
    assert status["provider"] == "rules"


def test_status_says_why_a_run_failed_in_one_line(finished_run: Path) -> None:
    with closing(sqlite3.connect(finished_run / "loop.db")) as database, database:
        words = json.dumps("TrainerGone: no memory\nlast words\x1b[2J")
        database.execute("INSERT OR REPLACE INTO run VALUES ('error', ?)", (words,))
    told = runner.invoke(app, ["status", str(finished_run)]).stdout
    assert "error           TrainerGone: no memory last words\\x1b[2J\n" in told
    assert json.loads(runner.invoke(app, ["status", str(finished_run), "--json"]).stdout)["error"].endswith("\x1b[2J")


def test_status_in_words(finished_run: Path) -> None:
    result = runner.invoke(app, ["status", str(finished_run)])
    assert result.exit_code == 0
    assert "sparse_return   2.75" in result.stdout


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["status", "/nowhere"], "cosignal: '/nowhere' is not a run directory"),
        (["run", "/nowhere.yaml"], "cosignal: /nowhere.yaml: a config file must exist here"),
        (["run", EXAMPLE, "--set", "trainer.stepz=1"], "did you mean 'trainer.steps'?"),
        (["run", EXAMPLE, "--set", "trainer.envs=many"], "trainer.envs: must be a valid integer, got 'many'"),
        (["run", EXAMPLE, "--set", "task={env: 'no_such.module:env'}"], "got 'no_such.module:env'"),
        (
            ["run", EXAMPLE, "--set", "signal.terms=[{name: a, kind: potential, expression: dist_gaol}]"],
            "did you mean 'dist_goal'?",
        ),
        (["run", EXAMPLE, "--set", "seed=2020-99-99"], "--set seed: must be a YAML value, got '2020-99-99'"),
        (["run", EXAMPLE, "--set", "trainer.ippo.hidden=[-5]"], "trainer.ippo.hidden.0: must be greater than or equal"),
        (["study", "no-such-study"], "got 'no-such-study'"),
        (["graph", "--output", "/no/such/folder/graph.html"], "--output: must be a file that can be written"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], line: str) -> None:
    more = ["--set", f"run_dir={tmp_path}"] if arguments[0] == "run" else []
    result = runner.invoke(app, [*arguments, *more])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert line in result.stderr
    assert not list(tmp_path.iterdir()), "nothing may be left of a run that never started"


@pytest.mark.parametrize("run_dir", ["/etc/hostname", "/proc/x"])
@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_run_dir_that_cannot_be_written_gets_one_line(run_dir: str, more: list[str]) -> None:
    result = runner.invoke(app, ["run", EXAMPLE, "--set", f"run_dir={run_dir}", *more])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert f"run_dir: must be a folder that can be written, got '{run_dir}'" in result.stderr


@pytest.mark.parametrize("name", ["run.json", "config.json"])
def test_status_of_a_run_with_a_cut_file_gets_one_line(finished_run: Path, name: str) -> None:
    (finished_run / name).write_text('{"id": ')
    result = runner.invoke(app, ["status", str(finished_run), "--json"])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert name in result.stderr


def test_what_a_provider_says_in_several_lines_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ConfigError("llm provider 'x': first\nsecond\x1b[2J")

    monkeypatch.setattr("cosignal.graphs.run.check_models", refuse)
    result = runner.invoke(app, ["run", EXAMPLE, "--set", f"run_dir={tmp_path}"])
    assert result.exit_code == 2
    assert result.stderr == "cosignal: llm provider 'x': first second\\x1b[2J\n"


def test_the_command_that_resumes_can_be_pasted() -> None:
    command = _resume_command(Path("my runs/a.yaml"), ["seed=2", "task={env: 'a:b'}"])
    assert shlex.split(command) == [
        "cosignal", "run", "my runs/a.yaml", "--set", "seed=2", "--set", "task={env: 'a:b'}", "--resume"
    ]  # fmt: skip


def test_two_wrong_keys_get_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("seed: x\nsteps: 1\n")
    result = runner.invoke(app, ["run", str(path)])
    assert result.exit_code == 2
    assert [line.split(": ")[2] for line in result.stderr.splitlines()] == ["seed", "steps"]


def test_bad_usage_exits_with_2() -> None:
    assert runner.invoke(app, ["frobnicate"]).exit_code == 2
    assert runner.invoke(app, ["graph", "--format", "gif"]).exit_code == 2


# ---------------------------------------------------------------- approve


@pytest.fixture
def waiting_run(finished_run: Path) -> Path:
    """It waits for an answer to the accepted decision p80-r1."""
    question = QUESTION.model_copy(update={"id": "p80-r1"}).model_dump_json()
    with closing(sqlite3.connect(finished_run / "loop.db")) as database, database:
        database.execute("INSERT OR REPLACE INTO run VALUES ('waiting_for', ?)", (question,))
    return finished_run


@pytest.mark.parametrize(
    ("option", "words", "other"), [("--yes", "promote it", "--no"), ("--no", "decline it", "--yes")]
)
def test_an_answer_is_given_once(waiting_run: Path, option: str, words: str, other: str) -> None:
    told = [runner.invoke(app, ["approve", str(waiting_run), "p80-r1", option]) for _ in range(2)]
    assert [(result.exit_code, result.stdout) for result in told] == [
        (0, f"p80-r1: {words}\n"),
        (0, f"p80-r1: {words}, as it was answered before\n"),
    ]
    [path] = (waiting_run / "approvals").iterdir()
    kept = json.loads(path.read_text())
    assert (path.name, kept["id"], kept["yes"]) == ("p80-r1.json", "p80-r1", option == "--yes")
    contradiction = runner.invoke(app, ["approve", str(waiting_run), "p80-r1", other])
    assert (contradiction.exit_code, contradiction.stdout) == (2, "")
    assert "the promotion must keep the answer that it has" in contradiction.stderr
    assert json.loads(path.read_text()) == kept


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("p80-r0", "the promotion must wait for an answer, got 'p80-r0'; answer 'p80-r1', which waits"),
        ("p81-r0", "the promotion must be a decision of this run, got 'p81-r0'; answer 'p80-r1', which waits"),
        ("../p80-r1", "the promotion must be a decision of this run, got '../p80-r1'"),
    ],
)
def test_an_answer_to_what_does_not_wait_gets_one_line(waiting_run: Path, key: str, line: str) -> None:
    result = runner.invoke(app, ["approve", str(waiting_run), key, "--yes"])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert line in result.stderr
    assert not (waiting_run / "approvals").exists()


def test_where_nothing_waits_it_says_so(finished_run: Path) -> None:
    result = runner.invoke(app, ["approve", str(finished_run), "p80-r1", "--yes"])
    assert result.exit_code == 2
    assert "nothing waits for an answer in this run" in result.stderr
    result = runner.invoke(app, ["approve", "/nowhere", "p80-r1", "--yes"])
    assert (result.exit_code, "'/nowhere' is not a run directory" in result.stderr) == (2, True)


def test_without_an_answer_the_question_is_shown(waiting_run: Path) -> None:
    result = runner.invoke(app, ["approve", str(waiting_run), "p80-r1"])
    assert result.exit_code == 2
    assert "p80-r1: promote p24-r1-0 Near the door?" in result.stdout
    assert f"cosignal approve {waiting_run} p80-r1 --yes" in result.stdout
    assert not (waiting_run / "approvals").exists()


def test_an_answer_that_cannot_be_written_gets_one_line(waiting_run: Path) -> None:
    (waiting_run / "approvals").write_text("in the way")
    result = runner.invoke(app, ["approve", str(waiting_run), "p80-r1", "--yes"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "must be" in result.stderr


# ---------------------------------------------------------------- graph


def test_the_graph_as_mermaid() -> None:
    result = runner.invoke(app, ["graph"])
    assert result.exit_code == 0
    assert result.stdout.lstrip("-\n").startswith("config:")
    assert all(
        edge in result.stdout for edge in ("validate --> decide", "confirm -.-> promote", "critic_tools --> critic")
    )


def test_the_graph_as_a_page(tmp_path: Path) -> None:
    path = tmp_path / "graph.html"
    result = runner.invoke(app, ["graph", "--format", "html", "--output", str(path)])
    assert result.exit_code == 0
    page = path.read_text()
    assert "rank proposals" in page
    assert "default-src 'none'" in page


def test_langgraph_json_names_the_graph() -> None:
    """The same graph as the report draws."""
    [target] = json.loads((ROOT / "langgraph.json").read_text())["graphs"].values()
    assert target == f"{graph.__module__}:{graph.__name__}"
    assert Topology.from_json(graph().get_graph(xray=True).to_json()) == loop_topology()


# ---------------------------------------------------------------- progress

PROGRESS = e.Progress(
    steps_main=50_000, steps_total=60_000, steps_budget=100_000, sparse_return=1.0, success_rate=0.25,
    stage="plateaued", signal_version=0, waiting=True,
)  # fmt: skip
EVENTS: list[e.Event] = [
    e.RunStarted(path="/runs/a", resumed=False, provider="rules", steps_budget=100_000),
    PROGRESS.model_copy(update={"steps_main": 1_000, "stage": "exploring", "waiting": False}),
    PROGRESS,
    e.NodeEntered(node="critic", point=24, round=0),
    e.Diagnosed(point=24, failures=["exploration_collapsed", "plateau"]),
    e.ProposalMade(id="p24-r0-0", title="Near [bold]the goal[/bold]", problems=[]),
    e.ProposalMade(id="p24-r0-1", title="Pay for turns", problems=["can be farmed"]),
    e.NodeEntered(node="validate", point=24, round=0),
    e.BranchFinished(
        point=24, phase="screen", arm="p24-r0-0", seed=0, horizon=100, final_return=2.5, success_rate=1.0, steps=100
    ),
    e.NodeLeft(node="validate", point=24, round=0, status="ok", detail={}),
    e.Decided(id="p24-r0", verdict="no_difference", winner=None, reason="too close"),
    e.Decided(id="p24-r1", verdict="accept", winner="p24-r0-0", reason="clear"),
    e.Promoted(proposal="p24-r0-0", version=1, adopted="state", repeated=False),
]
QUESTION = e.ApprovalNeeded(
    id="p24-r1", proposal="p24-r1-0", title="Near the door", reason="it is far", terms=["potential door: -dist_door"],
    gate="p24-r1-0: gain +1.2 over 5 seeds: accept", diff=["+ potential door: -dist_door"], replaces=2,
    adopted="signal",
)  # fmt: skip


def test_the_board_follows_the_events() -> None:
    board = progress.Board()
    told: list[tuple[str, str]] = []
    doing: list[str] = []
    for event in EVENTS:
        told += [(line.label, line.text) for line in board.apply(event)]
        doing.append(board.doing)
    assert told == [
        ("started", "/runs/a"),
        ("provider", "rules: plain rules, no language model"),
        ("stage", "exploring → plateaued"),
        ("diagnosis", "exploration collapsed, plateau"),
        ("proposal", "p24-r0-0 Near [bold]the goal[/bold]"),
        ("proposal", "p24-r0-1 Pay for turns (refused: can be farmed)"),
        ("verdict", "no difference: too close"),
        ("verdict", "accept p24-r0-0: clear"),
        ("promotion", "v1 Near [bold]the goal[/bold] (the winning branch's state)"),
    ]
    assert doing[1] == "training"
    assert doing[3] == "critic"
    assert doing[8] == "validate: 1 branches done, last p24-r0-0 2.50"


def test_the_signal_on_the_panel_is_the_one_in_force() -> None:
    """After a resume no promotion is seen, and its title is not known."""
    board = progress.Board()
    for version, words in ((0, "as the config says"), (1, "v1")):
        list(board.apply(PROGRESS.model_copy(update={"signal_version": version})))
        assert board.signal == words
    for event in EVENTS:
        list(board.apply(event))
    list(board.apply(PROGRESS.model_copy(update={"signal_version": 1})))
    assert board.signal == "v1 Near [bold]the goal[/bold]"


def test_a_question_is_shown_with_the_commands_that_answer_it() -> None:
    board = progress.Board()
    list(board.apply(e.RunStarted(path="/my runs/a", resumed=False, provider="rules", steps_budget=1)))
    list(board.apply(e.NodeEntered(node="approve", point=24, round=1)))
    assert [(line.label, line.text) for line in board.apply(QUESTION)] == [
        ("question", "p24-r1: promote p24-r1-0 Near the door?"),
        ("", "why: it is far"),
        ("", "gate: p24-r1-0: gain +1.2 over 5 seeds: accept"),
        ("", "signal: + potential door: -dist_door"),
        ("", "it would replace v2; taken over: the signal alone"),
        ("answer", "to promote it: cosignal approve '/my runs/a' p24-r1 --yes"),
        ("answer", "to decline it: cosignal approve '/my runs/a' p24-r1 --no"),
    ]
    list(board.apply(PROGRESS.model_copy(update={"waiting": False})))  # overlap: training goes on
    assert board.doing == "waiting for an answer to p24-r1"
    [line] = board.apply(e.ApprovalGiven(id="p24-r1", yes=False))
    assert (line.label, line.text) == ("answer", "p24-r1: no")
    assert board.doing == "approve"
    left = e.NodeLeft(node="approve", point=24, round=1, status="waiting", detail={})
    assert list(board.apply(left)) == []


def test_a_command_is_never_broken_into_lines() -> None:
    written = io.StringIO()
    with progress.LiveDisplay(Console(file=written, width=60, force_terminal=True)) as display:
        display.show(e.RunStarted(path="/runs/" + "a" * 80, resumed=False, provider="rules", steps_budget=1))
        display.show(QUESTION)
    assert f"cosignal approve /runs/{'a' * 80} p24-r1 --yes" in written.getvalue()


def test_a_rollback_is_told_with_its_arithmetic() -> None:
    board = progress.Board()
    for event in EVENTS:
        list(board.apply(event))
    event = e.RolledBack(proposal="p24-r0-0", undone=1, version=2, reason="0.2 after 1.0", repeated=False)
    assert [(line.label, line.text) for line in board.apply(event)] == [
        ("rollback", "v1 Near [bold]the goal[/bold] is undone by v2"),
        ("", "0.2 after 1.0"),
    ]
    list(board.apply(PROGRESS.model_copy(update={"signal_version": 2})))
    assert board.signal == "v2, as before v1"


@pytest.mark.parametrize(
    ("tracing", "ignored", "words"),
    [
        (
            False,
            ["LANGSMITH_TRACING"],
            "off, though LANGSMITH_TRACING asks for it; llm.tracing: true would send prompts out",
        ),
        (True, [], "on: prompts go to the hosted service that the environment names"),
        (False, [], None),
    ],
)
def test_the_start_says_whether_prompts_leave_the_machine(tracing: bool, ignored: list[str], words: str | None) -> None:
    started = e.RunStarted(
        path="/a", resumed=False, provider="rules", steps_budget=1, tracing=tracing, tracing_ignored=ignored
    )
    told = {line.label: line.text for line in progress.Board().apply(started)}
    assert told.get("tracing") == words


def test_under_the_overlap_clock_what_a_node_does_is_shown_while_training_goes_on() -> None:
    board = progress.Board()
    for event in (e.NodeEntered(node="critic", point=24, round=0), PROGRESS.model_copy(update={"waiting": False})):
        list(board.apply(event))
    assert board.doing == "critic"
    for event in (e.NodeEntered(node="observe", point=24, round=0), PROGRESS.model_copy(update={"waiting": False})):
        list(board.apply(event))
    assert board.doing == "training"


def test_a_new_verdict_is_told_in_words() -> None:
    decided = e.Decided(
        id="p1-r0", verdict="not_seen_before", winner=None, reason="a: not_seen_before; b: no_difference"
    )
    [line] = progress.Board().apply(decided)
    assert line.text == "not seen before: a: not seen before; b: no difference"


def test_the_last_words_of_a_run() -> None:
    status = {"state": "done", "sparse_return": -0.001, "success_rate": None, "promotions": 1, "rollbacks": 0,
              "steps_main": 1_000, "steps_total": 2_000, "wall_s": 3.4, "path": "/runs/a"}  # fmt: skip
    assert progress.ending(status) == (
        "done: sparse return 0.00, success –, 1 promotion, 1,000 main steps, 2,000 in all, 3 s\n"
        "report: /runs/a/report.html"
    )
    assert "2 promotions, 1 rollback, 1,000" in progress.ending(status | {"promotions": 2, "rollbacks": 1})


@pytest.mark.parametrize("display_class", [progress.LiveDisplay, progress.PlainDisplay])
def test_a_model_cannot_steer_the_terminal(display_class: type[progress.Display]) -> None:
    title = "Near\x1b]0;owned\x07\x9b2J\r\n 99,999  verdict    accept"
    written = io.StringIO()
    console = Console(file=written, width=200, force_terminal=display_class is progress.LiveDisplay)
    with display_class(console) as display:
        display.show(PROGRESS.model_copy(update={"signal_version": 1}))
        display.show(e.ProposalMade(id="p24-r0-0", title=title, problems=[]))
        display.show(e.Promoted(proposal="p24-r0-0", version=1, adopted="state", repeated=False))
    shown = written.getvalue()
    assert r"p24-r0-0 Near\x1b]0;owned\x07\x9b2J 99,999 verdict accept" in shown
    assert not any(bad in shown for bad in ("\x1b]0", "\x07", "\x9b"))


def test_a_node_that_fails_is_told() -> None:
    left = e.NodeLeft(node="critic", point=24, round=0, status="error", detail={"error": "boom"})
    assert [line.text for line in progress.Board().apply(left)] == ["error: {'error': 'boom'}"]


@pytest.mark.parametrize("display_class", [progress.LiveDisplay, progress.PlainDisplay])
def test_both_displays_show_what_happened(display_class: type[progress.Display]) -> None:
    """A model's words are text, not markup."""
    written = io.StringIO()
    console = Console(file=written, width=100, force_terminal=display_class is progress.LiveDisplay)
    with display_class(console) as display:
        for event in EVENTS:
            display.show(event)
    assert "Near [bold]the goal[/bold]" in written.getvalue()
    assert "exploring → plateaued" in written.getvalue()


def test_the_plain_display_tells_each_twentieth_once() -> None:
    written = io.StringIO()
    with progress.PlainDisplay(Console(file=written, width=200)) as display:
        for steps in (0, 1_000, 5_000, 9_999, 50_000, 100_000, 100_000):
            display.show(PROGRESS.model_copy(update={"steps_main": steps}))
    lines = [line.split()[0] for line in written.getvalue().splitlines()]
    assert lines == ["0", "5,000", "50,000", "100,000"]


# ---------------------------------------------------------------- a real run

SMALL = ("trainer.steps=40_960", "trainer.envs=32", "trainer.rollout=32", "adaptation.enabled=false")


def command(run_dir: Path, *more: str) -> list[str]:
    """`cosignal run` in a process whose Ctrl-C works also where ours is started in the background of a shell."""
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from cosignal.cli import app; app(prog_name='cosignal')"
    sets = [word for key in (*SMALL, f"run_dir={run_dir}") for word in ("--set", key)]
    return [sys.executable, "-c", code, "run", EXAMPLE, *sets, *more]


@pytest.mark.integration
def test_ctrl_c_stops_cleanly_and_resume_finishes(tmp_path: Path) -> None:
    with subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "progress" in line:
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate()
    assert process.returncode == 1
    assert "stopped; continue with: cosignal run" in errors
    assert errors.rstrip().endswith("--resume")
    [path] = tmp_path.iterdir()
    assert json.loads(runner.invoke(app, ["status", str(path), "--json"]).stdout)["state"] == "stopped"
    assert 'class="pill stopped"' in (path / "report.html").read_text()

    resumed = subprocess.run(command(tmp_path, "--resume", "--json"), capture_output=True, text=True, check=True)
    assert resumed.stdout.count("\n") == 1
    status = json.loads(resumed.stdout)
    assert (status["state"], status["path"], status["steps_main"]) == ("done", str(path), 40_960)
    assert "resumed" in resumed.stderr
    assert "no requests" in (path / "report.html").read_text()
