"""Made-up runs that the tests of readers share."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_run import add_later_events, add_races


@pytest.fixture
def eventful_run(finished_run: Path) -> Path:
    return add_later_events(finished_run)


@pytest.fixture
def raced_run(finished_run: Path) -> Path:
    return add_races(finished_run)
