"""`cosignal doctor`: each thing that can be wrong is named with its rule, its value and a remedy."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cosignal.cli import app
from cosignal.config.run_config import RunConfig
from cosignal.doctor import Check, Examination, arithmetic, examine, installation, speed
from cosignal.doctor import check as show
from cosignal.doctor import models as network
from cosignal.errors import TrainerGone
from cosignal.graphs.session.log import TRACING
from cosignal.graphs.tracing.otel import ENDPOINTS
from cosignal.rl.training.config import TrainingConfig
from packaging.requirements import Requirement
from rich.console import Console
from typer.testing import CliRunner

runner = CliRunner()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No keys, proxies or tracing of whoever runs the tests; four cores; run directories in a folder of the test."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "LANGSMITH_ENDPOINT", *TRACING, *ENDPOINTS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(network, "getproxies", dict)
    monkeypatch.setattr(installation, "cores", lambda: 4)
    monkeypatch.setattr(arithmetic, "cores", lambda: 4)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def looked_at(*overrides: str, online: bool = False, rate: float = 50_000.0) -> Examination:
    return examine("two_switch", overrides, online=online, measure=lambda _: rate)


def found(examination: Examination, name: str) -> list[Check]:
    return [check for check in examination.checks if check.name == name]


def one(examination: Examination, name: str) -> Check:
    [check] = found(examination, name)
    return check


# ---------------------------------------------------------------- spans


def test_spans_are_off_whatever_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(looked_at(), "otel") == Check("otel", "ok", "off: no spans are sent")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert one(looked_at(), "otel").message.endswith("OTEL_EXPORTER_OTLP_ENDPOINT is ignored")


def test_a_collector_is_connected_to_and_one_that_is_away_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    port = server.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    there = one(looked_at("otel.enabled=true"), "otel")
    assert (there.state, there.message.split(" ")[0]) == ("ok", f"127.0.0.1:{port}")
    server.close()
    assert one(looked_at("otel.enabled=true"), "otel").state == "warning"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert one(looked_at("otel.enabled=true"), "otel").state == "problem"


# ---------------------------------------------------------------- as a whole


def test_the_packaged_example_is_healthy() -> None:
    examination = looked_at()
    assert [check for check in examination.checks if check.state != "ok"] == []
    assert (examination.ok, examination.exit_code) == (True, 0)
    names = [check.name for check in examination.checks]
    assert {"python", "packages", "sockets", "config", "run_dir", "cores", "network", "task", "signal"} <= set(names)
    assert list(Path.cwd().iterdir()) == [], "looking leaves nothing behind"


def test_whatever_is_not_ok_has_a_remedy() -> None:
    examination = looked_at(
        "clock=overlap", "branches.workers=9", "llm.default={provider: openai}", "run_dir=/etc/hostname"
    )
    assert {check.state for check in examination.checks} == {"ok", "warning", "problem"}
    assert all((check.remedy is None) == (check.state == "ok") for check in examination.checks)
    assert examination.exit_code == 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trainer.stepz=1"], "trainer.stepz: unknown key"),
        (["trainer.steps=400_000", "adaptation.patience=100_000"], "must afford at least one intervention"),
        (["gate.looks=[1]"], "gate.looks: must be increasing"),
    ],
)
def test_a_config_that_run_refuses_is_a_problem_in_the_same_words(overrides: list[str], words: str) -> None:
    examination = looked_at(*overrides)
    assert words in one(examination, "config").message
    assert (examination.exit_code, examination.arithmetic) == (2, {})


def test_a_config_that_is_not_there() -> None:
    assert "two_switch" in str(one(examine("two_swich"), "config").remedy)


# ---------------------------------------------------------------- installation


def test_a_package_that_is_missing_or_old_is_named() -> None:
    requirements = [Requirement(text) for text in ("no-such-package>=1", "pydantic<2", 'x; extra == "dev"', "rich")]
    missing, old = installation._check_packages(requirements)
    assert (missing.state, missing.name, missing.message) == (
        "problem", "package no-such-package", "must be >=1, got none"
    )  # fmt: skip
    assert missing.remedy == "pip install 'no-such-package>=1'"
    assert old.message.startswith("must be <2, got 2.")


def test_an_old_python_is_a_problem() -> None:
    assert installation._check_python(">=3.99").state == "problem"
    assert installation._check_python(">=3.11").state == "ok"


def test_a_run_dir_that_cannot_be_written(tmp_path: Path) -> None:
    assert one(looked_at("run_dir=/etc/hostname"), "run_dir").state == "problem"
    assert one(looked_at(f"run_dir={tmp_path}/new/er"), "run_dir").state == "ok"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("free_mib", "state"), [(5_000, "ok"), (500, "warning"), (5, "problem")])
def test_little_disk_space(monkeypatch: pytest.MonkeyPatch, free_mib: int, state: str) -> None:
    monkeypatch.setattr(installation.shutil, "disk_usage", lambda _: SimpleNamespace(free=free_mib * 2**20))
    assert one(looked_at(), "run_dir").state == state


def test_more_processes_than_cores() -> None:
    assert one(looked_at("branches.workers=4"), "cores").state == "ok"
    assert one(looked_at("branches.workers=5"), "cores").remedy == "set branches.workers=4"
    beside = one(looked_at("branches.workers=4", "clock=overlap"), "cores")
    assert (beside.state, beside.remedy) == ("warning", "set branches.workers=3")


# ---------------------------------------------------------------- models


def test_a_missing_key_is_named_once_for_all_roles_and_its_value_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    model = "llm.default={provider: openai, model: m, api_key_env: MY_SECRET, price: {input: 1, output: 2}}"
    monkeypatch.delenv("MY_SECRET", raising=False)
    missing = one(looked_at(model), "llm.critic, generator, ranker")
    assert missing.state == "problem"
    assert "'MY_SECRET'" in missing.message
    monkeypatch.setenv("MY_SECRET", "sk-do-not-show")
    examination = looked_at(model)
    assert one(examination, "llm.critic, generator, ranker").message.startswith("openai m, key from MY_SECRET")
    assert examination.ok
    assert "sk-do-not-show" not in json.dumps(examination.as_dict())


def test_a_package_that_is_not_installed_and_a_model_that_is_not_named() -> None:
    check = one(looked_at("llm.critic={provider: mistralai, model: m}"), "llm.critic")
    assert (check.state, check.remedy) == ("problem", "install it with: pip install langchain-mistralai")
    assert one(looked_at("llm.critic={provider: openai}"), "llm.critic").state == "problem"


def test_an_unknown_price_is_a_warning(monkeypatch: pytest.MonkeyPatch, server: socket.socket) -> None:
    url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    unknown = one(looked_at(f"llm.critic={{provider: openai, model: mine, base_url: '{url}'}}"), "llm.price")
    assert (unknown.state, "unknown for critic: llm.limits.usd 5 cannot hold" in unknown.message) == ("warning", True)
    priced = f"llm.critic={{provider: openai, model: mine, base_url: '{url}', price: {{input: 0, output: 0}}}}"
    assert one(looked_at(priced), "llm.price").state == "ok"
    assert found(looked_at(), "llm.price") == [], "the embedded rules cost nothing"


def test_a_broken_prompt_template_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("no front matter")
    check = one(looked_at("llm.prompts.ranker=mine.md"), "llm.ranker")
    assert check.state == "problem"
    assert "mine.md" in check.message


def test_hosted_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(looked_at(), "llm.tracing").message == "off: prompts go to the models alone"
    on = one(looked_at("llm.tracing=true"), "llm.tracing")
    assert (on.state, "sent to https://api.smith.langchain.com" in on.message) == ("warning", True)
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGSMITH_ENDPOINT", "http://127.0.0.1:9")
    assert one(looked_at(), "llm.tracing").message == "off: LANGSMITH_TRACING is ignored"
    assert "sent to http://127.0.0.1:9" in one(looked_at("llm.tracing=true"), "llm.tracing").message


def test_without_adaptation_no_model_is_looked_at() -> None:
    examination = looked_at("adaptation.enabled=false", "llm.default={provider: openai}")
    assert examination.ok
    assert "no model is asked" in one(examination, "llm").message
    assert examination.arithmetic == {"steps_per_s": 50_000, "main_s": 30.0}


# ---------------------------------------------------------------- network


def at(url: str, *more: str) -> str:
    return f"{{provider: openai, model: m, base_url: '{url}', price: {{input: 0, output: 0}}{''.join(more)}}}"


def test_a_server_that_listens_is_connected_to_and_told_nothing(server: socket.socket) -> None:
    url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    examination = looked_at(f"llm.default={at(url)}")
    assert examination.ok
    assert "answers" in one(examination, "network").message
    server.settimeout(5)
    connection, _ = server.accept()
    with connection:
        assert connection.recv(100) == b"", "a byte was sent"
    server.settimeout(0.01)
    with pytest.raises(TimeoutError):
        server.accept()  # three roles, one connection


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return int(gone.getsockname()[1])


def test_a_server_that_does_not_answer_is_a_problem_and_as_a_fallback_a_warning() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    check = one(looked_at(f"llm.default={at(url)}"), "network")
    assert (check.state, url in check.message, "refused" in check.message) == ("problem", True, True)
    fallback = f"llm.critic={{provider: rules, fallback: [{at(url)}]}}"
    assert one(looked_at(fallback), "network").state == "warning"


def test_only_online_tries_a_hosted_provider(monkeypatch: pytest.MonkeyPatch, server: socket.socket) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    asked: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        asked.append(address)
        return socket.create_connection(server.getsockname(), timeout)

    monkeypatch.setattr(network, "socket", SimpleNamespace(create_connection=connect))
    model = "llm.default={provider: openai, model: m}"
    assert "nobody was contacted; --online tries" in one(looked_at(model), "network").message
    assert asked == []
    assert one(looked_at(model, online=True), "network").state == "ok"
    assert asked == [("api.openai.com", 443)]
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.test:8443/v1")
    looked_at(model, online=True)
    assert asked[1:] == [("elsewhere.test", 8443)]


def test_a_proxy_of_the_environment_is_what_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    host, port = server.getsockname()
    monkeypatch.setattr(network, "getproxies", lambda: {"https": f"http://{host}:{port}"})
    monkeypatch.setattr(network, "proxy_bypass", lambda name: name == "inside.test")
    check = one(looked_at(f"llm.default={at('https://models.test/v1')}"), "network")
    assert (check.state, "(a proxy)" in check.message) == ("ok", True)
    assert network._route("https://inside.test") == ("inside.test", 443, "")


# ---------------------------------------------------------------- task and signal


def test_the_task_is_told_as_it_was_understood() -> None:
    examination = looked_at("task.n_max=50")
    assert "two_switch: 2 agents in 1 group, at most 50 steps" in one(examination, "task").message
    group = one(examination, "task.agents").message
    assert "green, orange: observe 20 numbers, 5 actions (stay, " in group
    assert "dist_goal [0, 16]" in group
    assert "events switch_triggered, goal_reached" in group
    assert one(examination, "task.return_range").message == "episode return from -1 to 4"


def test_an_environment_that_says_little_about_itself_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random observations, no declared features, no return range; what it prints does not get into the result."""
    (tmp_path / "silent_env.py").write_text(SILENT)
    examination = looked_at("task={env: 'silent_env:SilentEnv', n_max: 5}")
    assert "feature_specs" in str(one(examination, "task.agents").remedy)
    assert one(examination, "task.return_range").state == "warning"
    assert "no success test" in one(examination, "task").message
    assert one(examination, "task.deterministic").state == "warning"
    assert examination.arithmetic["margin"] is None
    assert examination.ok
    assert capsys.readouterr().out == ""


SILENT = """
import random, numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

class SilentEnv(ParallelEnv):
    metadata = {"name": "silent"}
    possible_agents = ["a", "b"]
    def observation_space(self, agent): return Box(0, 1, (14,))
    def action_space(self, agent): return Discrete(2)
    def reset(self, seed=None, options=None):
        print("what an environment prints")
        self.agents = list(self.possible_agents)
        return self._seen(), {a: {} for a in self.agents}
    def step(self, actions):
        no = dict.fromkeys(self.agents, False)
        return self._seen(), dict.fromkeys(self.agents, 0.0), no, no, {a: {} for a in self.agents}
    def _seen(self): return {a: np.full(14, random.random(), np.float32) for a in self.agents}
"""


def test_a_task_that_cannot_be_built_and_a_signal_that_does_not_fit() -> None:
    examination = looked_at("task={env: 'no_such_module:env'}")
    assert one(examination, "task").state == "problem"
    assert found(examination, "speed") == []
    term = "signal.terms=[{name: a, kind: potential, expression: dist_gaol}]"
    assert "did you mean 'dist_goal'?" in str(one(looked_at(term), "signal.terms"))


# ---------------------------------------------------------------- arithmetic


def test_the_arithmetic_by_hand() -> None:
    """Screen: 5 arms × 2 seeds × 100 000. At 4 seeds: 2 arms × (2 × 100 000 + 2 × 200 000). Share ¾: 3 × main steps."""
    sums = looked_at().arithmetic
    assert (sums["steps_screen"], sums["steps_intervention"]) == (1_000_000, 2_200_000)
    assert [look["steps_full"] for look in sums["looks"]] == [1_200_000, 2_000_000]
    assert (sums["steps_branches"], sums["interventions"], sums["interventions_short"]) == (4_500_000, 2, 8)
    assert sums["interventions_by_patience"] == 4
    assert sums["margin"] == pytest.approx(0.02 * 5)
    assert [look["level"] for look in sums["looks"]] == pytest.approx([0.01, 0.015])
    # 1 + t(0.99, 3 degrees) · 0.5 / √4 with t = 4.541
    assert sums["looks"][0]["least_gain_margins"] == pytest.approx(1 + 4.541 / 4, abs=0.01)
    # 1.5 M steps at 50 000 a second; 2.2 M on two workers
    assert (sums["main_s"], sums["intervention_s"]) == (30.0, 22.0)


def test_a_look_that_decides_nothing_and_a_single_intervention_are_warnings() -> None:
    examination = looked_at("gate.looks=[2, 8]", "trainer.steps=1_600_000")
    look = one(examination, "gate.look 2 seeds")
    assert (look.state, "only continues" in look.message) == ("warning", True)
    assert examination.arithmetic["looks"][0]["least_gain_margins"] is None
    single = looked_at("trainer.steps=1_000_000")
    assert (single.arithmetic["interventions"], one(single, "interventions").state) == (1, "warning")


@pytest.mark.parametrize(
    ("more", "state", "words"),
    [
        (["adaptation.max_staleness=1_100_000"], "ok", "about 1,100,000 steps while 2 workers try"),
        (["adaptation.max_staleness=1_099_999"], "warning", "confirmed once more"),
        (
            ["branches.workers=4", "adaptation.max_staleness=700_000"],
            "warning",
            "about 733,333 steps while 3 workers try",
        ),  # the trainer has the fourth core
        (["branches.workers=1"], "warning", "it ends before the first verdict"),
        (["branches.workers=3", "branches.horizon=50_000"], "ok", "about 183,333 steps"),
    ],
)
def test_how_far_the_run_moves_on_under_the_overlap_clock(more: list[str], state: str, words: str) -> None:
    check = one(looked_at("clock=overlap", *more), "overlap")
    assert (check.state, words in check.message) == (state, True)


# ---------------------------------------------------------------- speed


def test_speed_is_measured_in_a_process_without_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> SimpleNamespace:
        seen.update(options, command=command)
        return SimpleNamespace(stdout='{"steps_per_s": 7.5}')

    monkeypatch.setattr(speed.subprocess, "run", run)
    monkeypatch.setenv("MY_SECRET", "sk-x")
    assert speed.steps_per_second(RunConfig().training(), ["MY_SECRET"]) == 7.5
    assert "MY_SECRET" not in seen["env"]
    assert seen["env"]["OMP_NUM_THREADS"] == "1"
    assert TrainingConfig.model_validate_json(seen["input"]) == RunConfig().training()


def test_a_training_that_dies_is_a_problem_with_its_last_words() -> None:
    def die(_: RunConfig) -> float:
        raise TrainerGone("training must work, got exit status 1: boom; mend what it names")

    check = one(examine(None, measure=die), "speed")
    assert (check.state, "boom" in check.message, check.remedy) == ("problem", True, "mend what it names")


@pytest.mark.integration
def test_the_measurement_itself_also_of_a_task_that_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "silent_env.py").write_text(SILENT)
    (tmp_path / "bad_env.py").write_text(SILENT.replace("self.agents = list", "raise OSError('boom') #"))
    small = {"trainer": {"envs": 2, "rollout": 8}, "adaptation": {"enabled": False}}
    config = RunConfig.model_validate({**small, "task": {"env": "silent_env:SilentEnv", "n_max": 5}})
    assert speed.steps_per_second(config.training()) > 0
    with pytest.raises(TrainerGone, match="boom"):
        speed.steps_per_second(config.training().model_copy(update={"task": bad()}))


def bad() -> Any:
    return RunConfig.model_validate({"task": {"env": "bad_env:SilentEnv"}}).task


# ---------------------------------------------------------------- telling

TOLD = Examination(
    [Check("a", "ok", "fine"), Check("b", "problem", "must [bold]not\x1b[2J\nbe", "mend it")], {"interventions": 2}
)


def shown(terminal: bool) -> str:
    written = io.StringIO()
    show.show(TOLD, Console(file=written, width=60, force_terminal=terminal, color_system="standard"))
    return written.getvalue()


def test_piped_it_is_a_line_a_check_and_what_others_say_cannot_steer_the_terminal() -> None:
    assert shown(terminal=False).splitlines() == [
        "ok       a: fine",
        r"problem  b: must [bold]not\x1b[2J be → mend it",
        "1 problem, no warnings",
    ]
    on_terminal = shown(terminal=True)
    assert "\x1b[2J" not in on_terminal
    assert "→ mend it" in on_terminal
    assert "\x1b[1;31mproblem" in on_terminal


def test_the_command_prints_one_json_object_and_exits_with_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosignal.doctor._measured", lambda _: 50_000.0)
    for arguments, code in (
        (["two_switch"], 0),
        (["two_switch", "--set", "task={env: 'no_such_module:env'}"], 1),
        (["no_such_config"], 2),
    ):
        result = runner.invoke(app, ["doctor", *arguments, "--json"])
        assert (result.exit_code, result.stdout.count("\n")) == (code, 1)
        told = json.loads(result.stdout)
        assert told["ok"] == (code == 0)
        assert {"name", "state", "message", "remedy"} == set(told["checks"][0])
    assert "no problems" in runner.invoke(app, ["doctor"]).stdout


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ([], "warning"),  # 400 requests and 1,800,000 tokens a group; the default limits are 200 and 500,000
        (["preferences.pairs=100"], "ok"),
        (["preferences.pairs=400", "preferences.rounds=1"], "ok"),
        (["llm.limits.calls=1000", "llm.limits.tokens=10_000_000"], "ok"),
        (["llm.limits.calls=1000", "llm.limits.tokens=10_000_000", "preferences.queries=16"], "warning"),
    ],
)
def test_what_ranking_asks_of_a_model_is_compared_with_its_limits(more: list[str], state: str) -> None:
    check = one(looked_at("preferences.ranker=model", *more), "preferences")
    assert check.state == state
    assert "rounds for each group of agents" in check.message
    assert not [c for c in looked_at(*more).checks if c.name == "preferences"]
