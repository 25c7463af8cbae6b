"""Votes on pairs: what several answers to the same question say together."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import PreferenceError
from ..task import IntArray
from .pairs import NOT_JUDGED, Pairs

# ---------------------------------------------------------------- MERGED rl.preferences.votes

Votes = NDArray[np.float64]  # [P, K]: 1 where s' is preferred, 0 where s is, 0.5 for neither; nan was not asked


def confidence(votes: Votes) -> NDArray[np.float64]:
    """[P, K] → [P] in 0..1: mean of the votes that were asked, conf(o' ≻ o) of Eq. 3 (LCA, Lin et al., arXiv
    2502.03723); nan where nobody was asked."""
    asked = np.isfinite(votes).sum(axis=1)
    total = np.nansum(votes, axis=1)
    return np.asarray(np.divide(total, asked, out=np.full(len(votes), np.nan), where=asked > 0))


def oracle_votes(labels: IntArray, queries: int, accuracy: float, seed: int) -> Votes:
    """[P] labels of a heuristic (1, −1, 0) → [P, `queries`]: copies in which each label is flipped independently with
    probability 1 − `accuracy` (the synthetic queries of LCA, section 5). A label of no preference votes 0.5.

    Copy k is the same whatever `queries` is, so that one query is the first of four.

    Raises:
        PreferenceError: the accuracy is outside 0..1, or there are labels that no heuristic gave.
    """
    if not 0 <= accuracy <= 1:
        raise PreferenceError(f"the accuracy of an oracle must be in 0..1, got {accuracy!r}; give a share of labels")
    if (labels == NOT_JUDGED).any():
        raise PreferenceError(
            f"an oracle votes by the labels of the task's heuristic, {int((labels == NOT_JUDGED).sum())} of "
            f"{len(labels)} pairs have none; let a model rank, or write a heuristic for the task"
        )
    copies = [_flipped(labels, accuracy, _flip_seed(seed, copy, accuracy)) for copy in range(queries)]
    return np.stack(copies, axis=1) * 0.5 + 0.5


def _flipped(labels: IntArray, accuracy: float, seed: int) -> NDArray[np.float64]:
    wrong = np.random.default_rng(seed).random(len(labels)) >= accuracy
    return np.where(wrong, -labels, labels).astype(np.float64)


def _flip_seed(seed: int, copy: int, accuracy: float) -> int:
    """Copies and accuracies of one data set are flipped independently of each other."""
    return int(hashlib.sha256(f"{seed}|{copy}|{accuracy:g}".encode()).hexdigest()[:16], 16)


def agreement(preferred: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """Share of pairs whose preference has the label's sign, where one of no preference (0) counts half.

    `preferred` [P]: above 0 for s', such as confidence − 0.5 or a change of the score. `labels` [P]: pairs without a
    preference (0), or that nobody judged, are left out; None where no other is left.
    """
    judged = (labels != 0) & (labels != NOT_JUDGED)
    if not judged.any():
        return None
    signs = np.sign(preferred[judged]) * np.sign(labels[judged])
    return float(0.5 + 0.5 * signs.mean())


# ---------------------------------------------------------------- MERGED rl.preferences.answers
# DOC """Recorded answers: who said what about which pair. JSON Lines, so that a model's answers can be added later.
# DOC
# DOC {"pair": "0123456789abcdef", "agent": "green", "query": 0, "prompt": "fedcba9876543210", "vote": 1.0, "model": "…",
# DOC "probability": null}
# DOC """

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
