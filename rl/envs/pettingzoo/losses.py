"""What environments of other people may do wrong while they are played, and how often."""

from __future__ import annotations

import dis

import structlog

from ....errors import CosignalError
from ...processes import Terminated

MAX_LOSSES = 10  # in a row, without a finished step between them
MAX_LOST_EPISODES = 200  # in a row, without an episode between them that came to its end

# What other people's code may raise: a panic of Rust, a cancellation and SystemExit are no `Exception`.
RAISED = BaseException


def ends_us(error: BaseException) -> bool:
    """Return whether this process is told to end: by SIGTERM, or by a KeyboardInterrupt that no `raise` made."""
    if isinstance(error, Terminated):
        return True
    if not isinstance(error, KeyboardInterrupt):
        return False
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is None or dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]] != "RAISE_VARARGS"


def in_words(error: BaseException) -> str:
    """Return an error as text: ours say it all, others need the name of their class."""
    return str(error) if isinstance(error, CosignalError) else f"{type(error).__name__}: {error}"


def log_loss(env: int, error: str) -> None:
    """Write to the log that environment number `env` of the batch is restarted, and why."""
    structlog.get_logger().warning("environment restarted", env=env, error=error)
