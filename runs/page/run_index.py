"""The runs that are shown: given as run directories, or as folders that hold some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import NotARunError
from ..store import RunView


class RunIndex:
    """Run directories by name. What is made or removed meanwhile is seen at the next look.

    Raises NotARunError where one of `paths` is no folder.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = [path.absolute() for path in paths]
        missing = [str(path) for path in paths if not path.is_dir()]
        if missing:
            raise NotARunError(
                f"no folder at {missing[0]!r}; give a run directory, or a folder of runs such as runs_out"
            )

    def runs(self) -> dict[str, Path]:
        """Name → run directory, newest first. Of two of one name the first given is shown."""
        found: dict[str, Path] = {}
        for path in self.paths:
            for run in [path] if (path / "run.json").exists() else [p.parent for p in path.glob("*/run.json")]:
                found.setdefault(run.name, run)
        return dict(sorted(found.items(), key=lambda item: -_made(item[1])))

    def view(self, name: str) -> RunView:
        """Raises NotARunError where no run has the name."""
        path = self.runs().get(name)
        if path is None:
            raise NotARunError(f"no run is called {name!r} here; see the list of runs")
        return RunView(path)


def _made(run_dir: Path) -> float:
    """Unix time; 0 for one that was removed meanwhile."""
    try:
        return (run_dir / "run.json").stat().st_mtime
    except FileNotFoundError:
        return 0.0
