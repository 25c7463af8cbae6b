"""What an error of a provider or of the way to it means, and what mends it: for a failed call and for the doctor."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from ...text import cut
from ..config import ModelConfig
from .completion import EMPTY_BODY, MAX_WORDS, NoCompletion, excerpt, words_in

# Numbers of OpenSSL for what is wrong with a certificate (X509_V_ERR_*).
_UNKNOWN_ISSUER = (2, 18, 19, 20, 21)
_OUT_OF_TIME = (9, 10)
_OTHER_HOST = (62, 63, 64)
# How OpenSSL says that the other side does not speak TLS.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG",
                     "RECORD_LAYER_FAILURE", "RECORD_OVERFLOW"})  # fmt: skip
_VERSION = re.compile(r"v\d+\w*")  # `v1`, `v1beta`
NOT_THERE = (404, 405)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, down to its root."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        yield at
        seen.add(id(at))
        at = at.__cause__ or at.__context__


def is_for_good(error: BaseException) -> bool:
    """Tell whether no further attempt can help: a certificate that is refused, or a side that does not speak TLS."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) or _has_no_tls(cause) for cause in causes(error))


def _has_no_tls(error: BaseException) -> bool:
    return isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _NO_TLS


def tls_remedy(error: BaseException, url: str | None) -> str | None:
    """Return what mends a connection that failed of TLS; None where it failed of something else."""
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            if cause.verify_code in _OUT_OF_TIME:
                return "renew the server's certificate, or set this machine's clock"
            if cause.verify_code in _OTHER_HOST:
                return "write base_url with a host name that the server's certificate is made for"
            return "if you trust the server, name the PEM file of its certificate by the variable SSL_CERT_FILE"
        if isinstance(cause, ssl.SSLError):
            if _has_no_tls(cause):
                return "the server does not speak TLS; write base_url with http://, or let the server speak TLS"
            return "check the server's TLS"
    is_plain = url is not None and urlsplit(url).scheme == "http"
    broken_off = any(type(cause).__name__ in ("RemoteProtocolError", "ReadError", "BadStatusLine",
                                              "RemoteDisconnected", "ConnectionResetError")
                     for cause in causes(error))  # fmt: skip
    if is_plain and broken_off:
        return "if the server speaks TLS, write base_url with https://"
    return None


def lacks_version(url: str) -> bool:
    """Tell whether an address has no version such as `/v1` in its path, which OpenAI's protocol mostly has."""
    return not any(_VERSION.fullmatch(part) for part in urlsplit(url).path.split("/"))


def describe(error: BaseException) -> str:
    """Return an error, with what the server said or why no connection was made where its own text lacks that."""
    if isinstance(error, json.JSONDecodeError):  # the client could not read the body of an answer
        if not error.doc.strip():
            return EMPTY_BODY
        what = "cut JSON" if error.pos >= len(error.doc.rstrip()) or "Unterminated" in error.msg else "no JSON"
        return f"the server sent {what} ({error}): {excerpt(error.doc)}; look at its log"
    text, more, root = repr(error), _said(error), list(causes(error))[-1]
    if more is None and root is not error and str(root):
        more = f"{type(root).__name__}: {root}"
    # Packages put the words of a body into their own texts where they find them.
    return text if not more or more in text else f"{text}: {cut(more, MAX_WORDS)}"


def _said(error: BaseException) -> str | None:
    """Return the words of the response that an error carries, None where it carries none."""
    for cause in causes(error):
        try:
            body = getattr(getattr(cause, "response", None), "text", None)
        except RuntimeError:  # httpx: it was not read
            continue
        if isinstance(body, str):
            return words_in(body)
    return None


def remedy(error: Exception, status: int | None, config: ModelConfig) -> str | None:
    """Return what to change after a failed request; None where that cannot be told.

    Args:
        error: what the package raised.
        status: the HTTP status, None where there is none.
        config: the model that was asked.
    """
    words, url = _said(error), config.base_url
    said = (str(error) if words is None or isinstance(error, NoCompletion) else words).lower()
    if re.search(r"\bmodel\b.*(?:not found|not exist|unknown|no such|not available)|unknown model|no such model", said):
        return f"check the model's name, {config.model!r}"
    if status is None:
        return tls_remedy(error, url)
    if status in NOT_THERE and url is not None and not isinstance(error, NoCompletion):
        if lacks_version(url):
            return f"base_url has no /v1, below which such servers mostly answer: try {url.rstrip('/')}/v1"
        return f"check the path of base_url, {url!r}, and the model's name, {config.model!r}"
    if status == 404:
        return f"check the model's name, {config.model!r}"
    if status in (401, 403):
        return "check the key that api_key_env names" if config.api_key_env else "name the key by api_key_env"
    if status not in (400, 413, 422):
        return None
    for pattern, advice in (
        (r"http request was sent to https|http request to an https", "write base_url with https://"),
        (r"temperature", "leave out llm temperature, or set it to what the model takes"),
        (r"logprobs", "set llm logprobs to false"),
        (r"max_(?:completion_|output_|new_)?tokens\b(?!.*context)|completion tokens",
         f"lower llm max_output_tokens, {config.max_output_tokens} now"),
        (r"context.?(?:length|window|size)|n_ctx|too long|too many tokens|maximum.{0,20}tokens",
         f"lower llm max_output_tokens, {config.max_output_tokens} now, or give the model a longer context"),
        (r"response_format|json_schema|json_object|grammar", "set llm structured to prompt"),
        (r"tool", "set llm structured to prompt, and adaptation.evidence_calls to 0"),
    ):  # fmt: skip
        if re.search(pattern, said):
            return advice
    return None
