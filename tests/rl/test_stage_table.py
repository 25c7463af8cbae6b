"""The one table of what a stage decides, and the page that shows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from cosignal.rl.branches.config import BranchConfig
from cosignal.rl.branches.horizon import horizon_steps
from cosignal.rl.stage import STAGES, Stage

DOCS = Path(__file__).parents[2] / "docs" / "failures.md"
ALL = "potential, similarity, event, subgoals"
# Stage → does the loop act, patience, kinds of new terms, longest decay or annealing in steps, `auto` horizon.
EXPECTED: dict[Stage, tuple[str, str, str, int, str]] = {
    "exploring": ("something is wrong", "full", ALL, 500_000, "long"),
    "emerging": ("no", "–", ALL, 300_000, "short from a competence of 0.2 on, else long"),
    "improving": ("no", "–", "potential, similarity", 100_000, "short from a competence of 0.2 on, else long"),
    "plateaued": ("something is wrong", "full", ALL, 300_000, "long"),
    "regressing": ("something is wrong", "half", "potential, similarity", 100_000, "long"),
    "converged": ("to take shaping away", "half", "potential, similarity", 50_000, "short"),
}
ACTS = {"something is wrong": "repair", "to take shaping away": "removal", "no": None}
PATIENCE = {"full": 1.0, "half": 0.5}


@pytest.mark.parametrize("stage", get_args(Stage))
def test_a_stage_decides_what_the_design_says(stage: Stage) -> None:
    acts, patience, kinds, decay_steps, horizon = EXPECTED[stage]
    rule = STAGES[stage]
    assert rule.purpose == ACTS[acts]
    assert patience == "–" or rule.patience == PATIENCE[patience]
    assert ", ".join(rule.kinds) == kinds
    assert rule.decay_steps == decay_steps
    assert rule.horizon == ("by competence" if "competence" in horizon else horizon)


@pytest.mark.parametrize("stage", get_args(Stage))
def test_branches_follow_the_table(stage: Stage) -> None:
    horizon = EXPECTED[stage][-1]
    steps = [horizon_steps(BranchConfig(horizon="auto"), success, None, stage) for success in (0.19, 0.2)]
    assert steps == {"short": [50_000, 50_000], "long": [200_000, 200_000]}.get(horizon, [200_000, 50_000])


def test_the_page_shows_the_same_table() -> None:
    text = DOCS.read_text(encoding="utf-8").partition("| stage | does the loop act?")[2].partition("\n\n")[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    expected = {
        stage: [acts, patience, kinds, f"{decay_steps:_}".replace("_", " "), horizon]
        for stage, (acts, patience, kinds, decay_steps, horizon) in EXPECTED.items()
    }
    assert {cells[0].strip("`"): cells[1:] for cells in rows} == expected
