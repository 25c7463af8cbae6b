"""The adaptation loop, on one screen."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from ..config.run_config import RunConfig
from ..runs.graph_picture import Topology
from .context import Context
from .nodes.approve import approve
from .nodes.check import check
from .nodes.confirm import confirm
from .nodes.critic import critic
from .nodes.critic_tools import critic_tools
from .nodes.decide import decide
from .nodes.fit_signals import fit_signals
from .nodes.generator import generator
from .nodes.given_signals import given_signals
from .nodes.monitor import monitor
from .nodes.observe import observe
from .nodes.promote import promote
from .nodes.race import race
from .nodes.rank_proposals import rank_proposals
from .nodes.rank_transitions import rank_transitions
from .nodes.remove_shaping import remove_shaping
from .nodes.validate import validate
from .routing import (
    after_approve,
    after_check,
    after_confirm,
    after_critic,
    after_decide,
    after_generator,
    after_monitor,
    after_observe,
    after_race,
    after_rank,
    after_remove_shaping,
)
from .state import State

Graph = CompiledStateGraph[State, Context, State, State]


def build_graph(config: RunConfig, checkpointer: BaseCheckpointSaver[str] | None = None) -> Graph:
    """Compile the graph of a run; this starts no process and contacts nobody."""
    graph = StateGraph(State, context_schema=Context)

    graph.add_node("observe", observe)
    graph.add_node("monitor", monitor)
    graph.add_node("remove_shaping", remove_shaping)
    graph.add_node("given_signals", given_signals)
    graph.add_node("critic", critic)
    graph.add_node("critic_tools", critic_tools())
    graph.add_node("rank_transitions", rank_transitions)
    graph.add_node("fit_signals", fit_signals)
    graph.add_node("generator", generator)
    graph.add_node("check", check)
    graph.add_node("rank_proposals", rank_proposals)
    graph.add_node("race", race)
    graph.add_node("validate", validate)
    graph.add_node("decide", decide)
    graph.add_node("approve", approve)
    graph.add_node("confirm", confirm)
    graph.add_node("promote", promote)

    graph.add_edge(START, "observe")
    graph.add_conditional_edges("observe", after_observe)
    graph.add_conditional_edges("monitor", after_monitor)
    graph.add_conditional_edges("remove_shaping", after_remove_shaping)
    graph.add_edge("given_signals", "check")
    graph.add_conditional_edges("critic", after_critic)
    graph.add_edge("critic_tools", "critic")
    graph.add_edge("rank_transitions", "fit_signals")
    graph.add_edge("fit_signals", "generator")
    graph.add_conditional_edges("generator", after_generator)
    graph.add_conditional_edges("check", after_check)
    graph.add_conditional_edges("rank_proposals", after_rank)
    graph.add_conditional_edges("race", after_race)
    graph.add_edge("validate", "decide")
    graph.add_conditional_edges("decide", after_decide)
    graph.add_conditional_edges("approve", after_approve)
    graph.add_conditional_edges("confirm", after_confirm)
    graph.add_edge("promote", "observe")

    return graph.compile(checkpointer=checkpointer, name="cosignal").with_config(recursion_limit=step_limit(config))


def step_limit(config: RunConfig) -> int:
    """Return more steps than a run of this config can take: two a point, and at most one intervention at each.

    A rung of a race takes a point of its own under the lockstep clock; else a whole race may run between two points.
    """
    points = config.trainer.steps // config.adaptation.interval + 2
    # a ranking passes through the fit of signals, too
    fits = bool(config.learned_signals.enabled) or config.preferences.ranker != "none"
    intervention = 2 * config.adaptation.evidence_calls + 2 + fits + 5 * config.adaptation.rounds + 3
    race = 0
    if config.gate.claim != "signal":
        race = 2 if config.clock == "lockstep" else config.race.longest + 2
    return points * (2 + intervention + race)


def thread(run_id: str) -> RunnableConfig:
    """Return LangGraph's name for the checkpoints of a run."""
    return {"configurable": {"thread_id": run_id}}


def loop_topology() -> Topology:
    """Return the nodes and edges of the graph, for drawings of it."""
    return Topology.from_json(build_graph(RunConfig()).get_graph(xray=True).to_json())
