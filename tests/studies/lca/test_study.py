"""The study lca at a tiny size, and what it refuses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cosignal.errors import ConfigError
from cosignal.studies import job_cache, run_study
from cosignal.studies.lca import arms as lca_arms
from cosignal.studies.lca import laws as lca_laws
from cosignal.studies.lca import rollout as lca_rollout
from cosignal.studies.lca import study as lca
from cosignal.studies.lca.arms import TASKS


@pytest.mark.usefixtures("one_thread")
def test_the_study_runs_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job_cache, "PARALLEL", 0)
    monkeypatch.setattr(lca_rollout, "EPISODES", 2)
    monkeypatch.setattr(lca_laws, "PAIRS", 60)
    small = {
        name: replace(task, steps=2600, counts=tuple(60 for _ in task.counts), window=2) for name, task in TASKS.items()
    }
    for module in (lca_arms, lca, lca_rollout):
        monkeypatch.setattr(module, "TASKS", small)
    told: list[str] = []
    result = run_study("lca", 2, (), told.append, 3, (4, 6), ("two_switch", "victim_rubble"))
    asked = "--figure 4 --figure 6 --task two_switch --task victim_rubble --seeds 2 --first-seed 3"
    assert result["command"] == f"cosignal study lca {asked} --json"
    ids = [row["id"] for row in result["rows"]]
    assert {"F4-1.two_switch", "F4-1.victim_rubble", "F4-2", "A-1", "T-1", "T-2", "T-3"} <= set(ids)
    assert "two_switch.4.lca_4q80.r" in ids
    for path in result["figures"]:
        assert Path(path).read_bytes().startswith(b"\x89PNG")
    assert json.loads(Path("studies_out/lca/result.json").read_text())["rows"] == result["rows"]
    table = Path("studies_out/lca/table.md").read_text()
    assert all(line.count("|") == 6 for line in table.splitlines() if line.startswith("| F4"))


def test_what_does_not_exist_is_named() -> None:
    def run(*options: object) -> None:
        run_study("lca", 1, (), print, None, *options)  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match=r"--figure: must be one of 3, 4, 5, 6, got 7"):
        run((7,))
    with pytest.raises(ConfigError, match="--task: must be one of two_switch, victim_rubble, pistonball, got 'x'"):
        run((), ("x",))
    with pytest.raises(ConfigError, match="--figure: the study 'dip' has no such option, got 3"):
        run_study("dip", 1, (), print, None, (3,))


def test_a_missing_matplotlib_is_told_before_anything_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(lca, "run_curves", None)
    with pytest.raises(ConfigError, match=r"need matplotlib, it is not installed; pip install 'cosignal\[studies\]'"):
        run_study("lca", 1, (), print)
