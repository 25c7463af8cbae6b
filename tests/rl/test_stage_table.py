"""The one table of what a stage decides, and the page that shows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from cosignal.agents.prompt_payload import term_kinds
from cosignal.rl.stage import STAGES, Stage, StageRule

DOCS = Path(__file__).parents[2] / "docs" / "failures.md"
PURPOSES = {"repair": "something is wrong", "removal": "to take shaping away", None: "no"}
PATIENCE = {1.0: "full", 0.5: "half"}


def documented() -> dict[str, list[str]]:
    """Stage → the other cells of its row in the table of what a stage decides."""
    text = DOCS.read_text(encoding="utf-8").partition("| stage | does the loop act?")[2]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


def told(rule: StageRule) -> list[str]:
    horizon = {"by competence": "short from a competence of 0.2 on, else long"}.get(rule.horizon, rule.horizon)
    patience = PATIENCE[rule.patience] if rule.purpose else "–"
    return [PURPOSES[rule.purpose], patience, ", ".join(rule.kinds), f"{rule.decay_steps:_}".replace("_", " "), horizon]


def test_every_stage_has_a_rule_and_the_page_says_the_same() -> None:
    assert set(STAGES) == set(get_args(Stage))
    assert documented() == {stage: told(rule) for stage, rule in STAGES.items()}


def test_everybody_reads_the_table() -> None:
    assert {stage: term_kinds(stage) for stage in STAGES} == {stage: rule.kinds for stage, rule in STAGES.items()}
    assert {stage for stage, rule in STAGES.items() if rule.purpose == "repair"} == {
        "exploring",
        "plateaued",
        "regressing",
    }


@pytest.mark.parametrize("stage", STAGES)
def test_what_bends_the_optimum_is_for_those_who_know_little(stage: Stage) -> None:
    rule = STAGES[stage]
    assert ("event" in rule.kinds) == (rule.decay_steps >= 300_000)
