"""Works of made-up jobs, in a module of their own, so that another process can import them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def double(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Leaves a mark each time that it runs."""
    with (folder.parent / "runs.log").open("a") as log:
        log.write(f"{content['x']}\n")
    return {"twice": 2 * content["x"], "pid": os.getpid()}


def fail_once(content: dict[str, Any], folder: Path) -> str:
    """As a job that is cut off: what it has written in its folder is there the next time."""
    mark = folder / "begun"
    if mark.exists():
        return f"{content['x']} went on"
    mark.touch()
    raise RuntimeError("cut off")
