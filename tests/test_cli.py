"""The command line: what it prints, what it exits with, what it says about bad input."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from cosignal.cli import app, loop_topology, resume_command
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError
from cosignal.runs.graph_picture import graph_png
from made_up_run import waits_for
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = str(ROOT / "examples" / "two_switch.yaml")
STATUS_KEYS = {
    "path", "state", "seed", "provider", "stage", "steps_main", "steps_total", "steps_budget", "signal_version",
    "proposals", "validated", "promotions", "rollbacks", "llm_calls", "sparse_return", "success_rate", "wall_s",
    "error", "waiting_for", "episodes_lost",
}  # fmt: skip

runner = CliRunner()


def test_help_names_the_commands_and_loads_nothing_heavy() -> None:
    code = "import sys; from cosignal.cli import app; app(['--help'], standalone_mode=False); "
    code += "print([m for m in ('torch', 'langgraph', 'langchain_core', 'numba', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    commands = ("run", "status", "approve", "export", "signals", "graph", "study")
    assert all(command in done.stdout for command in commands)
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
        (["export", "/nowhere"], "cosignal: '/nowhere' is not a run directory"),
        (["run", "/nowhere.yaml"], "cosignal: /nowhere.yaml: a config file must exist here"),
        (["run", EXAMPLE, "--set", "trainer.stepz=1"], "did you mean 'trainer.steps'?"),
        (["run", EXAMPLE, "--set", "trainer.envs=many"], "trainer.envs: must be a valid integer, got 'many'"),
        (["run", EXAMPLE, "--set", "task={env: 'no_such.module:env'}"], "got 'no_such.module:env'"),
        (
            ["run", EXAMPLE, "--set", "signal.terms=[{name: a, kind: potential, expression: dist_gaol}]"],
            "did you mean 'dist_goal'?",
        ),
        (["run", EXAMPLE, "--set", "seed=2020-99-99"], "--set seed: must be a valid integer, got '2020-99-99'"),
        (["run", EXAMPLE, "--set", "trainer.ippo.hidden=[-5]"], "trainer.ippo.hidden.0: must be greater than or equal"),
        (["study", "no-such-study"], "got 'no-such-study'"),
        (["graph", "--output", "/no/such/folder/graph.html"], "--output: must be a file that can be written"),
        (["graph", "--format", "png", "--output", "/"], "--output: must be a file that can be written"),
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

    monkeypatch.setattr("cosignal.graphs.session.checks.check_models", refuse)
    result = runner.invoke(app, ["run", EXAMPLE, "--set", f"run_dir={tmp_path}"])
    assert result.exit_code == 2
    assert result.stderr == "cosignal: llm provider 'x': first second\\x1b[2J\n"


def test_the_command_that_resumes_can_be_pasted() -> None:
    command = resume_command(Path("my runs/a.yaml"), ["seed=2", "task={env: 'a:b'}"])
    assert shlex.split(command) == [
        "cosignal", "run", "my runs/a.yaml", "--set", "seed=2", "--set", "task={env: 'a:b'}", "--resume"
    ]  # fmt: skip


# ---------------------------------------------------------------- which run is resumed


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunConfig, bool | Path]]:
    """What `start` is called with; it starts nothing."""
    calls: list[tuple[RunConfig, bool | Path]] = []

    def start(config: RunConfig, resume: bool | Path = False) -> None:
        calls.append((config, resume))
        raise ConfigError("enough")

    monkeypatch.setattr("cosignal.graphs.session.run.start", start)
    return calls


def test_resume_takes_a_config_a_run_or_both_in_any_order(
    finished_run: Path, started: list[tuple[RunConfig, bool | Path]]
) -> None:
    run, sets = str(finished_run), ["--set", "trainer.steps=9_000_000"]
    for words in (
        ["run", EXAMPLE, "--resume"], ["run", "--resume", EXAMPLE], ["run", EXAMPLE],
        ["run", EXAMPLE, "--resume", run], ["run", "--resume", run, EXAMPLE], ["run", EXAMPLE, run, "--resume"],
        ["run", "--resume", run, *sets], ["run", run, "--resume"],
    ):  # fmt: skip
        assert runner.invoke(app, words).stderr == "cosignal: enough\n"
    assert [resume for _, resume in started] == [True, True, False, *[finished_run] * 5]
    example, own = RunConfig.load(EXAMPLE), RunConfig.load(finished_run / "config.json")
    assert [config.config_hash() for config, _ in started] == [example.config_hash()] * 6 + [own.config_hash()] * 2
    assert started[6][0].trainer.steps == 9_000_000


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run"], "name a config, or with --resume a run directory"),
        (["run", "--resume"], "name a config, or with --resume a run directory"),
        (["run", EXAMPLE, "somewhere"], "a run directory goes with --resume"),
        (["run", EXAMPLE, "--resume", "/nowhere"], "'/nowhere' must be a run directory"),
        (["run", "--resume", "/tmp"], "'/tmp' is not a run directory"),
        (["run", "--resume", "/nowhere"], "/nowhere: a config file must exist here"),
    ],
)
def test_what_cannot_be_resumed_is_bad_usage(words: list[str], line: str) -> None:
    result = runner.invoke(app, words, terminal_width=200)
    assert (result.exit_code, result.stdout) == (2, "")
    assert line in result.stderr


def test_a_run_of_another_config_is_refused_with_what_differs(finished_run: Path) -> None:
    result = runner.invoke(app, ["run", EXAMPLE, "--resume", str(finished_run), "--set", "seed=77"])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "differs in" in result.stderr
    assert "77 here)" in result.stderr


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("task", {"name": None, "env": "subprocess:getoutput"}, "task.env"),
        ("llm", {"default": {"provider": "openai", "model": "x", "base_url": "http://evil/v1"}}, "http://evil/v1"),
    ],
)
def test_a_strangers_run_directory_starts_nothing_that_the_caller_has_not_named(
    finished_run: Path,
    started: list[tuple[RunConfig, bool | Path]],
    section: str,
    change: dict[str, object],
    named: str,
) -> None:
    config = json.loads((finished_run / "config.json").read_text())
    config[section] |= change
    (finished_run / "config.json").write_text(json.dumps(config))
    result = runner.invoke(app, ["run", "--resume", str(finished_run)])
    assert (result.exit_code, started, result.stderr.count("\n")) == (2, [], 1)
    assert named in result.stderr
    own = [f"--set={section}.{key}={json.dumps(value)}" for key, value in change.items()]
    assert runner.invoke(app, ["run", "--resume", str(finished_run), *own]).stderr == "cosignal: enough\n"


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
    return waits_for(finished_run, "p80-r1")


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


def test_who_declines_may_say_why_and_the_first_reason_stays(waiting_run: Path) -> None:
    decline = ["approve", str(waiting_run), "p80-r1", "--no", "--because"]
    told = [runner.invoke(app, [*decline, text]) for text in ("too\nslow \x1b[2J", "too fast")]
    assert [(result.exit_code, result.stdout) for result in told] == [
        (0, "p80-r1: decline it, because: too slow [2J\n"),
        (0, "p80-r1: decline it, as it was answered before, because: too slow [2J\n"),
    ]
    assert json.loads((waiting_run / "approvals" / "p80-r1.json").read_text())["because"] == "too slow [2J"


def test_a_reason_that_is_too_long_is_cut_and_that_is_told(waiting_run: Path) -> None:
    result = runner.invoke(app, ["approve", str(waiting_run), "p80-r1", "--no", "--because", "x" * 900])
    assert result.exit_code == 0
    assert result.stdout.endswith("x … (cut, 900 characters)\n")


@pytest.mark.parametrize("option", [["--yes"], []])
def test_a_reason_goes_with_a_refusal_alone(waiting_run: Path, option: list[str]) -> None:
    result = runner.invoke(app, ["approve", str(waiting_run), "p80-r1", *option, "--because", "nice"])
    assert result.exit_code == 2
    assert ("must go with the answer 'no'" if option else "--because goes with --no") in result.stderr
    assert not (waiting_run / "approvals").exists()


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


# ---------------------------------------------------------------- signals


def test_signals_of_a_folder_of_runs_are_listed_and_written(finished_run: Path, tmp_path: Path) -> None:
    """In a process of its own; a folder that is no run, or a broken one, hides no other."""
    folder = tmp_path / "runs"
    shutil.copytree(finished_run, folder / "whole")
    shutil.copytree(finished_run, folder / "broken")
    (folder / "broken" / "config.json").write_text("{")
    (folder / "notes").mkdir()
    command = [sys.executable, "-m", "cosignal", "signals", str(folder), "--out", str(tmp_path / "good.json")]
    plain, as_json = (subprocess.run([*command, *more], capture_output=True, text=True) for more in ([], ["--json"]))
    assert (plain.returncode, as_json.returncode) == (0, 0), plain.stderr
    assert plain.stdout.splitlines()[1].startswith("the signal  +1.8")
    assert "left out: " in plain.stderr and "wrote 1 signal to " in plain.stderr
    told = json.loads(as_json.stdout)
    assert [row["origin"]["run"] for row in told["signals"]] == ["whole"]
    assert list(told["unreadable"]) == [str(folder / "broken")]
    assert json.loads((tmp_path / "good.json").read_text()) == told["signals"]
    # The made-up run has the task's own time limit, which the example writes out.
    config = RunConfig.load(EXAMPLE, ["task.n_max=null", f"adaptation.library=[{tmp_path / 'good.json'}]"])
    assert len(config.adaptation.library) == 1


def test_where_no_signal_was_proven_the_list_says_so(finished_run: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(finished_run / "loop.db")) as database, database:
        database.execute("DELETE FROM decisions")
    result = runner.invoke(app, ["signals", str(finished_run)])
    assert (result.exit_code, result.stdout.startswith("no signal was put in force after a proof")) == (0, True)
    result = runner.invoke(app, ["signals", str(finished_run), "--out", str(tmp_path / "none.json")])
    assert (result.exit_code, (tmp_path / "none.json").exists()) == (2, False)


def test_signals_of_what_is_no_run_get_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        result = runner.invoke(app, ["signals", str(path)])
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "there must be a run in" in result.stderr


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


def test_the_graph_as_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "graph.png"
    result = runner.invoke(app, ["graph", "--format", "png", "--output", str(path)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert path.read_bytes() == graph_png(loop_topology())
    assert runner.invoke(app, ["graph", "--format", "png"]).stdout_bytes == path.read_bytes()


def test_a_picture_is_not_written_to_a_terminal() -> None:
    leader, follower = os.openpty()
    command = [sys.executable, "-m", "cosignal", "graph", "--format", "png"]
    done = subprocess.run(command, stdout=follower, stderr=subprocess.PIPE, text=True, cwd="/")
    os.close(follower)
    os.close(leader)
    assert done.returncode == 2
    assert done.stderr.endswith("add --output graph.png\n")


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


@pytest.mark.filterwarnings("default")
def test_a_key_that_is_gone_is_one_line_of_warning(tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    old.write_text("branches: {recorded_screen: true, workers: 0}\n")
    warned, problem = runner.invoke(app, ["run", str(old)]).stderr.strip().splitlines()
    assert warned.startswith("cosignal: warning: branches.recorded_screen: this key is gone")
    assert "branches.workers" in problem
