"""What `langgraph.json` names: the adaptation graph of the default config, whose provider is the embedded rules.

It is for looking at the graph. Running it needs a trainer and the other live things that `cosignal.start` brings.
"""

from __future__ import annotations

from ..config import RunConfig
from .loop import Graph, build_graph


def graph() -> Graph:
    """The graph without its context: a trainer and a worker pool have no JSON schema, which the server asks for."""
    shown = build_graph(RunConfig())
    shown.context_schema = None
    return shown
