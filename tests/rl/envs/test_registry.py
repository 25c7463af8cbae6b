"""The table of shipped tasks."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

from cosignal.rl.envs.registry import EXTRAS, NATIVE, ShippedName


def test_the_table_of_shipped_tasks_is_whole() -> None:
    assert {*NATIVE, *EXTRAS} == set(get_args(ShippedName))
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    assert {extra.extra for extra in EXTRAS.values()} <= set(project["project"]["optional-dependencies"])
