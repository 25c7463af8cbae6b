"""The server of the pages."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from cosignal.cli import ask_again, loop_topology
from cosignal.errors import ConfigError
from cosignal.runs.page import server


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with closing(server.listen(0)) as taken:
        taken.listen()
        with pytest.raises(ConfigError, match="must be free"):
            server.serve([tmp_path], taken.getsockname()[1], print, topology=loop_topology, ask_again=ask_again)
