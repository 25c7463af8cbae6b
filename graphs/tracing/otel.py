"""OpenTelemetry spans of a run: whether they are wanted, whether they can be made, and where they go. Imports none of
OpenTelemetry; `spans` does, and is imported only where spans are wanted.

The address, its headers, certificates, time limit, resource and sampling are OpenTelemetry's own variables
(`OTEL_EXPORTER_OTLP_ENDPOINT`, …), so that what works for other programs works here. `otel.enabled` is the one switch:
variables alone send nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...agents.llm.secrets import key_variable_names
from ...config.run_config import RunConfig
from ...errors import ConfigError
from ...runs.events import Event, SpansLost

if TYPE_CHECKING:
    from .spans import Spans

EXTRA = "pip install 'cosignal[otel]'"
PACKAGES = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "openinference-semantic-conventions")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
DEFAULT_ENDPOINT = "http://localhost:4318"  # OpenTelemetry's
PROTOCOL = "http/protobuf"


@dataclass(frozen=True)
class RunFacts:
    """What the root span says of a run. `id`: the name of its directory. `outcome`: how it stands, asked at its end."""

    id: str
    provider: str
    resumed: bool
    outcome: Callable[[], Mapping[str, Any]]


def collector(config: RunConfig) -> str | None:
    """The address that spans are posted to, without user, password and query; None where none are.

    Raises:
        ConfigError: `otel.enabled`, and a package is missing or OpenTelemetry's variables ask for what is not there.
    """
    if not config.otel.enabled or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    _check_packages()
    _check_protocol()
    name, address = _endpoint()
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        got = "" if "@" in address or "?" in address else f", got {address!r}"  # else it may hold a secret
        rule = f"must be an address that starts with http:// or https://{got}"
        raise ConfigError(f"{name}: {rule}; write it in full, for example {DEFAULT_ENDPOINT}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _check_packages() -> None:
    for package in PACKAGES:
        try:
            version(package)
        except PackageNotFoundError:
            raise ConfigError(f"otel.enabled: true needs the package {package}, found none; {EXTRA}") from None


def _check_protocol() -> None:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if asked := os.environ.get(name):
            if asked != PROTOCOL:
                raise ConfigError(f"{name}: must be {PROTOCOL!r}, got {asked!r}; set it so, and the collector's port")
            return


def _endpoint() -> tuple[str, str]:
    """The variable that names it, and the address, as OpenTelemetry's rules make it."""
    of_traces, of_all = ENDPOINTS
    if whole := os.environ.get(of_traces):
        return of_traces, whole
    return of_all, (os.environ.get(of_all) or DEFAULT_ENDPOINT).rstrip("/") + "/v1/traces"


@asynccontextmanager
async def spans_of(
    config: RunConfig, address: str | None, run: RunFacts, emit: Callable[[Event], None]
) -> AsyncIterator[Spans | None]:
    """The spans of one session of a run, from its start to its end; None where `address`, the collector's, is None.

    What could not be sent is told by an event and ends nothing; leaving waits for the last batch as long as
    OpenTelemetry's time limits say.
    """
    if address is None:
        yield None
        return
    from .spans import Spans, otlp_provider

    provider, exporter = await asyncio.to_thread(otlp_provider)
    spans = Spans(provider, run.id, config.otel.content, key_variable_names(config.llm))
    spans.begin_run(_given(config, run))
    try:
        yield spans
    except asyncio.CancelledError:
        spans.end_run({"state": "stopped", **await asyncio.to_thread(run.outcome)})
        raise
    except Exception as error:
        spans.end_run({"state": "failed", **await asyncio.to_thread(run.outcome)}, error)
        raise
    else:
        spans.end_run({"state": "done", **await asyncio.to_thread(run.outcome)})
    finally:
        await asyncio.to_thread(provider.shutdown)
        if exporter.lost:
            emit(SpansLost(spans=exporter.lost, address=address))


def _given(config: RunConfig, run: RunFacts) -> dict[str, Any]:
    return {
        "task": config.task.name or config.task.env,
        "seed": config.seed,
        "algorithm": config.trainer.algorithm,
        "steps": config.trainer.steps,
        "clock": config.clock,
        "provider": run.provider,
        "resumed": run.resumed,
    }
