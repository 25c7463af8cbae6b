"""What an error means: roots that packages hide, TLS, and what to change. The words of servers: `test_misbehaving`."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from asking import GOOD, asked, parsed
from cosignal.agents.llm.explain import describe, is_for_good, lacks_version, tls_remedy
from cosignal.agents.llm.ledger import Call
from cosignal.errors import ProviderError
from cosignal.testing import MisbehavingServer
from cosignal.testing.server import says
from tls import speaking_tls

pytestmark = pytest.mark.usefixtures("quick_and_keyed")


def hidden(root: BaseException) -> Exception:
    """An error as packages raise it: its root is two causes below."""
    try:
        try:
            raise root
        except BaseException as error:
            raise OSError("All attempts failed") from error
    except OSError as error:
        outer = RuntimeError("Connection error.")
        outer.__cause__ = error
        return outer


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def test_the_root_of_an_error_is_told() -> None:
    text = describe(hidden(ConnectionRefusedError(111, "Connect call failed")))
    assert text == "RuntimeError('Connection error.'): ConnectionRefusedError: [Errno 111] Connect call failed"
    assert describe(ValueError("no")) == "ValueError('no')"
    circular = ValueError("a")
    circular.__context__ = TypeError("b")
    circular.__context__.__context__ = circular
    assert describe(circular) == "ValueError('a'): TypeError: b"


@pytest.mark.parametrize(
    ("code", "words"), [(10, "renew"), (9, "clock"), (18, "SSL_CERT_FILE"), (20, "SSL_CERT_FILE"), (62, "host name")]
)
def test_certificates(code: int, words: str) -> None:
    error = hidden(certificate_error(code))
    assert words in (tls_remedy(error, "https://x.test/v1") or "")
    assert is_for_good(error)


def test_what_may_pass_is_not_for_good() -> None:
    assert not is_for_good(hidden(ssl.SSLEOFError(8, "EOF occurred in violation of protocol")))
    assert not is_for_good(hidden(ConnectionResetError()))
    assert tls_remedy(hidden(ConnectionResetError()), "https://x.test") is None
    assert "https://" in (tls_remedy(hidden(ConnectionResetError()), "http://x.test") or "")


@pytest.mark.parametrize(
    ("url", "lacks"),
    [
        ("http://h:8000", True), ("http://h:8000/", True), ("http://h/api", True), ("http://v1.test/", True),
        ("http://h/v1", False), ("http://h/v1/", False), ("http://h/v1beta/openai", False), ("http://h/api/v3", False),
    ],
)  # fmt: skip
def test_the_version_in_an_address(url: str, lacks: bool) -> None:
    assert lacks_version(url) == lacks


async def test_tls_in_a_question(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What can never pass is tried once."""
    server = MisbehavingServer(says(GOOD))
    certificate = speaking_tls(server, tmp_path)
    with server, MisbehavingServer(says(GOOD)) as plain:
        at = f"//localhost:{server.server_port}/v1"
        for url, words, attempts in (
            (f"https:{at}", ("self-signed certificate", "SSL_CERT_FILE"), 1),
            (f"http:{at}", ("https://",), 3),
            (plain.url.replace("http:", "https:"), ("WRONG_VERSION_NUMBER", "write base_url with http://"), 1),
        ):
            rows: list[Call] = []
            result = await asked(server, rows, base_url=url)
            assert isinstance(result, ProviderError)
            for word in words:
                assert word in str(result), result
            assert [row.outcome for row in rows] == ["error"] * attempts
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        # Clients of the same settings are shared, so these differ.
        assert parsed(await asked(server, [], base_url=f"https:{at}", timeout_s=4.0))
