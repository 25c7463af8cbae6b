"""A library of signals for the Generator: read from files or inline, of this task unless the config says otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cosignal.config.given_signals import MAX_LIBRARY
from cosignal.config.identity import task_identity
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError

pytestmark = pytest.mark.usefixtures("folder")

NEAR = {"kind": "potential", "name": "near", "expression": "-dist_goal / 17"}
ORIGIN = {
    "version": 1, "task": "two_switch", "task_digest": task_identity(RunConfig().task).digest, "run": "two_switch-s1",
    "seed": 1, "proposal": "p80-r0-0", "claim": "policy", "gain": 0.8, "over_kick": 0.5, "steps": 245_760,
}  # fmt: skip


def entry(title: str = "Walk", **origin: Any) -> dict[str, Any]:
    return {"title": title, "signal": {"terms": [NEAR]}, "origin": ORIGIN | origin}


def bare(title: str = "Walk") -> dict[str, Any]:
    return {"title": title, "signal": {"terms": [NEAR]}}


def load(*overrides: str) -> RunConfig:
    return RunConfig.load("run.yaml", overrides)


def with_library(*entries: Any, more: tuple[str, ...] = ()) -> RunConfig:
    Path("good.json").write_text(json.dumps(entries))
    return load("adaptation.library=[good.json]", *more)


def test_files_and_signals_are_taken_in_their_order_and_nobody_is_asked_less() -> None:
    Path("one.json").write_text(json.dumps([entry("a"), entry("b")]))
    inline = json.dumps(entry("c"))
    Path("two.yaml").write_text(f"- {json.dumps(entry('d'))}\n")
    adaptation = load(f"adaptation.library=[one.json, {inline}, two.yaml]").adaptation
    assert [one.title for one in adaptation.library] == ["a", "b", "c", "d"]
    assert (adaptation.candidates, adaptation.rounds, adaptation.signals) == (4, 2, ())
    origin = adaptation.library[0].origin
    assert origin is not None and (origin.claim, origin.gain, origin.over_kick) == ("policy", 0.8, 0.5)


def test_the_content_decides_which_run_it_is_and_the_file_is_not_needed_again(folder: Path) -> None:
    config = with_library(entry())
    (folder / "resolved.json").write_text(config.resolved_json())
    (folder / "good.json").rename(folder / "other.json")
    assert RunConfig.load("resolved.json") == config
    assert load("adaptation.library=[other.json]").config_hash() == config.config_hash() != load().config_hash()
    assert with_library(entry(gain=0.9)).config_hash() != config.config_hash()


def test_one_form_of_file_serves_both_keys() -> None:
    Path("good.json").write_text(json.dumps([entry("a"), entry("b")]))
    assert [one.title for one in load("adaptation.signals=good.json").adaptation.signals] == ["a", "b"]


def test_a_signal_without_an_origin_is_written_as_before() -> None:
    Path("given.json").write_text(json.dumps([bare()]))
    [given] = load("adaptation.signals=given.json").model_dump(mode="json")["adaptation"]["signals"]
    assert given.keys() == {"title", "signal"}


@pytest.mark.parametrize(
    ("entries", "got"),
    [
        ([entry("W", task="relay")], "got 'W' of 'relay'; leave them out"),
        ([entry("W", task_digest="0" * 16)], "got 'W' of 'two_switch' with other settings; leave them out"),
        ([entry(), bare("W")], "got 'W' of no named task; leave them out"),
        ([entry("W", task="relay"), entry(), bare(), bare()], "got 'W' of 'relay' and 2 more; leave them out"),
    ],
)
def test_signals_of_other_tasks_are_refused_unless_the_config_says_so(entries: list[Any], got: str) -> None:
    with pytest.raises(ConfigError) as told:
        with_library(*entries)
    assert "adaptation.library: must hold signals of this task, 'two_switch', " + got in str(told.value)
    assert "set adaptation.library_of_other_tasks to true" in str(told.value)
    config = with_library(*entries, more=("adaptation.library_of_other_tasks=true",))
    assert len(config.adaptation.library) == len(entries)


def test_the_same_task_with_other_settings_of_this_run_is_another_one() -> None:
    with pytest.raises(ConfigError, match="of 'two_switch' with other settings"):
        with_library(entry(), more=("task={name: two_switch, n_max: 50}",))
    with_library(entry(), more=("trainer.envs=32", "seed=9"))


def test_it_does_not_go_with_signals_for_which_nobody_is_asked() -> None:
    given = json.dumps([bare()])
    with pytest.raises(ConfigError, match="adaptation.library: must not go with adaptation.signals"):
        with_library(entry(), more=(f"adaptation.signals={given}",))


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("good.json", "adaptation.library: must be a list of files or of signals, got 'good.json'; write [good.json]"),
        ("[missing.json]", "missing.json: a file of signals must exist here, found none; check the path"),
        (
            "[large.json]",
            f"large.json: must be a list of 1 to {MAX_LIBRARY} signals, each {{title, signal}}, got 65 of",
        ),
        ("[half.json, half.json]", f"adaptation.library: must have at most {MAX_LIBRARY} items"),
        ("[bad.json]", "bad.json, line 1: signals.0.origin.claim: must be 'policy' or 'signal', got 'gospel'"),
        ("[later.json]", "signals.0.origin.version: must be 1, got 2"),
        ("[3]", "adaptation.library.0: must hold keys and values, got 3"),
    ],
)
def test_what_is_no_library_is_refused_with_place_rule_and_value(written: str, line: str) -> None:
    files = {
        "large": [entry()] * 65,
        "half": [entry()] * 33,
        "bad": [entry(claim="gospel")],
        "later": [entry(version=2)],
    }
    for name, content in files.items():
        Path(f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError) as told:
        load(f"adaptation.library={written}")
    assert line in str(told.value)
