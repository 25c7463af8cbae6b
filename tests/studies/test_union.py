"""The study of the union at a tiny size, on real trainers, workers and branches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cosignal import RunConfig
from cosignal.agents.rules import critic as rules_critic
from cosignal.errors import ConfigError
from cosignal.studies import job_cache, report, union
from cosignal.studies.outcome import Outcome
from cosignal.studies.union import run_union, task_config
from short_runs import SHORT

pytestmark = pytest.mark.timeout(300)


def tiny() -> RunConfig:
    settings = {**SHORT, "seed": 3, "task": {"name": "victim_rubble", "n_max": 30}}
    settings["trainer"] = {**SHORT["trainer"], "steps": 3_840}
    settings["preferences"] = {"scorer": {"max_epochs": 3, "members": 2}, "rehearsal": 256}
    return RunConfig.model_validate(settings)


def test_every_arm_runs_on_the_same_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_cache, "PARALLEL", 0)
    unclear = rules_critic._finding("unclear_credit", ["sparse.return_now"], "Who earned it?")
    monkeypatch.setattr(rules_critic, "_findings", lambda evidence: [unclear])
    monkeypatch.setattr(union, "TASK", replace(union.TASK, counts=(60, 60)))
    monkeypatch.setattr(union, "PAIRS", 60)
    monkeypatch.setattr(union, "ROUNDS", 2)
    result = run_union(1, (), lambda line: None, tiny())
    rows = {row["id"]: row for row in result["rows"]}
    assert {o["arm"] for o in result["outcomes"]} == {"plain", "lca", "lca_unaided"}
    assert {run["arm"] for run in result["seeds"]} == {"loop", "union"}
    assert {run["seed"] for run in [*result["seeds"], *result["outcomes"]]} == {3}
    assert rows["lca.steps_total"]["mean"] > rows["plain.steps_total"]["mean"]  # its pairs were played
    assert {f"union against {alone}" for alone in ("lca", "lca_unaided", "loop")} <= rows.keys()
    assert {"union.learned", "loop.promotions"} <= rows.keys()
    titles = {title for run in result["seeds"] if run["arm"] == "union" for _, _, title, *_ in run["proposals"]}
    assert union.LEARNED_TITLE in titles
    assert (report.OUT / "union" / "table.md").read_text().startswith("| arm | share solved |")


def outcome(arm: str, seed: int, final: float) -> Outcome:
    return Outcome(arm, seed, None, None, 100, 200, final, 0.0)


def test_the_union_is_compared_with_each_half_by_seed() -> None:
    found = {
        "union": [outcome("union", 1, 5.0), outcome("union", 2, 6.0)],
        "lca": [outcome("lca", 1, 4.0), outcome("lca", 2, 4.0)],
        "loop": [outcome("loop", 1, 6.0), outcome("loop", 2, 5.0)],
    }
    better, nothing = (union.comparison_row(alone, found) for alone in ("lca", "loop"))
    assert (better["mean"], better["ci95"], better["verdict"]) == (1.5, [1.0, 2.0], "better")
    assert (nothing["mean"], nothing["verdict"]) == (0.0, "no difference shown")


def test_its_config_pays_for_an_intervention_and_unknown_arms_are_named() -> None:
    config: Any = task_config(report.example_config(7))
    assert (config.task.name, config.seed, config.trainer.envs) == ("victim_rubble", 7, 8)
    with pytest.raises(ConfigError, match="--arm: must be one of plain, lca, lca_unaided, loop, union, "):
        run_union(1, ("x",), print)
