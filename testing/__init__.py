"""Fakes for people who build on cosignal: test a graph, a role, a tool or a reader of runs in milliseconds.

Nothing here trains, asks a provider or leaves this machine, and none of it needs pytest. See `docs/testing.md`.

Modules, in reading order:

`evidence`       the evidence of a run that is stuck, and of one that has just begun, as JSON objects to change
`answers`        texts that a Critic, a Generator and a Ranker may answer with
`chat_models`    `ScriptedChatModel`, a LangChain chat model that answers from a list, and a role on top of it
`server`         `MisbehavingServer`, a real HTTP server of chat completions that hangs, drips, cuts off or refuses
`fake_run`       `FakeTrainer`, `FakeBranchPool` and `LoopSession`: the whole graph without a single environment step
`run_directory`  `build_run_directory`: a finished run on disk for code that reads runs

Flow of a fake run: `LoopSession` opens the run directory and runs the real graph; the graph asks `FakeTrainer` over an
in-memory channel, hands branch jobs to `FakeBranchPool` and questions to a `ScriptedChatModel` per role (or to the
embedded rules), and writes the real `loop.db`.

A name is imported on first use, so that the server alone needs neither LangGraph nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chat_models import ScriptedChatModel, role_model
    from .evidence import early_evidence, feature_evidence, stuck_evidence
    from .fake_run import FakeBranchPool, FakeTrainer, Killed, LoopSession, fake_run_config
    from .run_directory import build_run_directory
    from .server import MisbehavingServer

_LAZY = {
    "FakeBranchPool": "fake_run",
    "FakeTrainer": "fake_run",
    "Killed": "fake_run",
    "LoopSession": "fake_run",
    "MisbehavingServer": "server",
    "ScriptedChatModel": "chat_models",
    "build_run_directory": "run_directory",
    "early_evidence": "evidence",
    "fake_run_config": "fake_run",
    "feature_evidence": "evidence",
    "role_model": "chat_models",
    "stuck_evidence": "evidence",
}

__all__ = [
    "FakeBranchPool", "FakeTrainer", "Killed", "LoopSession", "MisbehavingServer", "ScriptedChatModel",
    "build_run_directory", "early_evidence", "fake_run_config", "feature_evidence", "role_model", "stuck_evidence",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
