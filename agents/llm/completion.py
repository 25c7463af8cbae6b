"""A chat completion as servers send it becomes one that LangChain can read, or an error with the server's own words.

Servers that speak OpenAI's protocol answer 200 with an error in the body, with no choice, with a message that is null,
with arguments that are parsed already, with counts that are no numbers. Plain data only.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ...text import cut

EMPTY_BODY = "the server sent an empty body; look at its log, and check the path of base_url"
MAX_WORDS = 500  # characters of a body that are repeated
# What servers write in the place of a code, where it is not an HTTP status.
_STATUS_OF = {
    r"overloaded|unavailable|capacity|busy": 503,
    r"rate.?limit|too.?many": 429,
    r"time.?out": 504,
    r"not.?found": 404,
    r"invalid|bad.?request|validation|unsupported|context.?length": 400,
    r"auth|permission|forbidden": 401,
    r"server.?error|internal": 500,
}
_CODES = ("code", "status", "status_code", "http_status", "type", "error_type")
_WORDS = ("message", "detail", "error", "msg", "error_message", "reason")


class NoCompletion(Exception):
    """A body that holds no chat completion.

    Attributes:
        status_code: what the body says that its HTTP status should have been; None where it does not.
        code: what the body has as a code, if that is a text.
    """

    def __init__(self, text: str, status_code: int | None = None, code: str | None = None) -> None:
        super().__init__(text)
        self.status_code = status_code
        self.code = code


def readable_completion(body: Any) -> dict[str, Any]:
    """Return a completion with one choice, of which every part has the type that the protocol gives it.

    Args:
        body: the parsed JSON of an answer, or its text where it is none.

    Raises:
        NoCompletion: there is no completion in it.
    """
    if isinstance(body, str):
        body = _parsed(body)
    if isinstance(body, list) and len(body) == 1:  # Google's way to send an error
        body = body[0]
    if not isinstance(body, dict):
        raise NoCompletion(f"the server sent no chat completion but {excerpt(body)}")
    choices = body.get("choices")
    if body.get("error") or not choices or not isinstance(choices, list):
        raise error_in(body)
    choice = choices[0] if isinstance(choices[0], dict) else {}
    if choice.get("error"):
        raise error_in(choice)
    if not isinstance(choice.get("message"), dict):
        raise NoCompletion(f"the completion has no message but {excerpt(choices[0])}")
    choice = {**choice, "message": _readable_message(choice["message"])}
    if not isinstance(choice.get("finish_reason"), str):
        choice["finish_reason"] = None
    completion = {**body, "choices": [choice], "usage": _readable_usage(body.get("usage"))}
    return {key: value for key, value in completion.items() if key not in ("id", "service_tier") or _is_text(value)}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _parsed(text: str) -> Any:
    """Return the JSON of a body that was sent as something else."""
    if not text.strip():
        raise NoCompletion(EMPTY_BODY)
    if text.lstrip("\ufeff").lstrip().startswith("data:"):
        raise NoCompletion(f"the server sends a stream of events, for which nobody has asked: {excerpt(text)}")
    if re.match(r"\s*<(?:!doctype|html|head|body|\?xml)", text, re.IGNORECASE):
        raise NoCompletion(
            f"the server sent a page of HTML, {words_in(text)!r}; check base_url, and whether a proxy wants a login"
        )
    try:
        return json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return text


def _readable_message(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    readable = {
        **message,
        "role": "assistant",
        "content": _text_of(message.get("content")),
        "tool_calls": [_readable_call(call) for call in calls if _is_call(call)] if isinstance(calls, list) else None,
    }
    function_call = message.get("function_call")
    readable["function_call"] = function_call if isinstance(function_call, dict) else None
    return readable


def _text_of(content: Any) -> str:
    """Return the text of a message: as it is, of its parts, or as JSON where it was parsed already."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return json.dumps(content, ensure_ascii=False)
    texts = (part.get("text") if isinstance(part, dict) and "text" in str(part.get("type", "text")) else part
             for part in content)  # fmt: skip
    return "".join(text for text in texts if isinstance(text, str))


def _is_call(call: Any) -> bool:
    return isinstance(call, dict) and isinstance(call.get("function"), dict)


def _readable_call(call: dict[str, Any]) -> dict[str, Any]:
    function, call_id = call["function"], call.get("id")
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": call_id if isinstance(call_id, str) else None,
        "type": "function",
        "function": {"name": str(function.get("name") or ""), "arguments": arguments or "{}"},
    }


def _readable_usage(usage: Any) -> dict[str, Any] | None:
    """Return the counts of tokens, None where they are not numbers."""
    if not isinstance(usage, dict):
        return None
    counts = {key: _count(usage.get(key)) for key in ("prompt_tokens", "completion_tokens")}
    return counts if None not in counts.values() else None


def _count(value: Any) -> int | None:
    try:
        return int(value) if isinstance(value, int | float | str) and float(value).is_integer() else None
    except (ValueError, OverflowError):
        return None


# ---------------------------------------------------------------- errors in bodies


def error_in(body: dict[str, Any]) -> NoCompletion:
    """Return the error that a body without a completion tells of."""
    error = body.get("error")
    parts = [part for part in (error, body) if isinstance(part, dict)]
    codes = [part[key] for part in parts for key in _CODES if isinstance(part.get(key), int | str)]
    words = words_in(error) or words_in({key: value for key, value in body.items() if key != "error"})
    status = next(filter(None, map(_status_of, codes)), None)
    named = next((code for code in codes if isinstance(code, str) and not code.isdecimal()), None)
    if not words and not body.get("error"):
        return NoCompletion(f"the answer has no choices: {excerpt(body)}", status, named)
    kind = f" of code {status}" if status else ""
    return NoCompletion(f"the server answered 200 with an error{kind}: {words or excerpt(body)}", status, named)


def _status_of(code: int | str) -> int | None:
    """Return the HTTP status that a code stands for, None where it does not say."""
    if isinstance(code, str) and not code.isdecimal():
        return next((status for pattern, status in _STATUS_OF.items() if re.search(pattern, code, re.IGNORECASE)), None)
    status = int(code) if len(str(code)) == 3 else 0
    return status if 400 <= status <= 599 else None


def words_in(body: Any) -> str:
    """Return what the body of an error says in words, cut; empty where there are none."""
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            # Of a page of HTML its words alone.
            without_tags = re.sub(r"<(?:script|style)\b.*?</(?:script|style)>|<[^<>]*>", " ", body[: 20 * MAX_WORDS],
                                  flags=re.DOTALL | re.IGNORECASE)  # fmt: skip
            return cut(" ".join(without_tags.split()), MAX_WORDS)
    for _ in range(4):
        if isinstance(body, list) and body:
            body = body[0]
        elif isinstance(body, dict):
            body = next((body[key] for key in _WORDS if body.get(key)), None)
    return cut(body, MAX_WORDS) if isinstance(body, str) else ""


def excerpt(body: Any) -> str:
    """Return the beginning of a body as its sender wrote it."""
    if isinstance(body, str):
        return repr(cut(body, MAX_WORDS))
    if isinstance(body, dict):  # without the nulls that the client has put in
        body = {key: value for key, value in body.items() if value is not None}
    return cut(json.dumps(body, ensure_ascii=False, default=str), MAX_WORDS)
