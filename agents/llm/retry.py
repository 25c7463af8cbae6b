"""Which failures of a provider may pass, and how long to wait for that. The only layer that retries."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from langchain_core.exceptions import ModelError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

BACKOFF_S = 0.5  # before the first retry; doubles
MAX_BACKOFF_S = 20.0
PASSING = frozenset({408, 409, 425, 429})  # and 5xx
NOT_IMPLEMENTED = 501  # the one of 5xx that does not pass
# The network errors of the packages' HTTP clients (httpx, aiohttp, botocore, google, requests), by their names.
_NETWORK = frozenset(
    {"TransportError", "APIConnectionError", "ClientConnectionError", "ServerDisconnectedError", "HTTPClientError",
     "ServiceUnavailable", "RetryError", "ConnectionClosedError", "ChunkedEncodingError"}
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """One failed attempt in our words. `error_class`: the name of the package's exception. `retry_after_s`: what the
    provider asked for. `billed`: whether the provider may have worked on it."""

    text: str
    error_class: str
    may_pass: bool = False
    status: int | None = None
    retry_after_s: float | None = None
    billed: bool = False


class AttemptFailed(Exception):
    """Carries a `Failure` through tenacity; never leaves `agents`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def describe(error: Exception, text: str) -> Failure:
    """The failure that `error` is. `text`: what it says, bounded and without keys."""
    status = _status(error)
    name = type(error).__name__
    if status is not None:
        serves = status in PASSING or (status >= 500 and status != NOT_IMPLEMENTED)
        passing = serves and getattr(error, "code", None) != "insufficient_quota"
        return Failure(text, name, passing, status, _retry_after(error))
    passing = _is_of_the_network(error)
    # Without a status nobody knows how far the request came.
    return Failure(text, name, passing, billed=True)


def retrying(retries: int, left: Callable[[], float]) -> AsyncRetrying:
    """Up to `retries` more attempts after failures that may pass, none that would start after `left()` seconds."""
    backoff = wait_exponential_jitter(multiplier=BACKOFF_S, max=MAX_BACKOFF_S, jitter=BACKOFF_S)

    def wait(state: RetryCallState) -> float:
        asked = _failure(state).retry_after_s
        return backoff(state) if asked is None else asked

    def stop(state: RetryCallState) -> bool:
        return state.attempt_number > retries or state.upcoming_sleep >= left()

    return AsyncRetrying(retry=retry_if_exception(_may_pass), wait=wait, stop=stop, reraise=True)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, AttemptFailed) and error.failure.may_pass


def _failure(state: RetryCallState) -> Failure:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, AttemptFailed)  # nothing else is retried
    return error.failure


def _status(error: Exception) -> int | None:
    """The HTTP status in whatever attribute the package keeps it."""
    response = getattr(error, "response", None)
    places: list[Any] = [getattr(error, name, None) for name in ("status_code", "http_status", "code", "status")]
    for value in (*places, getattr(response, "status_code", None)):
        if type(value) is int and 400 <= value <= 599:
            return value
    return None


def _is_of_the_network(error: Exception) -> bool:
    if isinstance(error, TimeoutError | ConnectionError | json.JSONDecodeError):  # the last: a body that was cut
        return True
    if isinstance(error, ModelError) and error.is_retryable:
        return True
    return any(parent.__name__ in _NETWORK for parent in type(error).__mro__)


def _retry_after(error: Exception) -> float | None:
    """Seconds, from the header Retry-After: a number or a date (RFC 9110, section 10.2.3). None where it says nothing
    that can be read."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    said = headers.get("retry-after") if headers is not None and hasattr(headers, "get") else None
    if not isinstance(said, str):
        return None
    try:
        seconds = float(said)
    except ValueError:
        return _seconds_until(said)
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _seconds_until(date: str) -> float | None:
    try:
        when = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)
