"""Recorded answers: who said what about which pair. JSON Lines, so that a model's answers can be added later.

{"pair": "0123456789abcdef", "agent": "green", "query": 0, "prompt": "fedcba9876543210", "vote": 1.0, "model": "…",
"probability": null}
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import PreferenceError
from .pairs import Pairs
from .votes import Votes

HASH = r"^[0-9a-f]{16}$"


class RecordedAnswer(BaseModel):
    """One answer to one query.

    `pair`: of `Pairs.ids`, which tell agents apart; `agent`: its name, for readers. `query`: its number, from 0.
    `prompt`: hash of the prompt that was asked. `vote`: 1 where the state after the move is preferred, 0 where the one
    before is, 0.5 for neither; a fraction where it was taken from a model's log-probabilities. `model`: who answered.
    `probability`: that the model gave to the state after the move, where it is known besides the vote; not counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pair: str = Field(pattern=HASH)
    agent: str
    query: int = Field(ge=0)
    prompt: str = Field(pattern=HASH)
    vote: float = Field(ge=0, le=1)
    model: str
    probability: float | None = Field(default=None, ge=0, le=1)


def append_answers(path: Path, answers: Iterable[RecordedAnswer]) -> None:
    """One line each, after those that are there; a last line that a crash cut off makes room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{answer.model_dump_json()}\n" for answer in answers)
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def read_answers(path: Path) -> list[RecordedAnswer]:
    """In order; none where there is no file. A last line without an end, cut off by a crash, is left out.

    Raises PreferenceError with the number of a line that is no answer.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_answer(path, number, line) for number, line in enumerate(lines, start=1)]


def _answer(path: Path, number: int, line: bytes) -> RecordedAnswer:
    try:
        return RecordedAnswer.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "line"
        raise PreferenceError(
            f"every line of {str(path)!r} must be a recorded answer, line {number} is {line[:120]!r} "
            f"({where}: {first['msg']}); mend the line or remove it"
        ) from error


def votes_of(pairs: Pairs, answers: Iterable[RecordedAnswer]) -> Votes:
    """[P, K] with a column for every query from 0 to the highest, nan where there is no answer. Answers about other
    pairs are skipped.

    Of several answers to the same (pair, agent, query, prompt) the last counts. Where a query was put in several
    wordings (prompts), each counts: the second wording fills a column of its own after all queries, and so on.
    """
    said: dict[tuple[str, int], dict[tuple[str, str], float]] = {}
    known = set(pairs.ids())
    for answer in answers:
        if answer.pair in known:
            said.setdefault((answer.pair, answer.query), {})[answer.agent, answer.prompt] = answer.vote
    queries = 1 + max((query for _, query in said), default=-1)
    wordings = max(map(len, said.values()), default=0)
    votes = {pair: np.full((wordings, queries), np.nan) for pair in known}
    for (pair, query), by_wording in said.items():
        votes[pair][: len(by_wording), query] = list(by_wording.values())
    return np.array([votes[pair].ravel() for pair in pairs.ids()]).reshape(len(pairs), wordings * queries)
