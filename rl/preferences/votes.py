"""Votes on pairs: recorded answers, and what several answers to the same question say together.

Answers are JSON Lines, so that a model's answers can be added later:

    {"pair": "0123456789abcdef", "agent": "green", "query": 0, "prompt": "fedcba9876543210", "vote": 1.0,
     "model": "…", "probability": null}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import PreferenceError
from ...files import append_lines, whole_lines
from ..task import IntArray
from .pairs import NOT_JUDGED, Pairs

HASH = r"^[0-9a-f]{16}$"

Votes = NDArray[np.float64]  # [P, K]: 1 where s′ is preferred, 0 where s is, 0.5 for neither; nan was not asked

# ------------------------------------------------------------ recorded answers


class RecordedAnswer(BaseModel):
    """One answer to one query about one pair."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pair: str = Field(pattern=HASH)  # one of `Pairs.ids`, which tell agents apart
    agent: str  # its name, for readers
    query: int = Field(ge=0)  # its number
    prompt: str = Field(pattern=HASH)  # hash of the prompt that was asked
    # 1 where the state after the move is preferred, 0 where the one before is, 0.5 for neither; a fraction where it was
    # taken from a model's log-probabilities
    vote: float = Field(ge=0, le=1)
    model: str  # who answered
    # what the model gave to the state after the move, where it is known besides the vote; not counted
    probability: float | None = Field(default=None, ge=0, le=1)


def append_answers(path: Path, answers: Iterable[RecordedAnswer]) -> None:
    """Write one line each, after those that are there."""
    append_lines(path, (answer.model_dump_json() for answer in answers))


def read_answers(path: Path) -> list[RecordedAnswer]:
    """Read the answers in order; none where there is no file.

    A last line without an end, cut off by a crash, is left out.

    Raises:
        PreferenceError: a line is no answer; with its number.
    """
    answers = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            answers.append(RecordedAnswer.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "line"
            raise PreferenceError(
                f"every line of {str(path)!r} must be a recorded answer, line {number} is {line[:120]!r} "
                f"({where}: {first['msg']}); mend the line or remove it"
            ) from error
    return answers


# ------------------------------------------------------------ votes


def votes_of(pairs: Pairs, answers: Iterable[RecordedAnswer]) -> Votes:
    """Return [P, K] with a column for every query from 0 to the highest, nan where there is no answer.

    Answers about other pairs are skipped. Of several answers to the same (pair, agent, query, prompt) the last counts.
    Where a query was put in several wordings (prompts), each counts: the second wording fills a column of its own after
    all queries, and so on.
    """
    # (pair, query) → wording → vote; later answers to the same wording replace earlier ones.
    ids = pairs.ids()
    known = set(ids)
    by_query: dict[tuple[str, int], dict[tuple[str, str], float]] = {}
    for answer in answers:
        if answer.pair in known:
            by_query.setdefault((answer.pair, answer.query), {})[answer.agent, answer.prompt] = answer.vote
    # One row a wording and one column a query, laid side by side for each pair.
    queries = 1 + max((query for _, query in by_query), default=-1)
    wordings = max(map(len, by_query.values()), default=0)
    votes = {pair: np.full((wordings, queries), np.nan) for pair in known}
    for (pair, query), by_wording in by_query.items():
        votes[pair][: len(by_wording), query] = list(by_wording.values())
    return np.array([votes[pair].ravel() for pair in ids]).reshape(len(pairs), wordings * queries)


def confidence(votes: Votes) -> NDArray[np.float64]:
    """Return the mean of the votes that were asked, [P, K] → [P] in 0..1; nan where nobody was asked.

    This is conf(o' ≻ o) of Eq. 3 (LCA, Lin et al., arXiv 2502.03723).
    """
    asked = np.isfinite(votes).sum(axis=1)
    total = np.nansum(votes, axis=1)
    return np.asarray(np.divide(total, asked, out=np.full(len(votes), np.nan), where=asked > 0))


def oracle_votes(labels: IntArray, queries: int, accuracy: float, seed: int) -> Votes:
    """Return votes by the labels of a heuristic, each flipped independently with probability 1 − `accuracy`.

    These are the synthetic queries of LCA, section 5. A label of no preference votes 0.5. Copy k is the same whatever
    `queries` is, so that one query is the first of four.

    Args:
        labels: [P], 1, −1 or 0.
        queries: how many copies there are.
        accuracy: in 0..1.
        seed: of the data set; its copies and accuracies are flipped independently of each other.

    Returns:
        [P, `queries`].

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
    copies = []
    for copy in range(queries):
        # A stream of its own for each copy and accuracy.
        flip_seed = int(hashlib.sha256(f"{seed}|{copy}|{accuracy:g}".encode()).hexdigest()[:16], 16)
        wrong = np.random.default_rng(flip_seed).random(len(labels)) >= accuracy
        copies.append(np.where(wrong, -labels, labels).astype(np.float64))
    return np.stack(copies, axis=1) * 0.5 + 0.5


def agreement(preferred: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """Return the share of pairs whose preference has the label's sign, where one of no preference (0) counts half.

    Args:
        preferred: [P], above 0 for s′, such as confidence − 0.5 or a change of the score.
        labels: [P]; pairs without a preference (0), or that nobody judged, are left out.

    Returns:
        None where no pair is left.
    """
    judged = (labels != 0) & (labels != NOT_JUDGED)
    if not judged.any():
        return None
    signs = np.sign(preferred[judged]) * np.sign(labels[judged])
    return float(0.5 + 0.5 * signs.mean())
