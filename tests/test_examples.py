"""Every shipped config loads, says what it shows, and is found by its name outside any clone."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from asking import GOOD, question
from cosignal.agents.llm.ledger import Call
from cosignal.agents.llm.models import build_models
from cosignal.agents.llm.rate_limits import CallBudget
from cosignal.cli import app
from cosignal.config.run_config import RunConfig
from cosignal.doctor import examine
from cosignal.errors import ConfigError
from cosignal.examples import FOLDER, example_names, example_path
from cosignal.testing import MisbehavingServer
from cosignal.testing.server import says
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", example_names())
def test_every_example_loads(name: str) -> None:
    config = RunConfig.load(FOLDER / f"{name}.yaml")
    assert RunConfig.model_validate_json(config.resolved_json()) == config


def test_the_examples_show_what_they_are_named_after() -> None:
    loaded = {name: RunConfig.load(FOLDER / f"{name}.yaml") for name in example_names()}
    assert set(loaded) == {
        "judged_signals",
        "local_server",
        "mixed_roles",
        "openai",
        "overlap",
        "real_model",
        "two_switch",
    }
    assert {name for name, config in loaded.items() if config.clock == "overlap"} == {"overlap"}
    assert {
        config.llm.default.provider
        for name, config in loaded.items()
        if name not in ("openai", "local_server", "real_model", "judged_signals")
    } == {"rules"}
    assert loaded["openai"].llm.default.fallback[-1].provider == "rules"
    assert loaded["local_server"].llm.default.base_url == "http://127.0.0.1:8000/v1"
    assert loaded["mixed_roles"].llm.for_role("critic") != loaded["mixed_roles"].llm.for_role("generator")


@pytest.mark.parametrize("name", example_names())
def test_the_doctor_misses_nothing_but_the_server_of_your_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a key and a listening server an example is ready to run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-key-of-nobody")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        mine = [f"llm.default.base_url={address}"] if name in ("local_server", "real_model", "judged_signals") else []
        examination = examine(name, mine, measure=lambda _: 50_000.0)
    assert [check for check in examination.checks if check.state == "problem"] == []
    assert examination.exit_code == 0


@pytest.mark.parametrize("name", ["openai", "local_server"])
async def test_the_examples_with_a_model_ask_it_as_they_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over real HTTP: model, key and settings are the file's, whatever else the environment holds."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-key-of-nobody")
    rows: list[Call] = []
    with MisbehavingServer(says(GOOD)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        mine = [f"llm.default.base_url={server.url}"] if name == "local_server" else []
        llm = RunConfig.load(FOLDER / f"{name}.yaml", mine).llm
        answered = await build_models(llm, CallBudget(llm.limits), rows.append).critic.ask(question())
    [request] = server.requests
    assert answered.parsed is not None
    assert request["model"] == llm.default.model
    assert ("sk-key-of-nobody" in str(request["key"])) == (name == "openai"), "a key is for its provider's address"
    assert [(row.outcome, row.cost_usd is None) for row in rows] == [("ok", False)]


def test_no_example_holds_a_key() -> None:
    for name in example_names():
        text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        assert "sk-" not in text
        assert "api_key:" not in text


@pytest.mark.parametrize("given", ["two_switch", "two_switch.yaml", "examples/two_switch.yaml", "examples/two_switch"])
def test_a_packaged_example_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert example_path(given) == FOLDER / "two_switch.yaml"


def test_a_file_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two_switch.yaml").write_text("seed: 3\n")
    assert example_path("two_switch.yaml") == Path("two_switch.yaml")
    assert example_path("two_switch") == FOLDER / "two_switch.yaml"


@pytest.mark.parametrize(
    "given", ["two_switches", "my/two_switch.yaml", "/two_switch.yaml", "two_switch.json", "__init__"]
)
def test_any_other_name_gets_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"local_server, mixed_roles, openai, overlap, real_model, two_switch"
    ) as caught:
        example_path(given)
    assert str(caught.value).startswith(f"{given}: a config file must exist here")


def test_the_command_says_which_file_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["run", "two_switch", "--set", "trainer.stepz=1"])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"using the packaged example {FOLDER / 'two_switch.yaml'}\n")
    assert "did you mean 'trainer.steps'?" in result.stderr
    assert "two_switch" in CliRunner().invoke(app, ["run", "two_swich"]).stderr
