"""The runs that are shown: run directories, and the runs in folders that hold some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ...errors import DamagedRunError, NotARunError
from ..run_files import run_directories
from ..run_view import RunView


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
            for run in run_directories(path):
                # A name that is no UTF-8 stands in no page; the run is listed, but `open_run` refuses it.
                runs.setdefault(run.name.encode(errors="backslashreplace").decode(), run)
        return dict(sorted(runs.items(), key=lambda item: -_time_made(item[1])))

    def view(self, name: str) -> RunView:
        """Open the run of this name; what of it cannot be read is told in its `damage`.

        Raises:
            NotARunError: no run has the name.
        """
        path = self.runs().get(name)
        if path is None:
            raise NotARunError(f"no run is called {name!r} here; see the list of runs")
        return open_run(name, path)


def open_run(name: str, path: Path) -> RunView:
    """Open a run of `RunIndex.runs`; what of it cannot be read is told in its `damage`.

    Raises:
        NotARunError: it is gone, or cannot be read at all.
    """
    if name != path.name:
        raise DamagedRunError(f"the name of a run directory must be UTF-8, got {str(path)!r}; rename it")
    return RunView(path, lenient=True)


def _time_made(run_dir: Path) -> float:
    """Return when the run was made, in Unix time; 0 for one that was removed meanwhile, or cannot be looked into."""
    try:
        return (run_dir / "run.json").stat().st_mtime
    except OSError:
        return 0.0
