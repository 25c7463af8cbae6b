"""The declaration of a task: what a feature may be called, and when it is done."""

from __future__ import annotations

from typing import Any

import pytest
from cosignal.rl.task import EXPRESSION_FUNCTIONS, FeatureSpec
from pydantic import ValidationError


def feature(**changes: Any) -> FeatureSpec:
    return FeatureSpec(**{"name": "far", "kind": "distance", "low": 0, "high": 10, **changes})


@pytest.mark.parametrize(
    "name", [*EXPRESSION_FUNCTIONS, "and", "or", "not", "if", "else", "in", "is", "lambda", "class"]
)
def test_a_feature_is_not_named_like_a_word_of_expressions(name: str) -> None:
    with pytest.raises(ValidationError, match=f"named like a word of term expressions, '{name}' is; rename it"):
        feature(name=name)
    assert feature(name=f"{name}_1").name == f"{name}_1"


@pytest.mark.parametrize("done", [None, 0, 10, 2.5])
def test_a_distance_may_have_a_value_of_being_done(done: float | None) -> None:
    assert feature(done=done).done == done
    assert feature().done is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"done": -1}, "between its low and high; 'far' is a distance from 0 to 10 with done -1; correct it"),
        ({"done": 11}, "with done 11; correct it or leave it out"),
        ({"kind": "count", "done": 0}, "of kind distance, .*'far' is a count from 0 to 10 with done 0"),
        ({"done": "soon"}, "must be a finite number in 'far'"),
        ({"done": float("nan")}, "must be a finite number in 'far'"),
    ],
)
def test_a_value_of_being_done_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        feature(**changes)
