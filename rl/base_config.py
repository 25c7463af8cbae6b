"""The base of all configs. Imports neither torch nor LangChain."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Config(BaseModel):
    """A config is frozen, refuses unknown keys, and has finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def path_as_meant(path: Any) -> Any:
    """Return a path with `~` in front as the home directory. Raises ValueError for what would name another place."""
    if not isinstance(path, str | Path):
        return path
    text = str(path)
    if not text or text != text.strip() or not text.isprintable():
        raise ValueError(f"must be a path without space around it and control characters, got {text!r}; write one")
    if re.fullmatch(r"[“”„‟‘’‚‛«»‹›].*[“”„‟‘’‚‛«»‹›]", text):
        raise ValueError(f"must be a path without typographic quotes, got {text!r}; write it without them")
    if variable := re.search(r"\$\{?[A-Za-z_]\w*\}?", text):
        raise ValueError(f"must be a path without variables, got {text!r}; write what {variable[0]} stands for")
    try:
        return str(Path(text).expanduser())
    except RuntimeError:
        raise ValueError(f"must be a path, got {text!r}, and there is no such home directory; write it out") from None


# A path that somebody writes: `~` is the home directory, and what is not absolute is relative to the working directory.
UserPath = Annotated[Path, BeforeValidator(path_as_meant)]
