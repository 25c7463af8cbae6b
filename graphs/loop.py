"""The adaptation loop, on one screen."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from ..config import RunConfig
from .approve import approve
from .check import check
from .confirm import confirm
from .context import Ctx
from .decide import decide
from .monitor import monitor
from .observe import observe
from .promote import promote
from .rank_transitions import rank_transitions
from .remove import remove_shaping
from .roles import critic, generator, rank_proposals
from .routing import (
    after_approve,
    after_check,
    after_confirm,
    after_critic,
    after_decide,
    after_generator,
    after_monitor,
    after_observe,
    after_rank,
)
from .state import State
from .tools import critic_tools
from .validate import validate

Graph = CompiledStateGraph[State, Ctx, State, State]


def build_graph(config: RunConfig, checkpointer: BaseCheckpointSaver[str] | None = None) -> Graph:
    """The graph of a run, compiled; starts no process and contacts nobody."""
    graph = StateGraph(State, context_schema=Ctx)

    graph.add_node("observe", observe)
    graph.add_node("monitor", monitor)
    graph.add_node("remove_shaping", remove_shaping)
    graph.add_node("critic", critic)
    graph.add_node("critic_tools", critic_tools())
    graph.add_node("rank_transitions", rank_transitions)
    graph.add_node("generator", generator)
    graph.add_node("check", check)
    graph.add_node("rank_proposals", rank_proposals)
    graph.add_node("validate", validate)
    graph.add_node("decide", decide)
    graph.add_node("approve", approve)
    graph.add_node("confirm", confirm)
    graph.add_node("promote", promote)

    graph.add_edge(START, "observe")
    graph.add_conditional_edges("observe", after_observe)
    graph.add_conditional_edges("monitor", after_monitor)
    graph.add_edge("remove_shaping", "check")
    graph.add_conditional_edges("critic", after_critic)
    graph.add_edge("critic_tools", "critic")
    graph.add_edge("rank_transitions", "generator")
    graph.add_conditional_edges("generator", after_generator)
    graph.add_conditional_edges("check", after_check)
    graph.add_conditional_edges("rank_proposals", after_rank)
    graph.add_edge("validate", "decide")
    graph.add_conditional_edges("decide", after_decide)
    graph.add_conditional_edges("approve", after_approve)
    graph.add_conditional_edges("confirm", after_confirm)
    graph.add_edge("promote", "observe")

    return graph.compile(checkpointer=checkpointer, name="cosignal").with_config(recursion_limit=step_limit(config))


def step_limit(config: RunConfig) -> int:
    """More steps than a run of this config can take: two a point, and at most one intervention at each."""
    points = config.trainer.steps // config.adaptation.interval + 2
    intervention = 2 * config.adaptation.evidence_calls + 2 + 5 * config.adaptation.rounds + 3
    return points * (2 + intervention)


def thread(run_id: str) -> RunnableConfig:
    """LangGraph's name for the checkpoints of a run."""
    return {"configurable": {"thread_id": run_id}}
