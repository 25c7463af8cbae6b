"""Which failures may pass and how long to wait, by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from cosignal.agents.llm.retry import AttemptFailed, ProviderFailure, classify, retry_policy
from tenacity import Future, RetryCallState


class Refused(Exception):
    """What a provider's package may raise."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("refused")
        self.__dict__.update(attributes)


class ConnectTimeout(Exception):
    """Named like httpx's, whose base is called TransportError."""


class TransportError(Exception):
    """Named like httpx's."""


class PoolTimeout(TransportError):
    """One below it."""


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (Refused(status_code=429), True),
        (Refused(status_code=500), True),
        (Refused(http_status=503), True),
        (Refused(code=529), True),  # google's packages
        (Refused(response=SimpleNamespace(status_code=502, headers={})), True),
        (Refused(status_code=408), True),
        (Refused(status_code=400), False),
        (Refused(status_code=401), False),
        (Refused(status_code=403), False),
        (Refused(status_code=404), False),
        (Refused(status_code=422), False),
        (Refused(status_code=429, code="insufficient_quota"), False),
        (Refused(code="rate_limit"), False),
        (Refused(code=7), False),  # no HTTP status
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (PoolTimeout(), True),
        (json.JSONDecodeError("cut", "{", 1), True),
        (ConnectTimeout(), False),
        (ValueError("no such parameter"), False),
    ],
)
def test_what_may_pass(error: Exception, may_pass: bool) -> None:
    failure = classify(error, "words")
    assert failure.may_pass is may_pass
    assert (failure.text, failure.error_class) == ("words", type(error).__name__)
    assert failure.billed is (failure.status is None)


def after(said: object) -> float | None:
    response = SimpleNamespace(status_code=429, headers={"retry-after": said} if said is not None else {})
    return classify(Refused(response=response), "").retry_after_s


def test_retry_after_in_seconds_or_as_a_date() -> None:
    assert [after("3"), after("0.5"), after("-2"), after("0")] == [3.0, 0.5, 0.0, 0.0]
    assert [after(None), after("soon"), after("nan"), after("inf"), after(7)] == [None] * 5
    soon = after(format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True))
    assert soon is not None and 90 < soon <= 100
    assert after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert after("Wed, 99 Oct 2015 07:28:00 GMT") is None


def state(attempt: int, failure: ProviderFailure) -> Any:
    made = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    made.attempt_number = attempt
    outcome = Future(attempt)
    outcome.set_exception(AttemptFailed(failure))
    made.outcome = outcome
    return made


def test_the_wait_is_what_was_asked_for_else_doubles_with_jitter() -> None:
    layer = retry_policy(9, lambda: 100.0)
    plain, asked = ProviderFailure("", "", True), ProviderFailure("", "", True, retry_after_s=7.0)
    assert [layer.wait(state(n, asked)) for n in (1, 2)] == [7.0, 7.0]
    for n, low in ((1, 0.5), (2, 1.0), (3, 2.0)):
        assert all(low <= layer.wait(state(n, plain)) <= low + 0.5 for _ in range(20))
    assert layer.wait(state(50, plain)) == 20.0


def test_no_retry_beyond_their_number_or_the_time_that_is_left() -> None:
    layer = retry_policy(2, lambda: 10.0)
    for attempt, wait, stops in ((1, 0.1, False), (2, 9.9, False), (2, 10.0, True), (3, 0.1, True)):
        made = state(attempt, ProviderFailure("", "", True))
        made.upcoming_sleep = wait
        assert layer.stop(made) is stops
