"""Configs that come with the package, so that `cosignal run two_switch` works outside any clone."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError

FOLDER = Path(__file__).parent


def example_names() -> list[str]:
    """Return the names of the packaged examples, sorted: `two_switch` and others."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def example_path(path: str | Path) -> Path:
    """Return the file that `path` means: itself where it exists, else the packaged example of that name.

    `two_switch`, `two_switch.yaml` and `examples/two_switch.yaml` name an example; a path into another folder does not.

    Raises:
        ConfigError: there is neither; the message names all examples.
    """
    path = Path(path)
    # A file of the user's goes before an example of the same name.
    if path.exists():
        return path
    if path.suffix in ("", ".yaml") and path.parent in (Path(), Path("examples")) and path.stem in example_names():
        return FOLDER / f"{path.stem}.yaml"
    raise ConfigError(
        f"{path}: a config file must exist here, found none; check the path, or name a packaged example: "
        f"{', '.join(example_names())}"
    )
