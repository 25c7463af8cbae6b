"""Check what cosignal understood of the task, and whether the first signal fits it; `play` and `repeat` do the rest.

A native task is played right here. Any other is somebody else's code, and has processes of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from ..agents.llm.secrets import key_variable_names
from ..config.run_config import RunConfig
from ..errors import ConfigError, SignalError
from ..rl.child import START_S, Child, answers_of
from ..rl.envs.config import TaskConfig
from ..rl.envs.probe import probe_task, task_lost_errors
from ..rl.envs.registry import NATIVE
from ..rl.signals.scorer import Scorers
from ..rl.signals.shaping import CompiledSignal
from ..rl.task import TaskSpec
from . import task_process
from .check import Check, counted, first_names, ok, problems_from, warning
from .play import Say
from .repeat import check_processes
from .task_process import PlayAnswer, PlayRequest

HASH_SEEDS = ("0", "1", "2")  # PYTHONHASHSEED of the processes that play; the steps of the first are compared
NAMES_SHOWN = 12  # features and events of a group, as they are declared


def check_task(config: RunConfig, tell: Say) -> tuple[list[Check], TaskSpec | None]:
    """Build the task, play it at random, and fit the first signal to it.

    Args:
        config: the config.
        tell: is given lines of progress.

    Returns:
        The checks, and what the task says of itself; None where it cannot be built.
    """
    secrets = key_variable_names(config.llm)
    try:
        spec = probe_task(config.task, secrets).spec
    except ConfigError as error:
        return list(problems_from("task", error)), None
    if config.task.name in NATIVE:
        play_checks = task_process.look_at(config.task, tell).checks
    else:
        play_checks = _look_at_others(config.task, secrets, tell)
    return [*check_spec(spec), *check_time_limit(config), *play_checks, *check_signal(config, spec)], spec


def _look_at_others(config: TaskConfig, secrets: Sequence[str], tell: Say) -> list[Check]:
    """Look at somebody else's environment, played in processes of its own."""

    def child(hash_seed: str, repeat_steps: int | None = None) -> Child:
        request = PlayRequest(task=config, repeat_steps=repeat_steps).model_dump_json()
        within_s, hashes = START_S + config.step_timeout_s, {"PYTHONHASHSEED": hash_seed}
        return Child(task_process.MODULE, request, within_s, secrets=secrets, variables=hashes, tell=tell)

    def ask(*children: Child) -> list[PlayAnswer]:
        with task_lost_errors(config):
            try:
                return [PlayAnswer.model_validate(answer) for answer in answers_of(children)]
            finally:
                sys.stderr.write(children[0].printed)  # it is no result; the others print the same

    first, *others = HASH_SEEDS
    checks: list[Check] = []
    try:
        [found] = ask(child(first))
        checks = found.checks
        if found.digests:
            steps = len(found.digests)
            same, *rest = ask(child(first, steps), *(child(seed, steps) for seed in others))
            *checks, here = checks
            checks.append(check_processes(here, found.digests, same.digests, [answer.digests for answer in rest]))
    except ConfigError as error:
        checks += problems_from("task.play", error)
    return checks


def check_time_limit(config: RunConfig) -> Iterator[Check]:
    """Yield a warning where reaching the time limit is learned as an end."""
    if config.trainer.time_limit == "termination":
        yield warning(
            "trainer.time_limit",
            "termination: what would follow the time limit counts for nothing, which is wrong and EPyMARL's way",
            "leave it out, unless the run is to be held against published ones (docs/protocols.md)",
        )


def check_spec(spec: TaskSpec) -> Iterator[Check]:
    """Yield what the task says of itself: agents, spaces, features, events, and the range of returns."""
    limit = "no time limit declared" if spec.max_steps is None else f"at most {spec.max_steps:,} steps an episode"
    success = "has a success test" if spec.has_success else "no success test: the gate looks at sparse return alone"
    yield ok("task", f"{spec.name}: {len(spec.agents)} agents in {counted(spec.groups, 'group')}, {limit}, {success}")
    for group in spec.groups:
        if group.continuous:
            bounds = ", ".join(f"[{low:g}, {high:g}]" for low, high in group.action_bounds)
            actions = f"choose {len(group.action_bounds)} numbers in {bounds}"
        else:
            names = f" ({', '.join(group.action_names)})" if group.action_names else ""
            actions = f"{group.n_actions} actions{names}"
        features = [
            f"{feature.name} [{feature.low:g}, {feature.high:g}]"
            + ("" if feature.done is None else f" (done at {feature.done:g})")
            for feature in group.features
        ]
        message = (
            f"{', '.join(group.agents)}: observe {group.obs_size} numbers, {actions}; "
            f"features {first_names(features, NAMES_SHOWN) or 'none'}; "
            f"events {first_names(group.event_names(), NAMES_SHOWN) or 'none'}"
        )
        # Without declared features each number of an observation is one, and says nothing by its name.
        if all(feature.name == f"obs_{k}" for k, feature in enumerate(group.features)):
            remedy = "declare feature_specs and event_specs in the environment"
            yield warning(f"task.{group.name}", f"{message}; features without a meaning tell models little", remedy)
            continue
        yield ok(f"task.{group.name}", message)
        silent = [feature.name for feature in group.features if not feature.description]
        silent += [event.name for event in group.events if not event.description]
        if silent:
            rule = f"no description of {first_names(silent, NAMES_SHOWN)}, so that models guess what they mean"
            remedy = (
                "say in a line what each measures, its value once the thing is done or gone, whether it is the agent's "
                "own or the team's, and whether a way is straight or walked"
            )
            yield warning(f"task.{group.name}.descriptions", rule, remedy)
    if spec.return_range is None:
        rule = "not declared, so margins are a share of the range seen in the first training steps"
        yield warning("task.return_range", rule, "declare return_range = (worst, best) in the environment")
    else:
        low, high = spec.return_range
        yield ok("task.return_range", f"episode return from {low:g} to {high:g}")


def check_signal(config: RunConfig, spec: TaskSpec) -> Iterator[Check]:
    """Check that the signal which the run starts with fits the task."""
    signal = config.signal.to_signal()
    try:
        CompiledSignal(signal, spec, Scorers(config.signal.scorers))
    except SignalError as error:
        yield from problems_from("signal.terms", error)
        return
    terms = f"{counted(signal.terms, 'term')} with beta {signal.beta:g}" if signal.terms else "the plain sparse reward"
    yield ok("signal", f"starts with {terms}")
