"""What decides a run's results, and what a resumed run may change: each key of the config is on one side.

A resumed run is found by all keys that are neither in `FREE` nor in `BUDGETS`, whatever order and defaults its config
was written with. Sections that nothing reads, as those of the other algorithms, decide nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from ..agents.config import ROLES
from ..rl.algorithms.config import AlgorithmName

if TYPE_CHECKING:
    from ..rl.envs.config import TaskConfig
    from .run_config import RunConfig

# Where a run is written, what runs beside it, who is told, how long is waited. `*` stands for any model.
FREE = frozenset(
    {
        "run_dir",
        "protocol",  # what it fills in is there to be compared
        "task.workers",
        "task.step_timeout_s",
        "trainer.checkpoint_every_steps",
        "trainer.keep_looks",
        "trainer.evaluation.every_steps",
        "trainer.evaluation.episodes",
        "signal.scorers",  # the run has copies, and terms name scorers by a hash of their content
        "branches.executor",
        "branches.ray_address",
        "branches.workers",
        "llm.*.base_url",
        "llm.*.api_key_env",
        "llm.*.timeout_s",
        "llm.*.deadline_s",
        "llm.*.retries",
        "llm.*.price",
        "llm.limits.requests_per_minute",
        "llm.limits.tokens_per_minute",
        "llm.limits.concurrency",
        "llm.tracing",
        "otel.enabled",
        "otel.content",
    }
)
# What ends training or adaptation when it is used up. A resumed run may have more of it, and no less than it has used.
BUDGETS = frozenset(
    {"trainer.steps", "adaptation.max_share", "llm.limits.calls", "llm.limits.tokens", "llm.limits.usd"}
)
# Keys that count where `adaptation.enabled` is false; the rest of these sections is read by the loop only.
WITHOUT_ADAPTATION = frozenset({"adaptation.enabled", "preferences.ranker", "gate.margin"})
LOOP_SECTIONS = ("adaptation", "preferences", "learned_signals", "branches", "gate", "race", "llm")
WHOLE = frozenset({"task.env_args"})  # mappings whose keys are the user's


class Change(NamedTuple):
    """The value of one key before and now."""

    key: str
    before: Any
    now: Any


def values(config: RunConfig) -> dict[str, Any]:
    """Return every value as plain data by its dotted key; a role without a model of its own has the default's."""
    data = config.model_dump(mode="json")
    data["llm"] |= {role: data["llm"][role] or data["llm"]["default"] for role in ROLES}
    return dict(_leaves(data))


def deciding(config: RunConfig) -> dict[str, Any]:
    """Return the values that decide the results, by dotted key."""
    found = {key: value for key, value in values(config).items() if decides(key)}
    for role in ("default", *ROLES):
        chain = found[f"llm.{role}.fallback"]
        found[f"llm.{role}.fallback"] = [
            {name: value for name, value in model.items() if decides(f"llm.{role}.{name}")} for model in chain
        ]
    # Sections that nothing reads.
    unread = tuple(f"trainer.{name}." for name in get_args(AlgorithmName) if name != config.trainer.algorithm)
    found = {key: value for key, value in found.items() if not key.startswith(unread)}
    if not config.adaptation.enabled:
        found = {
            key: value
            for key, value in found.items()
            if key.partition(".")[0] not in LOOP_SECTIONS or key in WITHOUT_ADAPTATION
        }
    return found


def decides(key: str) -> bool:
    """Tell whether a run with another value of `key` is another run."""
    parts = key.split(".")
    general = ".".join(["llm", "*", *parts[2:]]) if parts[0] == "llm" and parts[1] in ("default", *ROLES) else key
    return key not in BUDGETS and not any(general == free or general.startswith(f"{free}.") for free in FREE)


def identity(config: RunConfig) -> str:
    """Return 16 hex digits of what decides the results."""
    return hashlib.sha256(json.dumps(deciding(config), sort_keys=True).encode()).hexdigest()[:16]


class TaskIdentity(NamedTuple):
    """What tells tasks apart: the name, or the import path of the environment, and 16 hex digits of the settings."""

    name: str
    digest: str


def task_identity(task: TaskConfig) -> TaskIdentity:
    """Return what makes it this task. Settings at their defaults do not count, so that later versions may have more."""
    set_ = task.model_dump(mode="json", exclude_defaults=True)
    kept = {name: value for name, value in set_.items() if decides(f"task.{name}")}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
    return TaskIdentity(task.name or task.env or "", digest)


def deciding_changes(before: RunConfig, now: RunConfig) -> list[Change]:
    """Return what makes two configs two different runs."""
    return _changes(deciding(before), deciding(now))


def all_changes(before: RunConfig, now: RunConfig) -> list[Change]:
    """Return every key that has another value now."""
    return _changes(values(before), values(now))


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    changes = [
        Change(key, before.get(key), now.get(key)) for key in sorted({*before, *now}) if before.get(key) != now.get(key)
    ]
    # A change of the default shows in each role that has no model of its own.
    told = {(change.key.removeprefix("llm.default."), str(change[1:])) for change in changes}
    return [c for c in changes if not _is_role(c.key) or (c.key.split(".", 2)[2], str(c[1:])) not in told]


def _is_role(key: str) -> bool:
    section, _, rest = key.partition(".")
    return section == "llm" and rest.partition(".")[0] in ROLES


def _leaves(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, value in data.items():
        key = f"{prefix}{name}"
        leaves += _leaves(value, f"{key}.") if isinstance(value, dict) and key not in WHOLE else [(key, value)]
    return leaves
