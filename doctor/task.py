"""What cosignal understood of the task, and whether the first signal fits it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence

from ..config import RunConfig
from ..errors import ConfigError, SignalError
from ..rl.envs import task_spec
from ..rl.signals.scorer import Scorers
from ..rl.signals.shaping import CompiledSignal
from ..rl.task import FeatureSpec, GroupSpec, TaskSpec
from .check import Check, from_error, ok, warning
from .play import check_play

NAMES_SHOWN = 12


def check_task(config: RunConfig) -> tuple[list[Check], TaskSpec | None]:
    """Builds the task and plays it at random for seconds; None where it cannot be built."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what somebody else's environment prints is no result
            spec = task_spec(config.task)
    except ConfigError as error:
        return list(from_error("task", error)), None
    with contextlib.redirect_stdout(sys.stderr):
        played = list(check_play(config.task, spec))
    return [*_told(spec), *played, *_check_signal(config, spec)], spec


def _told(spec: TaskSpec) -> Iterator[Check]:
    limit = "no time limit declared" if spec.max_steps is None else f"at most {spec.max_steps:,} steps an episode"
    success = "has a success test" if spec.has_success else "no success test: the gate looks at sparse return alone"
    yield ok("task", f"{spec.name}: {len(spec.agents)} agents in {_count(spec.groups, 'group')}, {limit}, {success}")
    for group in spec.groups:
        yield _group(group)
    yield _return_range(spec)


def _group(group: GroupSpec) -> Check:
    words = (
        f"{', '.join(group.agents)}: observe {group.obs_size} numbers, {_actions(group)}; "
        f"features {_names([_feature(feature) for feature in group.features])}; events {_names(group.event_names())}"
    )
    if all(feature.name == f"obs_{k}" for k, feature in enumerate(group.features)):
        remedy = "declare feature_specs and event_specs in the environment"
        return warning(f"task.{group.name}", f"{words}; features without a meaning tell models little", remedy)
    return ok(f"task.{group.name}", words)


def _actions(group: GroupSpec) -> str:
    if group.continuous:
        bounds = ", ".join(f"[{low:g}, {high:g}]" for low, high in group.action_bounds)
        return f"choose {len(group.action_bounds)} numbers in {bounds}"
    names = f" ({', '.join(group.action_names)})" if group.action_names else ""
    return f"{group.n_actions} actions{names}"


def _feature(feature: FeatureSpec) -> str:
    return f"{feature.name} [{feature.low:g}, {feature.high:g}]"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more if names else "none"


def _return_range(spec: TaskSpec) -> Check:
    if spec.return_range is None:
        rule = "not declared, so margins are a share of the range seen in the first training steps"
        return warning("task.return_range", rule, "declare return_range = (worst, best) in the environment")
    low, high = spec.return_range
    return ok("task.return_range", f"episode return from {low:g} to {high:g}")


def _check_signal(config: RunConfig, spec: TaskSpec) -> Iterator[Check]:
    signal = config.signal.to_signal()
    try:
        CompiledSignal(signal, spec, Scorers(config.signal.scorers))
    except SignalError as error:
        yield from from_error("signal.terms", error)
        return
    words = f"{_count(signal.terms, 'term')} with beta {signal.beta:g}" if signal.terms else "the plain sparse reward"
    yield ok("signal", f"starts with {words}")


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
