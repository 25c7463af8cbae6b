"""The JSON files that make a directory a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import NotARunError


def read_json(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """The object in the file. Raises NotARunError where there is none, or one without the `needed` keys."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotARunError(
            f"{str(path.parent)!r} is not a run directory (it has no {path.name}); "
            "name one that `cosignal run` has made"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: neither UTF-8 nor JSON
        raise NotARunError(
            f"{str(path)!r} must be the JSON file of a run, got {error}; restore the file or name another run"
        ) from error
    missing = [key for key in needed if key not in data] if isinstance(data, dict) else list(needed)
    if missing or not isinstance(data, dict):
        raise NotARunError(
            f"{str(path)!r} must be the JSON object of a run, got {type(data).__name__} without {missing!r}; "
            "name a directory that `cosignal run` has made"
        )
    return data
