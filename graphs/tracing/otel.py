"""OpenTelemetry spans of a run: whether they are wanted, whether they can be made, and where they go.

This module imports none of OpenTelemetry; `spans` does, and is imported only where spans are wanted.

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
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...agents.llm.secrets import key_variable_names
from ...config.run_config import RunConfig
from ...errors import ConfigError
from ...packages import installed_version
from ...runs.events import Event, SpansLost

if TYPE_CHECKING:
    from .spans import Spans

EXTRA = "pip install 'cosignal[otel]'"
PACKAGES = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "openinference-semantic-conventions")
# OpenTelemetry's variables: the address of the traces alone, and that of all signals, below which traces have a path.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
TRACES_PATH = "/v1/traces"
DEFAULT_ENDPOINT = "http://localhost:4318"  # OpenTelemetry's
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"


@dataclass(frozen=True)
class RunFacts:
    """Facts of a run that its root span has.

    Attributes:
        id: the name of its directory.
        provider: who answers for the roles.
        resumed: whether an earlier process began it.
        outcome: returns how the run stands; called at its end.
    """

    id: str
    provider: str
    resumed: bool
    outcome: Callable[[], Mapping[str, Any]]


def collector_address(config: RunConfig) -> str | None:
    """Return the address that spans are posted to, without user, password and query; None where none are sent.

    Raises:
        ConfigError: `otel.enabled`, and a package is missing or OpenTelemetry's variables ask for what is not there.
    """
    if not config.otel.enabled or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    for package in PACKAGES:
        if installed_version(package) is None:
            raise ConfigError(f"otel.enabled: true needs the package {package}, found none; {EXTRA}")
    # The variable of the traces goes before that of all signals, for the protocol and for the address.
    protocol_variable = next(filter(os.environ.get, PROTOCOLS), None)
    if protocol_variable is not None and (asked := os.environ[protocol_variable]) != PROTOCOL:
        raise ConfigError(
            f"{protocol_variable}: must be {PROTOCOL!r}, got {asked!r}; set it so, and the collector's port"
        )
    variable, all_signals = ENDPOINTS
    address = os.environ.get(variable)
    if not address:
        variable = all_signals
        address = (os.environ.get(all_signals) or DEFAULT_ENDPOINT).rstrip("/") + TRACES_PATH
    # A user, a password or a key in the query is not repeated, in an error neither.
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        got = "" if "@" in address or "?" in address else f", got {address!r}"  # else it may hold a secret
        rule = f"must be an address that starts with http:// or https://{got}"
        raise ConfigError(f"{variable}: {rule}; write it in full, for example {DEFAULT_ENDPOINT}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@asynccontextmanager
async def open_spans(
    config: RunConfig, address: str | None, run: RunFacts, emit: Callable[[Event], None]
) -> AsyncIterator[Spans | None]:
    """Open the spans of one session of a run, from its start to its end.

    Spans that could not be sent are reported by an event and end nothing. Leaving waits for the last batch as long as
    OpenTelemetry's time limits say.

    Args:
        config: the config of the run.
        address: the collector's, as `collector_address` returns it; with None there are no spans.
        run: what the root span says.
        emit: takes the event `SpansLost`.
    """
    if address is None:
        yield None
        return
    # OpenTelemetry is an extra, and is imported only by who asks for spans.
    from .spans import Spans, otlp_provider

    provider, exporter = await asyncio.to_thread(otlp_provider)
    spans = Spans(provider, run.id, config.otel.content, key_variable_names(config.llm))
    spans.begin_run(
        {
            "task": config.task.name or config.task.env,
            "seed": config.seed,
            "algorithm": config.trainer.algorithm,
            "steps": config.trainer.steps,
            "clock": config.clock,
            "provider": run.provider,
            "resumed": run.resumed,
        }
    )
    # However the run ends, its root span says how, and what is in the batch is sent.
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
