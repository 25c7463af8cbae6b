"""Questions about states and steps of a run that a model is asked, and what it said.

    {"question": "label", "texts": ["just did found; near door"], "answer": 1.0, "by": "…", "point": 64}

| question | texts | answer |
|---|---|---|
| `label` | a step's | 1 where it helps the team on, 0 where it does not |
| `compare` | two steps' | 1 where the second is better for the team, 0 where the first is |
| `hop` | two states' | which share of the way that is left the second is ahead of the first, −1..1 |

What could not be read is null, and counts as a tie. Answers of a run stand in one file of JSON Lines, each question
once: what was answered at one point is not asked again at the next, nor by a loop that was killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ....errors import FitError
from ....files import append_lines, whole_lines

QuestionKind = Literal["label", "compare", "hop"]


class JudgeQuestion(BaseModel):
    """A question about one text or two."""

    model_config = ConfigDict(frozen=True)

    question: QuestionKind
    texts: tuple[str, ...] = Field(min_length=1, max_length=2)


class Judgement(JudgeQuestion):
    """What was said to a question.

    Attributes:
        answer: see the table; None where it could not be read.
        by: the model that said it.
        point: of the adaptation point at which it was asked.
    """

    answer: float | None = Field(ge=-1, le=1)
    by: str
    point: int


Answers = Mapping[JudgeQuestion, float | None]


def append_judgements(path: Path, judgements: Iterable[Judgement]) -> None:
    """Write one line each, after those that are there."""
    append_lines(path, (judgement.model_dump_json() for judgement in judgements))


def read_judgements(path: Path) -> list[Judgement]:
    """Read them in order, none where there is no file; a last line that a crash cut off is left out.

    Raises:
        FitError: a line is no judgement; with its number.
    """
    found = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            found.append(Judgement.model_validate_json(line))
        except ValidationError as error:
            raise FitError(
                f"every line of {str(path)!r} must be a judgement, line {number} is {line[:120]!r}; mend or remove it"
            ) from error
    return found


def answers_of(judgements: Sequence[Judgement]) -> dict[JudgeQuestion, float | None]:
    """Return what was said last to each question."""
    return {JudgeQuestion(question=x.question, texts=x.texts): x.answer for x in judgements}
