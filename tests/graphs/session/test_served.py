"""What a LangGraph server asks of the graph that `langgraph.json` names: to draw it, to read a thread, to run it.

`entered` does what `langgraph_api.graph.get_graph` does around the factory (langgraph-api 0.16); the server itself is
no dependency.
"""

from __future__ import annotations

import importlib
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cosignal import RunConfig, RunView
from cosignal.errors import ResumeError
from cosignal.graphs.graph import loop_topology
from cosignal.graphs.session.served import CONFIG_VARIABLE, ServedGraph, make_graph
from cosignal.runs.graph_picture import Topology
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from short_runs import SHORT

ROOT = Path(__file__).resolve().parents[3]
THREAD = str(uuid.UUID(int=7))


@asynccontextmanager
async def entered(**configurable: Any) -> AsyncIterator[ServedGraph]:
    # The factory's own config is the ambient one while the graph is used. Its runtime has no stream, and its
    # checkpointer is the server's.
    server = {"__pregel_runtime": SimpleNamespace(), "__pregel_checkpointer": InMemorySaver()}
    var_child_runnable_config.set({"configurable": {**configurable, **server}})
    try:
        async with make_graph({"configurable": {**configurable, **server}}) as graph:
            yield graph.copy(update={"checkpointer": InMemorySaver(), "store": None})
    finally:
        var_child_runnable_config.set(None)


def on(thread_id: str = THREAD, **more: Any) -> Any:
    return {"configurable": {"thread_id": thread_id, **more}}


# ---------------------------------------------------------------- drawing


def test_langgraph_json_names_a_factory_below_the_folder_that_it_installs() -> None:
    config = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
    assert config["dependencies"] == ["."]
    [target] = config["graphs"].values()
    module, _, name = target.partition(":")
    assert getattr(importlib.import_module(module), name) is make_graph


async def test_its_graph_is_the_one_that_reports_draw_and_has_schemas_that_are_json() -> None:
    """The context has none: a trainer and a pool are no data."""
    async with entered() as graph:
        assert Topology.from_json(graph.get_graph(xray=True).to_json()) == loop_topology()
        for schema in (graph.get_input_jsonschema(), graph.get_output_jsonschema()):
            assert "point" in json.dumps(schema)
        assert graph.get_context_jsonschema() is None


# ---------------------------------------------------------------- which config


def write_config(path: Path, **settings: Any) -> Path:
    path.write_text(RunConfig.model_validate(settings).resolved_json())
    return path


async def test_the_config_is_the_assistants_else_the_environments_else_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "mine.yaml", seed=5)
    elsewhere = write_config(tmp_path.parent / "elsewhere.yaml", seed=6)
    async with entered() as graph:
        assert graph.run_config == RunConfig()
    monkeypatch.setenv(CONFIG_VARIABLE, str(elsewhere))
    async with entered() as graph:
        assert graph.run_config.seed == 6
    async with entered(config="mine.yaml") as graph:
        assert graph.run_config.seed == 5
    async with entered(config="overlap") as graph:
        assert graph.run_config.clock == "overlap"


@pytest.mark.parametrize("named", ["../elsewhere.yaml", "/etc/hostname", 3, ["mine.yaml"]])
async def test_a_request_names_no_file_outside_of_the_servers_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: Any
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_config(tmp_path / "elsewhere.yaml")
    with pytest.raises(RuntimeError, match="config: must be the name of a packaged example or a file below"):
        async with entered(config=named):
            pass


@pytest.mark.parametrize("thread_id", ["../x", "*", "a" * 65, "a/b"])
async def test_a_thread_names_no_other_directory(thread_id: str) -> None:
    with pytest.raises(RuntimeError, match="thread_id: must be at most 64 letters"):
        async with entered(thread_id=thread_id):
            pass


async def test_a_run_whose_name_ends_alike_is_no_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs" / "two_switch-s1-20261130-000000-beef"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"id": run.name}))
    config = write_config(tmp_path / "mine.yaml", run_dir=tmp_path / "runs")
    monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    async with entered(thread_id="beef") as graph:
        assert graph.checkpointer is None


# ---------------------------------------------------------------- what is refused


async def test_a_run_goes_on_from_its_end_and_its_state_is_not_edited(tmp_path: Path) -> None:
    async with entered(thread_id=THREAD) as graph:
        with pytest.raises(RuntimeError, match=r"ResumeError: a run goes on from its last checkpoint.*cosignal replay"):
            [chunk async for chunk in graph.astream(None, on(checkpoint_id="1f"))]
        with pytest.raises(ResumeError, match="written by its nodes"):
            await graph.aupdate_state(on(), {"point": 3})
        with pytest.raises(ResumeError, match="written by its nodes"):
            graph.update_state(on(), {"point": 3})
        with pytest.raises(RuntimeError, match="an answer needs a run that asks"):
            [chunk async for chunk in graph.astream(Command(resume={"type": "approve"}), on())]


# ---------------------------------------------------------------- running


@pytest.mark.integration
async def test_a_thread_is_a_run_that_asks_is_answered_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SHORT, "run_dir": tmp_path / "runs", "trainer": {**SHORT["trainer"], "steps": 2_560}}
    settings["adaptation"] = {**SHORT["adaptation"], "approve": "human", "gated": False}
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "mine.yaml", **settings)
    assistant = {"thread_id": THREAD, "config": "mine.yaml"}

    # A new thread starts a run; it is over when the run asks.
    async with entered(**assistant) as graph:
        modes = ["debug", "updates", "custom"]
        chunks = [chunk async for chunk in graph.astream({}, on(), stream_mode=modes, context={"config": "mine.yaml"})]
    [path] = (tmp_path / "runs").iterdir()
    types = [data["type"] for mode, data in chunks if mode == "custom"]
    assert (types[0], types[-1]) == ("run_started", "approval_needed")
    assert {"progress", "node_entered", "diagnosed", "proposal_made"} <= set(types)
    logged = [json.loads(line)["event"] for line in (path / "log.jsonl").read_text().splitlines()]
    assert [kind for kind in types if kind != "progress"] == logged  # each event once
    updates = [next(iter(data)) for mode, data in chunks if mode == "updates"]
    assert updates[-3:] == ["validate", "decide", "__interrupt__"]
    last = [data["payload"] for mode, data in chunks if mode == "debug" and data["type"] == "checkpoint"][-1]
    assert last["next"] == ["approve"]
    view = RunView(path)
    assert (view.state(), json.loads((path / "run.json").read_text())["id"]) == ("stopped", THREAD)

    # The thread is read from the run's own checkpoints.
    async with entered(**assistant) as graph:
        state = await graph.aget_state(on())
        [question] = state.interrupts
        assert question.value["action_requests"][0]["args"] | {"kind": "approval_needed"} == view.waiting_for()
        assert (state.next, state.config["configurable"]["thread_id"]) == (("approve",), THREAD)
        assert len([snapshot async for snapshot in graph.aget_state_history(on())]) > 5

        with pytest.raises(RuntimeError, match="ApprovalError: the answer must approve or reject"):
            [chunk async for chunk in graph.astream(Command(resume="sure"), on())]

        # The answer goes on with the same run, to its end: one mode, whose chunks come bare.
        command: Command[Any] = Command(resume={question.id: {"decisions": [{"type": "reject", "message": "not now"}]}})
        nodes = [next(iter(data)) async for data in graph.astream(command, on(), stream_mode="updates")]
    while view.waiting_for() is not None:  # the next question, where there is one
        async with entered(**assistant) as graph:
            parts = [part async for part in graph.astream(command, on(), stream_mode=["custom"], version="v2")]
            assert {part["type"] for part in parts} == {"custom"}
            command = Command(resume=[{"type": "ignore", "args": None}])
    assert nodes[1] == "approve"
    assert view.decisions()[0].verdict == "declined"
    assert view.status()["state"] == "done"
    assert list((tmp_path / "runs").iterdir()) == [path]

    async with entered(**assistant) as graph:
        assert (await graph.aget_state(on())).values["finished"]
        with pytest.raises(RuntimeError, match="every run of this config is done"):
            [chunk async for chunk in graph.astream({}, on())]
