"""The runs that are shown: run directories, and the runs in folders that hold some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ...errors import NotARunError
from ..store import RunView


def address(run: str, *parts: str) -> str:
    """Return the address of a run's page, or of a page below it: `address("a", "nodes", "critic")`."""
    return "/".join(["/runs", *(quote(part, safe="") for part in (run, *parts))])


class RunIndex:
    """Run directories by name. Every call looks anew, so runs that are made or removed meanwhile are seen.

    Args:
        paths: run directories, or folders of runs.

    Raises:
        NotARunError: a path is no folder.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = [path.absolute() for path in paths]
        missing = [str(path) for path in paths if not path.is_dir()]
        if missing:
            raise NotARunError(
                f"no folder at {missing[0]!r}; give a run directory, or a folder of runs such as runs_out"
            )

    def runs(self) -> dict[str, Path]:
        """Return name → run directory, the newest first. Of two runs of one name the first in `paths` is shown."""
        runs: dict[str, Path] = {}
        for path in self.paths:
            # A run directory itself, or a folder of some.
            for run in [path] if (path / "run.json").exists() else [p.parent for p in path.glob("*/run.json")]:
                runs.setdefault(run.name, run)
        return dict(sorted(runs.items(), key=lambda item: -_time_made(item[1])))

    def view(self, name: str) -> RunView:
        """Open the run of this name.

        Raises:
            NotARunError: no run has the name.
        """
        path = self.runs().get(name)
        if path is None:
            raise NotARunError(f"no run is called {name!r} here; see the list of runs")
        return RunView(path)


def _time_made(run_dir: Path) -> float:
    """Return when the run was made, in Unix time; 0 for one that was removed meanwhile."""
    try:
        return (run_dir / "run.json").stat().st_mtime
    except FileNotFoundError:
        return 0.0
