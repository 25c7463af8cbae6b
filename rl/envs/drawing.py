"""What an environment draws of its state, as text (`render_mode="ansi"`) and as frames ("rgb_array"): bounded, and safe
to be shown. A picture is an extra: where drawing one raises, there is none, and the log says why.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import structlog

from ...text import printable
from ..task import Frame
from .adapter import Task
from .pettingzoo.losses import RAISED, ends_us, in_words

RenderMode = Literal["ansi", "rgb_array"]

MAX_PICTURE = 2_000  # characters of one as text
MAX_SIDE = 240  # pixels of a frame, in width and height
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def text_picture(task: Task) -> str:
    """Return what `task` draws of its current state as text; empty where it draws nothing.

    Colours and white space at the ends of lines are left out. In the place of a picture of more than MAX_PICTURE
    characters a line says how large it is.
    """
    drawn = _drawn(task, task.render_text)
    if not isinstance(drawn, str):
        return ""
    lines = [line.rstrip() for line in _COLOURS.sub("", drawn).expandtabs().splitlines()]
    text = printable("\n".join(lines)).strip("\n")
    if len(text) <= MAX_PICTURE:
        return text
    return f"(a picture may have {MAX_PICTURE:,} characters, this one has {len(text):,}; draw it smaller)"


def frame(task: Task) -> Frame | None:
    """Return what `task` draws of its current state in colours, as means over squares where it is above MAX_SIDE."""
    drawn = _drawn(task, task.render_frame)
    if not isinstance(drawn, np.ndarray) or drawn.ndim != 3 or drawn.shape[2] not in (3, 4) or not drawn.size:
        return None
    side = -(-max(drawn.shape[:2]) // MAX_SIDE)
    height, width = (max(size // side, 1) for size in drawn.shape[:2])
    # What does not fill a square at the right and at the bottom is left out.
    squares = drawn[: height * side, : width * side, :3].reshape(height, -1, width, side, 3)
    small: Frame = squares.mean(axis=(1, 3)).clip(0, 255).astype(np.uint8)
    return small


def drawing_arguments(factory: Callable[..., Any], mode: RenderMode) -> dict[str, str]:
    """Return `render_mode` as an argument of `factory` where it takes one of that name, or any; else nothing."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # it does not say what it takes
        return {}
    takes = any(p.name == "render_mode" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    return {"render_mode": mode} if takes else {}


def _drawn(task: Task, draw: Callable[[], Any]) -> Any:
    try:
        return draw()
    except RAISED as error:
        if ends_us(error):
            raise
        structlog.get_logger().warning("picture not drawn", task=task.name, error=in_words(error))
        return None
