"""What `cosignal study` takes, and what it refuses."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cosignal.errors import ConfigError
from cosignal.studies import STUDIES, run_study


def test_an_unknown_study_is_named() -> None:
    names = (
        "two-switch, adversary, gate-trials, policy-power, economy, stages, dip, lca, union, ranking, race-harm, "
        "curves, signals, race"
    )
    with pytest.raises(ConfigError, match=f"must be one of {names}, got 'nonsense'"):
        run_study("nonsense", 1, (), print)


@pytest.mark.parametrize(
    ("name", "arms"),
    [
        ("two-switch", "loop, plain, "),
        ("adversary", "plain, harmful"),
        ("gate-trials", "harmful, good"),
        ("economy", "all, no_halving"),
        ("stages", "auto, exploring"),
        ("union", "plain, lca, "),
        ("curves", "ippo_mlp, ippo_gru, mappo_mlp, "),
        ("race", "plain, restarts, gate, race, "),
        ("race-harm", "honest, honest_early, half_harmful, "),
    ],
)
def test_an_unknown_arm_is_named(name: str, arms: str) -> None:
    with pytest.raises(ConfigError, match=f"--arm: must be one of {arms}.* got 'x'"):
        run_study(name, 1, ("x",), print)


@pytest.mark.parametrize(
    ("name", "options", "refused"),
    [
        ("dip", {"arms": ("keep",)}, "--arm: the study 'dip' has no such option, got 'keep'"),
        ("lca", {"arms": ("lca",)}, "--arm: the study 'lca' has no such option, got 'lca'"),
        ("gate-trials", {"first_seed": 3}, "--first-seed: the study 'gate-trials' has no such option, got 3"),
        ("dip", {"first_seed": 2}, "--first-seed: the study 'dip' has no such option, got 2"),
        ("union", {"figures": (3,)}, "--figure: the study 'union' has no such option, got 3"),
        ("two-switch", {"stalled": 20}, "--stalled: the study 'two-switch' has no such option, got 20"),
        ("race-harm", {"stalled": 20}, "--stalled: the study 'race-harm' has no such option, got 20"),
        ("lca", {"proposals": Path("a.json")}, "--proposals: the study 'lca' has no such option, got 'a.json'"),
        ("race", {"algorithms": ("ippo",)}, "--algorithm: the study 'race' has no such option, got 'ippo'"),
        ("race", {"steps": 9}, "--steps: the study 'race' has no such option, got 9"),
        ("economy", {"tasks": ("two_switch",)}, "--task: the study 'economy' has no such option, got 'two_switch'"),
    ],
)
def test_an_option_that_a_study_does_not_have_is_refused(name: str, options: dict[str, Any], refused: str) -> None:
    with pytest.raises(ConfigError, match=refused):
        run_study(name, 1, **{"arms": (), "tell": print, **options})


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_given_what_its_options_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is called with arguments that it has; without any option with its own number of seeds."""
    study = STUDIES[name]
    module = import_module(f"cosignal.studies.{study.module}")
    signature = inspect.signature(getattr(module, study.function))
    calls: list[dict[str, Any]] = []

    def run(**keywords: Any) -> dict[str, Any]:
        calls.append(dict(signature.bind(**keywords).arguments))
        return {}

    monkeypatch.setattr(module, study.function, run)
    run_study(name, None, (), print)
    options: dict[str, Any] = {"first_seed": 7} if "--first-seed" in study.options else {}
    options |= {"figures": (4,)} if "--figure" in study.options else {}
    options |= {"tasks": ("two_switch",)} if "--task" in study.options else {}
    options |= {"proposals": Path("a.json")} if "--proposals" in study.options else {}
    options |= {"stalled": 20} if "--stalled" in study.options else {}
    options |= {"algorithms": ("qmix",), "steps": 9} if "--algorithm" in study.options else {}
    run_study(name, 3, ("one",) if "--arm" in study.options else (), print, **options)
    first, second = calls
    assert (first[study.counts], second[study.counts]) == (study.seeds, 3)
    assert second.get("arms") == (("one",) if "--arm" in study.options else None)
    if "--first-seed" in study.options:
        assert second.get("first_seed", getattr(second.get("base"), "seed", None)) == 7
    if "--figure" in study.options:
        assert second["figures"] == (4,)
    if "--task" in study.options:
        assert second["tasks"] == ("two_switch",)
    if "--proposals" in study.options:
        assert second["proposals"] == Path("a.json")
    if "--stalled" in study.options:
        assert second["stalled"] == 20
    if "--algorithm" in study.options:
        assert (second["algorithms"], second["steps"]) == (("qmix",), 9)
