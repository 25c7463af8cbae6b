"""Are spans sent, and does anybody listen where they go? A connection is opened and closed; nothing is sent."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..config import RunConfig
from ..errors import ConfigError
from ..graphs.otel import ENDPOINTS, collector
from .check import Check, from_error, ok
from .network import try_address


def check_spans(config: RunConfig) -> Iterator[Check]:
    """A collector that does not answer is a warning: the run goes on without it."""
    try:
        address = collector(config)
    except ConfigError as error:
        yield from from_error("otel", error)
        return
    if address is not None:
        yield try_address("otel", address, first=False)
        return
    named = [name for name in ENDPOINTS if os.environ.get(name)]
    yield ok("otel", f"off: no spans are sent, {', '.join(named)} is ignored" if named else "off: no spans are sent")
