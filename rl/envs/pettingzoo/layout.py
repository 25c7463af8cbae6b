"""The declarations of a PettingZoo `ParallelEnv`, as a `TaskSpec`.

Agents with equal spaces (and equal features, events and action names) form a group and share network parameters, or
those that the task's `groups()` names. If that is one group, it is called "agents", otherwise they are "group_0",
"group_1", … in the order of `possible_agents`. An environment may say more through attributes, all optional, or a
`Task` in its place:

    feature_specs   {agent: [FeatureSpec or its dict, …]}: values come in infos[agent]["features"], at reset too; a
                    distance may say at which value it is `done`
    event_specs     {agent: [EventSpec or its dict, …]}: counts come in infos[agent]["events"] (a missing one is 0)
    action_names    [str, …] for all agents
    has_masks       False: no action is ever forbidden and nobody leaves before the others (else: it may be so)
    has_success     whether infos[agent]["success"] is a success test (else: whether the key is seen in a short probe
                    of at most 300 steps, or a `Task` has a `success` of its own)
    deterministic   whether seed and actions decide everything (else: tried in a short probe)
    stay            number of the choice of not acting, in groups with that many choices
    return_range    (worst, best) undiscounted episode return of the team's reward
    max_steps       time limit in steps
    description     the rules in words
    describe()      the current state in a line of text

Spaces of Gymnasium that can be batched. Observations: Box of any shape (flattened), Discrete and MultiDiscrete
(one-hot), MultiBinary, and Dicts and Tuples of them, one part behind the other as Gymnasium's `flatten` has them; or
PettingZoo's Dict of "observation" and "action_mask". An image of bytes (a Box of height × width × channels) is divided
by 255. Actions: Discrete, with a mask in the
observation or in infos[agent]["action_mask"] where there is one; or a bounded Box.

Without `feature_specs` each component of the flat observation is a feature `obs_0`, `obs_1`, … with the bounds of its
Box. Where the Box has none (or an absurd one, beyond ±1e6) the feature is bounded by ±10 and its values are clipped to
that; the observation itself is left alone.

What does not keep PettingZoo's promises from the start is refused here; later it costs the episode (`batch`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ....errors import ConfigError
from ...task import new_step
from ..adapter import Task
from . import calls
from .declared import GroupLayout, Layout, declared_flag, declared_layout
from .translator import Translator, last_views, not_finite

PROBE_STEPS = 5
LONG_PROBE = 300  # where nobody says whether there is a success test: its key may come with an episode's end only


def read_layout(task: Task, n_max: int | None = None, agent_ids: bool = False) -> Layout:
    """Probe `task`, whose environment is reset and stepped a few times.

    Args:
        task: of one environment.
        n_max: time limit that the wrapper adds, None for none.
        agent_ids: see `declared.declared_layout`.

    Raises:
        ConfigError: what is declared cannot be batched, or reset or step do not return what PettingZoo asks for.
    """
    layout = declared_layout(task, n_max, agent_ids)
    # Played twice: what differs is not deterministic.
    first_seen, success_seen = _probe(task, layout)
    again, _ = _probe(task, layout)
    own_test = type(task).success is not Task.success
    shown = {"has_success": success_seen or own_test, "deterministic": first_seen == again}
    open_ones = {name: value for name, value in shown.items() if declared_flag(task, name) is None}
    return Layout(layout.spec.model_copy(update=open_ones), layout.groups)


def _probe(task: Task, layout: Layout) -> tuple[list[bytes], bool]:
    """Play the first steps of the episode with seed 0; return what was observed and whether a success test was seen.

    Raises ConfigError where something is not as a batch needs it, or a mask comes in spite of `has_masks` False.
    """
    translator, env, spec = Translator(layout), task.env, layout.spec
    layout_of = {agent: group for group in layout.groups for agent in group.ids}
    step = new_step(spec, 1)
    views, where = last_views(step), "at the reset"
    try:
        observations, infos = calls.reset(task, translator.agents, seed=0)
        translator.write_views(views, 0, task, set(env.agents), observations, infos)
        _require_finite(not_finite(spec, views))
        seen, success = [_as_bytes(layout_of, observations)], _shows_success(task, infos)
        # The long probe looks for the key "success", where that is still open.
        for t in range(PROBE_STEPS if success or declared_flag(task, "has_success") is not None else LONG_PROBE):
            if not env.agents or (t >= PROBE_STEPS and success):
                break
            acted, where = set(env.agents), f"in step {t + 1}"
            chosen = {agent: _action(task, layout_of[agent], agent, observations, infos) for agent in env.agents}
            observations, rewards, _, _, infos = calls.step(task, translator.agents, chosen)
            translator.write_views(views, 0, task, set(env.agents) or acted, observations, infos)
            translator.write_events(step.events, 0, task, acted, infos)
            translator.paid(rewards)
            _require_finite(not_finite(spec, views, step.events))
            # Bit for bit: the second probe must show the same.
            paid = np.array(list(rewards.values()), np.float64)
            seen.append(_as_bytes(layout_of, observations) + paid.tobytes())
            success = _shows_success(task, infos) or success
    except ConfigError as error:
        raise ConfigError(f"{error} ({where} of the episode with reset seed 0)") from error
    return seen, success


def _require_finite(wrong: Mapping[int, str]) -> None:
    if wrong:
        raise ConfigError(wrong[0])


def _action(task: Task, group: GroupLayout, agent: Any, observations: calls.ByAgent, infos: calls.ByAgent) -> Any:
    """Return an action for an agent; raise ConfigError where a mask comes in spite of `has_masks` False."""
    # One that has just ended may still be there, and observe nothing.
    if agent not in observations:
        return group.actions.probe(None)
    observed, info = observations[agent], infos.get(agent, {})
    if group.observations.given_mask(observed, info) is not None and declared_flag(task, "has_masks") is False:
        raise ConfigError(
            f"{task.name!r} has declared has_masks = False, but gave agent {agent!r} an action mask;"
            " take the declaration out"
        )
    return group.actions.probe(group.observations.mask(observed, info))


def _as_bytes(layout_of: Mapping[Any, GroupLayout], observations: Mapping[Any, Any]) -> bytes:
    known = sorted(observations.keys() & layout_of.keys(), key=str)
    flat = [layout_of[agent].observations.flat(observations[agent]) for agent in known]
    return b"".join(np.asarray(x, dtype=np.float64).tobytes() for x in flat)


def _shows_success(task: Task, infos: Mapping[Any, Any]) -> bool:
    """Return whether a success test is seen; raise ConfigError where it is no flag, and counts."""
    told = {agent: info for agent, info in infos.items() if isinstance(info, dict) and "success" in info}
    if type(task).success is Task.success and declared_flag(task, "has_success") is not False:
        task.success(told)
    return bool(told)
