"""What random play shows of a task: whether it keeps PettingZoo's contract, what features, events and rewards do, and
what is missing for a good run."""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

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
from ..rl.task import ActionArray, BatchedTask, FeatureSpec, GroupSpec, Step, TaskSpec
from .check import Check, from_error, ok, problem, warning

# ---------------------------------------------------------------- MERGED doctor.play

ENVS = 4
MOST_STEPS = 2_000  # of each environment
PATIENCE_S = 3.0  # for all of the play; a slow environment is seen for fewer steps
CONTRACT_STEPS = 100
SHOWN = 8  # features of a group
SLACK = 1e-4  # of a range, by which single precision may leave it


@dataclass
class Played:
    """What was seen. By group: lowest and highest of each feature [F], number of each event [V]."""

    low: list[NDArray[np.float64]]
    high: list[NDArray[np.float64]]
    events: list[NDArray[np.int64]]
    steps: int = 0
    rewarded: int = 0
    returns: list[float] = field(default_factory=list)  # of episodes that ended
    lengths: list[int] = field(default_factory=list)
    successes: int = 0
    cut: int = 0  # by a time limit
    lost: int = 0  # since the environment raised


def check_play(config: TaskConfig, spec: TaskSpec) -> Iterator[Check]:
    """Plays for a few seconds at most."""
    try:
        yield from _played(config, spec)
    except ConfigError as error:
        yield from from_error("task.play", error)
    except Exception as error:  # noqa: BLE001 somebody else's code may raise anything
        rule = f"the environment must survive random play, it raised {type(error).__name__}: {error}"
        yield problem("task.play", rule, "mend it; a run would restart it and lose the episode each time")


def _played(config: TaskConfig, spec: TaskSpec) -> Iterator[Check]:
    if config.name not in NATIVE:
        yield _contract(config)
    task = make_task(config, ENVS)
    yield from _play_summary(play(task, MOST_STEPS, PATIENCE_S), spec)
    task.close()
    if config.name is None and spec.return_range is None:  # who declares the range has added it up
        yield from _shared_pay(config)
    yield _repeats(config, spec)


# ------------------------------------------------------------ playing


def random_actions(spec: TaskSpec, step: Step, rng: np.random.Generator) -> list[ActionArray]:
    """Each allowed choice as likely, numbers uniform in -1..1."""
    found: list[ActionArray] = []
    for g, group in enumerate(spec.groups):
        shape = step.obs[g].shape[:2]
        if group.continuous:
            found.append(rng.uniform(-1, 1, (*shape, *group.action_shape)).astype(np.float32))
            continue
        weights = rng.random((*shape, group.n_actions))
        found.append((weights if step.masks is None else weights * step.masks[g]).argmax(-1))
    return found


def play(task: BatchedTask, most_steps: int, patience_s: float, seed: int = 0) -> Played:
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
        _count_episodes(played, step, returns, lengths)
        if time.monotonic() > until:
            break
    return played


def _count_episodes(played: Played, step: Step, returns: NDArray[np.float64], lengths: NDArray[np.int64]) -> None:
    """Adds one joint step; `returns` and `lengths` [E] of the running episodes."""
    for g, features in enumerate(step.last_features):
        flat = features.reshape(-1, features.shape[-1])
        played.low[g], played.high[g] = np.minimum(played.low[g], flat.min(0)), np.maximum(played.high[g], flat.max(0))
        played.events[g] += step.events[g].sum((0, 1)).astype(np.int64)
    returns += step.reward
    lengths += 1
    played.steps += len(returns)
    played.rewarded += int((step.reward != 0).sum())
    for e in np.flatnonzero(step.terminated | step.truncated):
        if step.lost is not None and step.lost[e]:
            played.lost += 1
            returns[e] = lengths[e] = 0
            continue
        played.returns.append(float(returns[e]))
        played.lengths.append(int(lengths[e]))
        played.successes += bool(step.success[e])
        played.cut += bool(step.truncated[e])
        returns[e] = lengths[e] = 0


# ------------------------------------------------------------ what is said of it


def _play_summary(played: Played, spec: TaskSpec) -> Iterator[Check]:
    if played.lost:
        rule = f"the environment raised in {played.lost} episodes of random play; it is built anew each time"
        yield problem("task.crashes", rule, "mend it: the log above, or trainer.log.jsonl of a run, names the error")
    yield _episodes(played, spec)
    yield _rewards(played)
    for g, group in enumerate(spec.groups):
        if group.features:
            yield from _features(group, played.low[g], played.high[g])
        if group.events:
            yield _events(group, played.events[g])


def _episodes(played: Played, spec: TaskSpec) -> Check:
    number = len(played.lengths)
    if not number:
        rule = f"no episode ended in {played.steps:,} steps of random play, so no return can be measured"
        return warning("task.episodes", rule, "set task.n_max, or a time limit in the environment")
    success = f", {played.successes / number:.0%} successful" if spec.has_success else ""
    words = (
        f"{number} episodes of random play, {played.steps:,} steps: {np.mean(played.lengths):.1f} steps each, "
        f"{played.cut} cut by a time limit{success}"
    )
    return ok("task.episodes", words)


def _rewards(played: Played) -> Check:
    share = played.rewarded / max(played.steps, 1)
    if not played.rewarded:
        rule = f"no reward but 0 in {played.steps:,} steps of random play: nothing to learn from before something pays"
        remedy = "that is what shaping is for; give features that tell how near a reward is, so that it has a hold"
        return warning("task.reward", rule, remedy)
    if not played.returns:
        return ok("task.reward", f"{share:.1%} of steps are paid or fined")
    low, mean, high = min(played.returns), float(np.mean(played.returns)), max(played.returns)
    return ok("task.reward", f"{share:.1%} of steps are paid or fined; return {mean:.3g} [{low:.3g}, {high:.3g}]")


def _features(group: GroupSpec, low: NDArray[np.float64], high: NDArray[np.float64]) -> Iterator[Check]:
    name = f"task.{group.name}.features"
    ranges = zip(group.features, low.tolist(), high.tolist(), strict=True)
    seen = [f"{spec.name} {a:.3g}…{b:.3g}" for spec, a, b in ranges]
    more = f" and {len(seen) - SHOWN} more" if len(seen) > SHOWN else ""
    yield ok(name, f"in random play {', '.join(seen[:SHOWN])}{more}")
    slack = [SLACK * (spec.high - spec.low) for spec in group.features]
    outside = [
        f"{spec.name} {a:.4g}…{b:.4g} (declared {spec.low:g}…{spec.high:g})"
        for spec, a, b, s in zip(group.features, low.tolist(), high.tolist(), slack, strict=True)
        if a < spec.low - s or b > spec.high + s
    ]
    if outside:
        rule = f"features must stay inside their declared range, outside were {_some(outside)}"
        yield problem(name, rule, "correct low and high in feature_specs")
    still = [spec.name for spec, a, b in zip(group.features, low, high, strict=True) if a == b]
    if still:
        rule = f"features that never changed tell nothing yet: {_some(still)}"
        yield warning(name, rule, "see whether random play can change them, or leave them out")


def _events(group: GroupSpec, counts: NDArray[np.int64]) -> Check:
    seen = [f"{name} {count}×" for name, count in zip(group.event_names(), counts.tolist(), strict=True) if count]
    never = [name for name, count in zip(group.event_names(), counts.tolist(), strict=True) if not count]
    words = f"in random play {', '.join(seen) or 'none'}; never seen: {', '.join(never) or 'none'}"
    return ok(f"task.{group.name}.events", words)


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")


# ------------------------------------------------------------ determinism and contract


def _repeats(config: TaskConfig, spec: TaskSpec) -> Check:
    """Whole episodes twice, since a probe of the first steps misses what comes later."""
    if not spec.deterministic:
        rule = "seed and actions do not decide everything, so a fork begins with fresh episodes and controls differ"
        return warning("task.deterministic", rule, "seed every random number of the environment in reset(seed=…)")
    tasks = [make_task(config, 1) for _ in range(2)]
    steps = [task.reset(7) for task in tasks]
    rng, until, played = np.random.default_rng(7), time.monotonic() + PATIENCE_S, 0
    while played < MOST_STEPS and time.monotonic() < until:
        actions = random_actions(spec, steps[0], rng)
        steps = [task.step([x.copy() for x in actions]) for task in tasks]
        if any(step.lost is not None and step.lost.any() for step in steps):
            rule = f"the environment raised after {played} steps, so that nothing is known of repeating them"
            return warning("task.deterministic", rule, "mend what it raised, and ask again")
        played += 1
        if _bytes(steps[0]) != _bytes(steps[1]):
            rule = f"the same seed and actions must lead to the same states, step {played} of random play differed"
            return problem(
                "task.deterministic", rule, "seed all randomness in reset(seed=…), or set deterministic = False"
            )
    for task in tasks:
        task.close()
    return ok("task.deterministic", f"the same seeds and actions gave the same {played:,} steps twice")


def _bytes(step: Step) -> bytes:
    arrays = [*step.last_obs, *step.last_features, step.reward, step.terminated, step.truncated]
    return b"".join(array.tobytes() for array in arrays)


def _contract(config: TaskConfig) -> Check:
    """PettingZoo's own test of an environment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        from pettingzoo.test import parallel_api_test
    env = task_factory(config)().env
    _, infos = env.reset(seed=0)
    if any("action_mask" in info for info in infos.values()):
        words = "not run, for the action masks come in infos, which pettingzoo's parallel_api_test does not read"
        return ok("task.contract", words)
    with warnings.catch_warnings(record=True) as heard, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            parallel_api_test(env, num_cycles=CONTRACT_STEPS)
        except Exception as error:  # noqa: BLE001 an assertion of the test, or whatever the environment raises
            rule = f"pettingzoo.test.parallel_api_test must pass, it stopped with {type(error).__name__}: {error}"
            return warning("task.contract", rule, "what it names may still train; mend it if a run behaves oddly")
    said = sorted({str(x.message) for x in heard})
    more = f"; it says: {'; '.join(said)}" if said else ""
    return ok("task.contract", f"pettingzoo's parallel_api_test passes{more}")


def _shared_pay(config: TaskConfig) -> Iterator[Check]:
    """A team reward that is paid to every agent would count once for each of them."""
    task = task_factory(config)()
    if len(task.env.possible_agents) < 2 or config.team_reward == "mean":
        return
    paid, alike, agents = 0, True, len(task.env.possible_agents)
    with contextlib.redirect_stdout(io.StringIO()):
        for rewards in _raw_rewards(task.env):
            paid += len(rewards) > 1 and any(rewards)
            alike &= len(set(rewards)) <= 1
    if paid and alike:
        rule = f"in random play all agents were paid the same, and the team's reward is their sum: {agents} times it"
        yield warning(
            "task.team_reward", rule, "set task.team_reward to mean if it is the team's reward that each is paid"
        )


def _raw_rewards(env: Any) -> Iterator[list[float]]:
    """Of all agents in each step of random play."""
    observations, infos = env.reset(seed=3)
    for agent in env.possible_agents:
        env.action_space(agent).seed(3)
    for _ in range(MOST_STEPS):
        if not env.agents:
            observations, infos = env.reset()
        actions = {agent: _sample(env, agent, observations[agent], infos.get(agent, {})) for agent in env.agents}
        observations, rewards, _, _, infos = env.step(actions)
        yield [float(x) for x in rewards.values()]


def _sample(env: Any, agent: Any, observed: Any, info: Any) -> Any:
    mask = observed.get("action_mask") if isinstance(observed, dict) else info.get("action_mask")
    space = env.action_space(agent)
    return space.sample() if mask is None else space.sample(np.asarray(mask, np.int8))


# ---------------------------------------------------------------- MERGED doctor.task
# DOC """What cosignal understood of the task, and whether the first signal fits it."""

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
