"""Whether spans are wanted, can be made, and where they go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from cosignal.config.run_config import RunConfig
from cosignal.errors import ConfigError
from cosignal.graphs.session.run import start
from cosignal.graphs.tracing import otel
from cosignal.graphs.tracing.otel import ENDPOINTS, PACKAGES, collector_address
from cosignal.graphs.tracing.spans import otlp_provider

ON = RunConfig.model_validate({"otel": {"enabled": True}})
TRACES, ALL = ENDPOINTS


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*ENDPOINTS, "OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
        monkeypatch.delenv(name, raising=False)
    return


def test_variables_alone_send_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALL, "http://127.0.0.1:1")
    assert collector_address(RunConfig()) is None


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "http://localhost:4318/v1/traces"),
        ({ALL: "http://127.0.0.1:6006"}, "http://127.0.0.1:6006/v1/traces"),
        ({ALL: "http://a.example/otlp/"}, "http://a.example/otlp/v1/traces"),
        ({ALL: "http://a.example", TRACES: "https://b.example/in"}, "https://b.example/in"),
        ({TRACES: "https://me:secret@b.example:1/in?key=secret"}, "https://b.example:1/in"),
        ({"OTEL_SDK_DISABLED": "True"}, None),
    ],
)
def test_the_standard_variables_say_where(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], address: str | None
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert collector_address(ON) == address


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            ALL,
            "localhost:4318",
            "OTEL_EXPORTER_OTLP_ENDPOINT: must be an address that starts with http:// or https://, ",
        ),
        (TRACES, "me:secret@host", "https://; write it in full, for example http://localhost:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "must be 'http/protobuf', got 'grpc'"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "must be 'http/protobuf', got 'http/json'"),
    ],
)
def test_what_they_ask_for_in_vain_is_told(monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError) as caught:
        collector_address(ON)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("missing", PACKAGES)
async def test_a_missing_extra_is_told_before_the_run_starts(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(otel, "installed_version", lambda package: None if package == missing else "1")
    words = f"otel.enabled: true needs the package {missing}, found none; pip install 'cosignal\\[otel\\]'"
    with pytest.raises(ConfigError, match=words):
        async with start(ON):
            raise AssertionError("it started")


def test_without_the_switch_nothing_is_imported() -> None:
    code = "import sys, cosignal.graphs.session.run, cosignal.doctor; "
    code += "print([m for m in sys.modules if m.startswith(('opentelemetry.exporter', 'openinference'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == "[]\n"


def test_the_resource_is_ours_where_the_variables_do_not_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert resource() == ("cosignal", "cosignal")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "openinference.project.name=mine,service.name=x")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "lab")
    assert resource() == ("lab", "mine")


def resource() -> tuple[object, object]:
    """The names of the service and of the project."""
    provider, _ = otlp_provider()
    attributes = provider.resource.attributes
    provider.shutdown()
    return attributes["service.name"], attributes["openinference.project.name"]
