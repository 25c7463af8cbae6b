"""Every shipped config loads, says what it shows, and is found by its name outside any clone."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosignal.cli import app
from cosignal.config import RunConfig
from cosignal.errors import ConfigError
from cosignal.examples import FOLDER, example_names, example_path
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", example_names())
def test_every_example_loads(name: str) -> None:
    config = RunConfig.load(FOLDER / f"{name}.yaml")
    assert RunConfig.model_validate_json(config.resolved_json()) == config


def test_the_examples_show_what_they_are_named_after() -> None:
    loaded = {name: RunConfig.load(FOLDER / f"{name}.yaml") for name in example_names()}
    assert set(loaded) == {"local_server", "mixed_roles", "openai", "overlap", "two_switch"}
    assert {name for name, config in loaded.items() if config.clock == "overlap"} == {"overlap"}
    assert {
        config.llm.default.provider for name, config in loaded.items() if name not in ("openai", "local_server")
    } == {"rules"}
    assert loaded["openai"].llm.default.fallback[-1].provider == "rules"
    assert loaded["local_server"].llm.default.base_url == "http://127.0.0.1:8000/v1"
    assert loaded["mixed_roles"].llm.for_role("critic") != loaded["mixed_roles"].llm.for_role("generator")


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
    with pytest.raises(ConfigError, match=r"local_server, mixed_roles, openai, overlap, two_switch") as caught:
        example_path(given)
    assert str(caught.value).startswith(f"{given}: a config file must exist here")


def test_the_command_says_which_file_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["run", "two_switch", "--set", "trainer.stepz=1"])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"using the packaged example {FOLDER / 'two_switch.yaml'}\n")
    assert "did you mean 'trainer.steps'?" in result.stderr
    assert "two_switch" in CliRunner().invoke(app, ["run", "two_swich"]).stderr
