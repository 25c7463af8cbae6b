"""What the server of `langgraph dev` asks of the graph that `langgraph.json` names."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from cosignal.graphs.graph import studio_graph

ROOT = Path(__file__).resolve().parents[2]


def test_langgraph_json_names_a_factory_below_the_folder_that_it_installs() -> None:
    config = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
    assert config["dependencies"] == ["."]
    for target in config["graphs"].values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_its_graph_has_nodes_and_schemas_that_are_json() -> None:
    """The context has none: a trainer and a pool are no data."""
    shown = studio_graph()
    nodes = {node["id"] for node in shown.get_graph(xray=True).to_json()["nodes"]}
    assert {"observe", "critic", "generator", "validate", "decide", "promote"} <= nodes
    for schema in (shown.get_input_jsonschema(), shown.get_output_jsonschema()):
        assert "point" in json.dumps(schema)
    assert shown.get_context_jsonschema() is None
