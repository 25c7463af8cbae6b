"""Answers to promotions that wait for a human. `loop.db` has one writer, the loop; so an answer is a file of its own.

`approvals/<id>.json` is written once and whole, by whoever answers first, also while no loop runs: the loop reads it
when it waits there (again).
"""

from __future__ import annotations

import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from ..errors import ApprovalError
from .store import Row, RunView

FOLDER = "approvals"


def answer(run_dir: Path, key: str, yes: bool) -> bool:
    """Answer the promotion `key` (`p<point>-r<round>`) that waits in this run. False where it had this very answer.

    Raises NotARunError; ApprovalError where no promotion of this name waits, or where it has the other answer.
    """
    view = RunView(run_dir)
    _require(view, key, key in {row.id for row in view.decisions()}, "be a decision of this run")
    given = given_answer(view.path, key)
    if given is None:
        _waiting(view, key)
        if _written(view.path, key, yes):
            return True
        given = given_answer(view.path, key)
    _require(view, key, given == yes, f"keep the answer that it has, {_word(not yes)!r} and not {_word(yes)!r}")
    return False


def question(run_dir: Path, key: str) -> list[str]:
    """What is asked about the promotion `key` that waits, in lines for a terminal. Raises as `answer` does."""
    from .events import ApprovalNeeded
    from .progress import question_lines

    view = RunView(run_dir)
    waits = _waiting(view, key)
    return [line.plain() for line in question_lines(0, ApprovalNeeded.model_validate(waits), str(view.path))]


def given_answer(run_dir: Path, key: str) -> bool | None:
    """What was answered, None while nobody has. Raises ApprovalError where the file is not one of ours."""
    path = run_dir / FOLDER / f"{key}.json"
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["yes"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ApprovalError(
            f"{str(path)!r} must be an answer such as {{'yes': true}}, got {error!r}; delete it and answer again"
        ) from error


def _waiting(view: RunView, key: str) -> Row:
    waits = view.waiting_for() or {}
    _require(view, key, waits.get("id") == key, "wait for an answer")
    return waits


def _require(view: RunView, key: str, holds: bool, rule: str) -> None:
    if holds:
        return
    waits = view.waiting_for()
    now = f"answer {waits['id']!r}, which waits" if waits else "nothing waits for an answer in this run"
    raise ApprovalError(f"the promotion must {rule}, got {key!r}; {now}")


def _written(run_dir: Path, key: str, yes: bool) -> bool:
    """Write the answer, the whole file or none. False where another one came first."""
    folder = run_dir / FOLDER
    unfinished = folder / f".{key}.{secrets.token_hex(4)}"
    try:
        folder.mkdir(exist_ok=True)
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump({"id": key, "yes": yes, "answered": datetime.now(UTC).isoformat()}, file)
            file.flush()
            os.fsync(file.fileno())
        (folder / f"{key}.json").hardlink_to(unfinished)  # fails where there is one, as a rename would not
        unfinished.unlink()
    except FileExistsError:
        unfinished.unlink()
        return False
    except OSError as error:
        raise ApprovalError(
            f"{str(folder)!r} must be a folder that can be written, got {error}; answer as the user who runs the run"
        ) from error
    return True


def _word(yes: bool) -> str:
    return "yes" if yes else "no"
