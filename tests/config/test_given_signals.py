"""Signals that a config gives: read from a file or written inline, refused with place and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cosignal.config.identity import deciding_changes
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError

pytestmark = pytest.mark.usefixtures("folder")

NEAR = {"kind": "potential", "name": "near", "expression": "-dist_goal / 17"}
GIVEN: list[dict[str, Any]] = [
    {"title": "Walk to the goal", "signal": {"beta": 0.5, "terms": [NEAR], "scale": None, "version": 7}},
    {"title": "Walk faster", "signal": {"beta": 1.0, "terms": [NEAR]}},
]


def load(*overrides: str) -> RunConfig:
    return RunConfig.load("run.yaml", overrides)


def given(content: Any = GIVEN, name: str = "given.json") -> RunConfig:
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content))
    return load(f"adaptation.signals={name}")


def test_a_file_is_read_in_its_order_and_makes_one_round_of_its_size() -> None:
    adaptation = given().adaptation
    assert [one.title for one in adaptation.signals] == ["Walk to the goal", "Walk faster"]
    assert [one.signal.beta for one in adaptation.signals] == [0.5, 1.0]
    assert (adaptation.candidates, adaptation.rounds) == (2, 1)


def test_yaml_an_inline_list_and_the_home_directory_will_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
- title: Walk to the goal
  signal: {beta: 0.5, version: 7, terms: [{kind: potential, name: near, expression: -dist_goal / 17}]}
- title: Walk faster
  signal: {beta: 1.0, terms: [{kind: potential, name: near, expression: -dist_goal / 17}]}
"""
    assert given(text, "given.yaml") == given()
    assert load(f"adaptation.signals={json.dumps(GIVEN)}") == given()
    monkeypatch.setenv("HOME", str(folder))
    assert load("adaptation.signals=~/given.json") == given()


def test_the_content_decides_which_run_it_is_and_not_the_file() -> None:
    one = given()
    Path("elsewhere").mkdir()
    assert given(name="elsewhere/other.json").config_hash() == one.config_hash() != load().config_hash()
    other = given([*GIVEN[:1], GIVEN[1] | {"title": "Run"}])
    assert [change.key for change in deciding_changes(one, other)] == ["adaptation.signals"]


def test_the_resolved_config_reads_back_as_the_same_without_the_file(folder: Path) -> None:
    config = given()
    (folder / "resolved.json").write_text(config.resolved_json())
    (folder / "given.json").unlink()
    assert RunConfig.load("resolved.json") == config


def test_no_signals_are_the_default_and_change_nothing() -> None:
    assert load("adaptation.signals=[]") == load()
    assert load().adaptation.rounds == 2


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"title": "x"}, "given.json: must be a list of 1 to 8 signals, each {title, signal}, got dict"),
        ([], "given.json: must be a list of 1 to 8 signals, each {title, signal}, got 0 of them"),
        (GIVEN * 5, "got 10 of them"),
        ([GIVEN[0] | {"title": "x" * 81}], "signals.0.title: must have at most 80 characters, got 'xxx"),
        ([{"title": "x"}], "given.json, line 1: signals.0.signal: must be given; add it"),
        (
            "- title: a\n  signal:\n    beta: 3\n",
            "given.json, line 3: signals.0.signal.beta: must be less than or equal to 2, got 3; correct it",
        ),
        ([{"title": "a", "signal": {"betta": 1}}], "signals.0.signal.betta: unknown key, got value 1; "),
        ([{"title": "a", "signal": {"terms": [{"kind": "spell"}]}}], "signals.0.signal.terms.0.kind: must be one of"),
        ("- title: a\n  signal: {beta: true}\n", "line 2: signals.0.signal.beta: must be a number, got True"),
        ("- {title: a", "given.json, line 1"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_place(content: Any, line: str) -> None:
    with pytest.raises(ConfigError) as told:
        given(content)
    assert str(told.value).startswith("--set adaptation.signals: given.json")
    assert line in str(told.value)


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("missing.json", "missing.json: a file of signals must exist here, found none; check the path"),
        (".", ".: must be a readable text file in UTF-8"),
        ("$HOME/x.json", "must be a path without variables, got '$HOME/x.json'; write what $HOME stands for"),
        ("3", "adaptation.signals: must be the path of a file or a list of signals, got 3; correct it or remove it"),
        ('[{"title": "a"}]', "adaptation.signals.0.signal: must be given; add it"),
    ],
)
def test_what_is_no_list_of_signals_is_refused_where_it_is_written(written: str, line: str) -> None:
    with pytest.raises(ConfigError) as told:
        load(f"adaptation.signals={written}")
    assert str(told.value).startswith("--set adaptation.signals")
    assert line in str(told.value)
    assert "\n" not in str(told.value)
