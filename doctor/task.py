"""Check what cosignal understood of the task, what random play shows of it, and whether the first signal fits it.

Random play finds out whether the task keeps PettingZoo's contract, what features, events and rewards do, whether the
same seed gives the same states, and what is missing for a good run.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..config.run_config import RunConfig
from ..errors import ConfigError, SignalError
from ..rl.envs.config import TaskConfig
from ..rl.envs.factory import make_task, task_spec
from ..rl.envs.load_env import task_factory
from ..rl.envs.registry import NATIVE
from ..rl.signals.scorer import Scorers
from ..rl.signals.shaping import CompiledSignal
from ..rl.task import ActionArray, BatchedTask, GroupSpec, Step, TaskSpec
from .check import Check, ok, problem, problems_from, warning

ENVS = 4
MOST_STEPS = 2_000  # of each environment
PATIENCE_S = 3.0  # for all of the play; a slow environment is seen for fewer steps
CONTRACT_STEPS = 100
SLACK = 1e-4  # of a range, by which single precision may leave it
NAMES_SHOWN = 12  # features and events of a group, as they are declared
RANGES_SHOWN = 8  # features of a group, as they were seen


def check_task(config: RunConfig) -> tuple[list[Check], TaskSpec | None]:
    """Build the task, play it at random for seconds, and fit the first signal to it.

    Returns:
        The checks, and what the task says of itself; None where it cannot be built.
    """
    # What somebody else's environment prints is no result.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            spec = task_spec(config.task)
        except ConfigError as error:
            return list(problems_from("task", error)), None
        play_checks = list(check_play(config.task, spec))
    return [*check_spec(spec), *play_checks, *check_signal(config, spec)], spec


def check_spec(spec: TaskSpec) -> Iterator[Check]:
    """Yield what the task says of itself: agents, spaces, features, events, and the range of returns."""
    limit = "no time limit declared" if spec.max_steps is None else f"at most {spec.max_steps:,} steps an episode"
    success = "has a success test" if spec.has_success else "no success test: the gate looks at sparse return alone"
    yield ok("task", f"{spec.name}: {len(spec.agents)} agents in {_count(spec.groups, 'group')}, {limit}, {success}")
    for group in spec.groups:
        if group.continuous:
            bounds = ", ".join(f"[{low:g}, {high:g}]" for low, high in group.action_bounds)
            actions = f"choose {len(group.action_bounds)} numbers in {bounds}"
        else:
            names = f" ({', '.join(group.action_names)})" if group.action_names else ""
            actions = f"{group.n_actions} actions{names}"
        features = [f"{feature.name} [{feature.low:g}, {feature.high:g}]" for feature in group.features]
        message = (
            f"{', '.join(group.agents)}: observe {group.obs_size} numbers, {actions}; "
            f"features {_first(features, NAMES_SHOWN) or 'none'}; "
            f"events {_first(group.event_names(), NAMES_SHOWN) or 'none'}"
        )
        # Without declared features each number of an observation is one, and says nothing by its name.
        if all(feature.name == f"obs_{k}" for k, feature in enumerate(group.features)):
            remedy = "declare feature_specs and event_specs in the environment"
            yield warning(f"task.{group.name}", f"{message}; features without a meaning tell models little", remedy)
        else:
            yield ok(f"task.{group.name}", message)
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
    terms = f"{_count(signal.terms, 'term')} with beta {signal.beta:g}" if signal.terms else "the plain sparse reward"
    yield ok("signal", f"starts with {terms}")


def check_play(config: TaskConfig, spec: TaskSpec) -> Iterator[Check]:
    """Play the task at random, for a few seconds at most, and yield what that shows."""
    try:
        if config.name not in NATIVE:
            yield check_contract(config)
        task = make_task(config, ENVS)
        played = play(task, MOST_STEPS, PATIENCE_S)
        yield from check_outcomes(played, spec)
        for g, group in enumerate(spec.groups):
            if group.features:
                yield from check_features(group, played.low[g], played.high[g])
            if group.events:
                yield check_events(group, played.events[g])
        task.close()
        # Who declares the range of returns has added the rewards up, and knows how they are paid.
        if config.name is None and spec.return_range is None:
            yield from check_team_reward(config)
        yield check_determinism(config, spec)
    except ConfigError as error:
        yield from problems_from("task.play", error)
    except Exception as error:  # noqa: BLE001 somebody else's code may raise anything
        rule = f"the environment must survive random play, it raised {type(error).__name__}: {error}"
        yield problem("task.play", rule, "mend it; a run would restart it and lose the episode each time")


# ---------------------------------------------------------------- playing


def random_actions(spec: TaskSpec, step: Step, rng: np.random.Generator) -> list[ActionArray]:
    """Draw an action for every agent: [g] [E, A_g] of allowed choices, all as likely, or [g] [E, A_g, …] of numbers,
    uniform in -1..1."""
    actions: list[ActionArray] = []
    for g, group in enumerate(spec.groups):
        shape = step.obs[g].shape[:2]
        if group.continuous:
            actions.append(rng.uniform(-1, 1, (*shape, *group.action_shape)).astype(np.float32))
            continue
        # The largest of independent uniform numbers is each choice's equally often; what is forbidden has 0.
        weights = rng.random((*shape, group.n_actions))
        actions.append((weights if step.masks is None else weights * step.masks[g]).argmax(-1))
    return actions


@dataclass
class Played:
    """Counts of what was seen in random play."""

    low: list[NDArray[np.float64]]  # [g] [F], the lowest value of each feature
    high: list[NDArray[np.float64]]  # [g] [F]
    events: list[NDArray[np.int64]]  # [g] [V], how often each event was
    steps: int = 0  # of all environments
    rewarded: int = 0  # steps with another reward than 0
    returns: list[float] = field(default_factory=list)  # of episodes that ended
    lengths: list[int] = field(default_factory=list)
    successes: int = 0
    cut: int = 0  # episodes that a time limit ended
    lost: int = 0  # episodes that ended since the environment raised

    def add(self, step: Step, returns: NDArray[np.float64], lengths: NDArray[np.int64]) -> None:
        """Count one joint step; `returns` and `lengths` [E] of the running episodes are brought forward."""
        for g, features in enumerate(step.last_features):
            flat = features.reshape(-1, features.shape[-1])
            self.low[g], self.high[g] = np.minimum(self.low[g], flat.min(0)), np.maximum(self.high[g], flat.max(0))
            self.events[g] += step.events[g].sum((0, 1)).astype(np.int64)
        returns += step.reward
        lengths += 1
        self.steps += len(returns)
        self.rewarded += int((step.reward != 0).sum())
        # An episode that ended since the environment raised says nothing about returns.
        for e in np.flatnonzero(step.terminated | step.truncated):
            if step.lost is not None and step.lost[e]:
                self.lost += 1
            else:
                self.returns.append(float(returns[e]))
                self.lengths.append(int(lengths[e]))
                self.successes += bool(step.success[e])
                self.cut += bool(step.truncated[e])
            returns[e] = lengths[e] = 0


def play(task: BatchedTask, most_steps: int, patience_s: float, seed: int = 0) -> Played:
    """Play `task` at random for `most_steps` joint steps, or until `patience_s` seconds have passed."""
    rng, step, until = np.random.default_rng(seed), task.reset(seed), time.monotonic() + patience_s
    groups = task.spec.groups
    played = Played(
        [np.full(len(group.features), np.inf) for group in groups],
        [np.full(len(group.features), -np.inf) for group in groups],
        [np.zeros(len(group.events), np.int64) for group in groups],
    )
    returns, lengths = np.zeros(task.num_envs), np.zeros(task.num_envs, np.int64)
    for _ in range(most_steps):
        step = task.step(random_actions(task.spec, step, rng))
        played.add(step, returns, lengths)
        if time.monotonic() > until:
            break
    return played


# ---------------------------------------------------------------- what was played


def check_outcomes(played: Played, spec: TaskSpec) -> Iterator[Check]:
    """Yield how the episodes ended, and what was paid in them."""
    if played.lost:
        rule = f"the environment raised in {played.lost} episodes of random play; it is built anew each time"
        yield problem("task.crashes", rule, "mend it: the log above, or trainer.log.jsonl of a run, names the error")
    count = len(played.lengths)
    if count:
        success = f", {played.successes / count:.0%} successful" if spec.has_success else ""
        yield ok(
            "task.episodes",
            f"{count} episodes of random play, {played.steps:,} steps: {np.mean(played.lengths):.1f} steps each, "
            f"{played.cut} cut by a time limit{success}",
        )
    else:
        rule = f"no episode ended in {played.steps:,} steps of random play, so no return can be measured"
        yield warning("task.episodes", rule, "set task.n_max, or a time limit in the environment")
    # Without any reward there is no return to speak of.
    if not played.rewarded:
        rule = f"no reward but 0 in {played.steps:,} steps of random play: nothing to learn from before something pays"
        remedy = "that is what shaping is for; give features that tell how near a reward is, so that it has a hold"
        yield warning("task.reward", rule, remedy)
        return
    message = f"{played.rewarded / max(played.steps, 1):.1%} of steps are paid or fined"
    if played.returns:
        low, mean, high = min(played.returns), float(np.mean(played.returns)), max(played.returns)
        message += f"; return {mean:.3g} [{low:.3g}, {high:.3g}]"
    yield ok("task.reward", message)


def check_features(group: GroupSpec, low: NDArray[np.float64], high: NDArray[np.float64]) -> Iterator[Check]:
    """Yield the ranges that the group's features were seen in, those outside the declared one, and those that stay.

    Args:
        group: the group of agents.
        low: [F] lowest value of each feature.
        high: [F] highest value of each feature.
    """
    name = f"task.{group.name}.features"
    ranges = list(zip(group.features, low.tolist(), high.tolist(), strict=True))
    seen = [f"{spec.name} {a:.3g}…{b:.3g}" for spec, a, b in ranges]
    yield ok(name, f"in random play {_first(seen, RANGES_SHOWN)}")
    # Single precision may leave a range by a little.
    outside = []
    for spec, a, b in ranges:
        slack = SLACK * (spec.high - spec.low)
        if a < spec.low - slack or b > spec.high + slack:
            outside.append(f"{spec.name} {a:.4g}…{b:.4g} (declared {spec.low:g}…{spec.high:g})")
    if outside:
        rule = f"features must stay inside their declared range, outside were {_first(outside, RANGES_SHOWN)}"
        yield problem(name, rule, "correct low and high in feature_specs")
    still = [spec.name for spec, a, b in ranges if a == b]
    if still:
        rule = f"features that never changed tell nothing yet: {_first(still, RANGES_SHOWN)}"
        yield warning(name, rule, "see whether random play can change them, or leave them out")


def check_events(group: GroupSpec, counts: NDArray[np.int64]) -> Check:
    """Return how often each of the group's events was seen; `counts` [V]."""
    pairs = list(zip(group.event_names(), counts.tolist(), strict=True))
    seen = ", ".join(f"{name} {count}×" for name, count in pairs if count)
    never = ", ".join(name for name, count in pairs if not count)
    return ok(f"task.{group.name}.events", f"in random play {seen or 'none'}; never seen: {never or 'none'}")


# ---------------------------------------------------------------- contract, reward and determinism


def check_contract(config: TaskConfig) -> Check:
    """Run PettingZoo's own test of an environment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        from pettingzoo.test import parallel_api_test
    # The test draws actions by itself, without the masks that only infos have.
    env = task_factory(config)().env
    _, infos = env.reset(seed=0)
    if any("action_mask" in info for info in infos.values()):
        reason = "not run, for the action masks come in infos, which pettingzoo's parallel_api_test does not read"
        return ok("task.contract", reason)
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            parallel_api_test(env, num_cycles=CONTRACT_STEPS)
        except Exception as error:  # noqa: BLE001 an assertion of the test, or whatever the environment raises
            rule = f"pettingzoo.test.parallel_api_test must pass, it stopped with {type(error).__name__}: {error}"
            return warning("task.contract", rule, "what it names may still train; mend it if a run behaves oddly")
    messages = sorted({str(item.message) for item in caught})
    more = f"; it says: {'; '.join(messages)}" if messages else ""
    return ok("task.contract", f"pettingzoo's parallel_api_test passes{more}")


def check_team_reward(config: TaskConfig) -> Iterator[Check]:
    """Yield a warning where a team reward is paid to every agent, since it would count once for each of them."""
    task = task_factory(config)()
    env, agents = task.env, len(task.env.possible_agents)
    if agents < 2 or config.team_reward == "mean":
        return
    paid, alike = 0, True
    with contextlib.redirect_stdout(io.StringIO()):
        observations, infos = env.reset(seed=3)
        for agent in env.possible_agents:
            env.action_space(agent).seed(3)
        # The environment itself is played, before its rewards are joined to those of the team.
        for _ in range(MOST_STEPS):
            if not env.agents:
                observations, infos = env.reset()
            # An action mask comes in the observation or in the info.
            actions = {}
            for agent in env.agents:
                observed, info, space = observations[agent], infos.get(agent, {}), env.action_space(agent)
                mask = observed.get("action_mask") if isinstance(observed, dict) else info.get("action_mask")
                actions[agent] = space.sample() if mask is None else space.sample(np.asarray(mask, np.int8))
            observations, rewards, _, _, infos = env.step(actions)
            values = [float(reward) for reward in rewards.values()]
            paid += len(values) > 1 and any(values)
            alike &= len(set(values)) <= 1
    if paid and alike:
        rule = f"in random play all agents were paid the same, and the team's reward is their sum: {agents} times it"
        remedy = "set task.team_reward to mean if it is the team's reward that each is paid"
        yield warning("task.team_reward", rule, remedy)


def check_determinism(config: TaskConfig, spec: TaskSpec) -> Check:
    """Play whole episodes twice, since a probe of the first steps misses what comes later, and compare the states."""
    name = "task.deterministic"
    if not spec.deterministic:
        rule = "seed and actions do not decide everything, so a fork begins with fresh episodes and controls differ"
        return warning(name, rule, "seed every random number of the environment in reset(seed=…)")
    # Two instances get the same seed and the same actions.
    tasks = [make_task(config, 1) for _ in range(2)]
    steps = [task.reset(7) for task in tasks]
    rng, until, played = np.random.default_rng(7), time.monotonic() + PATIENCE_S, 0
    while played < MOST_STEPS and time.monotonic() < until:
        actions = random_actions(spec, steps[0], rng)
        steps = [task.step([array.copy() for array in actions]) for task in tasks]
        if any(step.lost is not None and step.lost.any() for step in steps):
            rule = f"the environment raised after {played} steps, so that nothing is known of repeating them"
            return warning(name, rule, "mend what it raised, and ask again")
        played += 1
        if _bytes(steps[0]) != _bytes(steps[1]):
            rule = f"the same seed and actions must lead to the same states, step {played} of random play differed"
            return problem(name, rule, "seed all randomness in reset(seed=…), or set deterministic = False")
    for task in tasks:
        task.close()
    return ok(name, f"the same seeds and actions gave the same {played:,} steps twice")


def _bytes(step: Step) -> bytes:
    arrays = [*step.last_obs, *step.last_features, step.reward, step.terminated, step.truncated]
    return b"".join(array.tobytes() for array in arrays)


# ---------------------------------------------------------------- lists in a message


def _first(names: Sequence[str], most: int) -> str:
    """Return the first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
