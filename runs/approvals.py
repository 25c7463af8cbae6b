"""Answers to promotions that wait for a human. `loop.db` has one writer, the loop; so an answer is a file of its own.

`approvals/<id>.json` is written once and whole, by whoever answers first, also while no loop runs: the loop reads it
when it waits there (again). The ids are those of decisions, `p<point>-r<round>`. Who declines may say why: later
prompts show it as data.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ..errors import ApprovalError
from ..files import file_inside, path_inside
from .checked import first_problem
from .run_files import damage_in_words
from .run_view import RunView

FOLDER = "approvals"
DECISION = re.compile(r"p\d+-r\d+")  # as `records.decision_id` makes it; it becomes the name of a file
WORDS = {True: "yes", False: "no"}
MAX_BECAUSE = 500  # characters
LONGEST_FILE = 20_000  # bytes


class Answer(BaseModel):
    """The answer of a human to a promotion that waits.

    Attributes:
        yes: whether to promote it; None where training was over before anybody answered.
        because: why it is declined, in the human's words. One line of at most `MAX_BECAUSE` characters, which says so
            where it was longer; control characters are removed. Empty where nothing was said.
    """

    model_config = ConfigDict(frozen=True)

    yes: bool | None
    because: str = ""

    @field_validator("because")
    @classmethod
    def _one_bounded_line(cls, text: str) -> str:
        shown = "".join(char for char in text if char.isprintable() or char.isspace())
        line = " ".join(shown.split())
        if len(line) <= MAX_BECAUSE:
            return line
        mark = f" … (cut, {len(line)} characters)"
        return line[: MAX_BECAUSE - len(mark)] + mark


def answer(run_dir: Path, key: str, yes: bool, because: str = "") -> bool:
    """Answer the promotion that waits in this run.

    Args:
        run_dir: the run directory.
        key: id of the promotion.
        yes: whether to promote it.
        because: why it is declined; kept as `Answer.because`.

    Returns:
        False where it had this very answer, whose reason stays.

    Raises:
        NotARunError: there is no run.
        ApprovalError: no promotion of this name waits, it has the other answer, a reason goes with a yes, or the answer
            cannot be written.
    """
    given = Answer(yes=yes, because=because)
    if yes and given.because:
        raise ApprovalError(
            f"a reason must go with the answer 'no', got {given.because!r:.60} with 'yes'; leave it out"
        )
    view = RunView(run_dir)
    is_decision = DECISION.fullmatch(key) is not None and key in {row.id for row in view.decisions()}
    _require(view, key, is_decision, "be a decision of this run")
    # An answer stays, whoever gave it; only the first one needs a promotion that waits.
    earlier = given_answer(view.path, key)
    if earlier is None:
        _waiting(view, key)
        if _write_first(view.path, key, given):
            return True
        earlier = given_answer(view.path, key)
    is_same = earlier is not None and earlier.yes == yes
    _require(view, key, is_same, f"keep the answer that it has, {WORDS[not yes]!r} and not {WORDS[yes]!r}")
    return False


def question(run_dir: Path, key: str) -> list[str]:
    """Return what is asked about the promotion that waits, in lines for a terminal. Raises as `answer` does."""
    from .events import ApprovalNeeded
    from .progress import question_lines

    view = RunView(run_dir)
    with damage_in_words(view.path):
        event = ApprovalNeeded.model_validate(_waiting(view, key))
        policy = any(row.id == key and row.detail.claim == "policy" for row in view.decisions())
    return [line.plain() for line in question_lines(0, event, str(view.path), policy)]


def given_answer(run_dir: Path, key: str) -> Answer | None:
    """Read the answer, None while nobody has given one.

    Raises:
        ApprovalError: the file is not one of ours.
    """
    name = f"{FOLDER}/{key}.json"
    try:
        text = file_inside(run_dir, name, LONGEST_FILE).read_text(encoding="utf-8")
        return Answer.model_validate(json.loads(text))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        got = first_problem(error) if isinstance(error, ValidationError) else f"got {error!r}"
        raise ApprovalError(
            f"{str(run_dir / name)!r} must be an answer such as {{'yes': true}}, {got}; delete it and answer again"
        ) from error


def _waiting(view: RunView, key: str) -> dict[str, Any]:
    """Return the question of that id. Raises ApprovalError where it does not wait."""
    waiting = view.waiting_for() or {}
    _require(view, key, waiting.get("id") == key, "wait for an answer")
    return waiting


def _require(view: RunView, key: str, holds: bool, rule: str) -> None:
    if holds:
        return
    waiting = view.waiting_for()
    remedy = f"answer {waiting['id']!r}, which waits" if waiting else "nothing waits for an answer in this run"
    raise ApprovalError(f"the promotion must {rule}, got {key!r}; {remedy}")


def _write_first(run_dir: Path, key: str, given: Answer) -> bool:
    """Write the answer, the whole file or none. False where another one came first.

    `files.write_whole` would not do: it replaces a file that is there already.
    """
    folder = run_dir / FOLDER
    unfinished = folder / f".{key}.{secrets.token_hex(4)}"
    try:
        folder.mkdir(exist_ok=True)
        path_inside(run_dir, FOLDER)  # the run may be a stranger's, whose folder leads elsewhere
        with unfinished.open("w", encoding="utf-8") as file:
            content = given.model_dump(exclude_defaults=True)
            json.dump({"id": key, **content, "answered": datetime.now(UTC).isoformat()}, file)
            file.flush()
            os.fsync(file.fileno())
        (folder / f"{key}.json").hardlink_to(unfinished)  # fails where there is one, as a rename would not
        unfinished.unlink()
    except FileExistsError:
        unfinished.unlink(missing_ok=True)
        return False
    except OSError as error:
        with contextlib.suppress(OSError):  # there may be no folder
            unfinished.unlink()
        raise ApprovalError(
            f"{str(folder)!r} must be a folder that can be written, got {error}; make room, or answer as the user who "
            "runs the run"
        ) from error
    return True
