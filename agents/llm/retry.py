"""Tell which failures of a provider may pass, and wait before the next attempt. No other layer retries."""

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

from .completion import error_in
from .explain import is_for_good

BACKOFF_S = 0.5  # before the first retry; doubles
MAX_BACKOFF_S = 20.0
PASSING = frozenset({408, 409, 425, 429})  # and 5xx
NOT_IMPLEMENTED = 501  # the one of 5xx that does not pass
# The network errors of the packages' HTTP clients (httpx, aiohttp, botocore, google, requests), by their names.
_NETWORK_ERRORS = frozenset(
    {"TransportError", "APIConnectionError", "ClientConnectionError", "ServerDisconnectedError", "HTTPClientError",
     "ServiceUnavailable", "RetryError", "ConnectionClosedError", "ChunkedEncodingError"}
)  # fmt: skip


@dataclass(frozen=True)
class ProviderFailure:
    """One failed attempt, independent of the provider's package.

    Attributes:
        text: what happened, bounded and without keys.
        error_class: name of the package's exception.
        may_pass: whether another attempt may succeed.
        status: HTTP status, None where there was no response.
        retry_after_s: seconds that the provider asks to wait.
        billed: whether the provider may have worked on the request.
    """

    text: str
    error_class: str
    may_pass: bool = False
    status: int | None = None
    retry_after_s: float | None = None
    billed: bool = False


class AttemptFailed(Exception):
    """Carries a `ProviderFailure` through the retries; never leaves `agents`."""

    def __init__(self, failure: ProviderFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def retry_policy(retries: int, left: Callable[[], float]) -> AsyncRetrying:
    """Return a policy of up to `retries` further attempts after failures that may pass.

    The wait is what the provider asked for, else exponential backoff with jitter. No attempt is made that would start
    after the `left()` seconds that remain.
    """
    backoff = wait_exponential_jitter(multiplier=BACKOFF_S, max=MAX_BACKOFF_S, jitter=BACKOFF_S)

    def may_pass(error: BaseException) -> bool:
        return isinstance(error, AttemptFailed) and error.failure.may_pass

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, AttemptFailed)  # nothing else is retried
        asked_s = error.failure.retry_after_s
        return backoff(state) if asked_s is None else asked_s

    def stop(state: RetryCallState) -> bool:
        return state.attempt_number > retries or state.upcoming_sleep >= left()

    return AsyncRetrying(retry=retry_if_exception(may_pass), wait=wait, stop=stop, reraise=True)


def classify(error: Exception, text: str) -> ProviderFailure:
    """Return the failure that `error` stands for; `text` describes it, bounded and without keys."""
    status, name = _status(error), type(error).__name__
    if status is not None:
        is_passing_status = status in PASSING or (status >= 500 and status != NOT_IMPLEMENTED)
        # OpenAI answers 429 also where the account is empty.
        may_pass = is_passing_status and getattr(error, "code", None) != "insufficient_quota"
        return ProviderFailure(text, name, may_pass, status, _retry_after(error))
    is_network_error = (
        isinstance(error, TimeoutError | ConnectionError | json.JSONDecodeError)  # the last: a body that was cut
        or (isinstance(error, ModelError) and error.is_retryable)
        or any(parent.__name__ in _NETWORK_ERRORS for parent in type(error).__mro__)
    )
    if is_for_good(error):  # no connection was made
        return ProviderFailure(text, name)
    # Without a status nobody knows how far the request came.
    return ProviderFailure(text, name, is_network_error, billed=True)


def _status(error: Exception) -> int | None:
    """Return the HTTP status, from whatever attribute the package keeps it in."""
    response = getattr(error, "response", None)
    # Other packages keep other things under the same names, so only numbers of HTTP errors count.
    candidates: list[Any] = [getattr(error, name, None) for name in ("status_code", "http_status", "code", "status")]
    for value in (*candidates, getattr(response, "status_code", None)):
        if type(value) is int and 400 <= value <= 599:
            return value
    # LangChain raises the body of an answer 200 with an error as it is.
    body = error.args[0] if error.args else None
    return error_in({"error": body}).status_code if isinstance(body, dict) else None


def _retry_after(error: Exception) -> float | None:
    """Return the seconds of the header Retry-After, None where it cannot be read.

    The header holds a number or a date (RFC 9110, section 10.2.3).
    """
    # Packages differ in whether a response has headers, and of which type.
    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    value = headers.get("retry-after") if headers is not None and hasattr(headers, "get") else None
    if not isinstance(value, str):
        return None
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    # A date without a zone is GMT.
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)
