"""Play a task at random, and check what that shows: whether it keeps PettingZoo's contract, what features, events and
rewards do, and what is missing for a good run.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rl.envs.config import TaskConfig
from ..rl.envs.factory import closing_task, make_task
from ..rl.envs.load_env import task_factory
from ..rl.envs.registry import NATIVE
from ..rl.task import ActionArray, BatchedTask, GroupSpec, Step, TaskSpec
from .check import Check, first_names, ok, problem, warning

ENVS = 4
STEPS = 2_000  # of each environment, more where an episode may be long
EPISODES = 2  # of each environment, where it says how long they may be
ENOUGH = 500  # steps of each environment, to judge by where time runs out
PATIENCE_S = 60.0  # for random play; a machine that is busy, or a slow environment, needs as long
CONTRACT_STEPS = 100
SLACK = 1e-4  # of a range, by which single precision may leave it
RANGES_SHOWN = 8  # features of a group, as they were seen

Say = Callable[[str], None]  # where the doctor stands, as in "in random play"


def check_play(config: TaskConfig, say: Say) -> Iterator[Check]:
    """Play the task at random, and yield what that shows. Raises whatever the environment raises."""
    if config.name not in NATIVE:
        say("in the test of PettingZoo")
        yield check_contract(config)
    say("building it")
    with closing(make_task(config, ENVS)) as task:
        spec = task.spec
        played = play(task, max(STEPS, EPISODES * (spec.max_steps or 0)), PATIENCE_S, say)
        pictures = check_pictures(task)
    yield from check_played(played, spec)
    yield pictures
    # Who declares the range of returns has added the rewards up, and knows how they are paid.
    if config.name is None and spec.return_range is None:
        say("comparing what agents are paid")
        yield from check_team_reward(config)


# ---------------------------------------------------------------- random play


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
    joint_steps: int = 0  # of each environment
    wanted: int = 0  # joint steps that there were to be
    seconds: float = 0.0  # that it took

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


def play(task: BatchedTask, most_steps: int, patience_s: float, say: Say = lambda _: None, seed: int = 0) -> Played:
    """Play `task` at random for `most_steps` joint steps, or until `patience_s` seconds have passed."""
    rng, step, began = np.random.default_rng(seed), task.reset(seed), time.monotonic()
    groups = task.spec.groups
    played = Played(
        [np.full(len(group.features), np.inf) for group in groups],
        [np.full(len(group.features), -np.inf) for group in groups],
        [np.zeros(len(group.events), np.int64) for group in groups],
        wanted=most_steps,
    )
    returns, lengths = np.zeros(task.num_envs), np.zeros(task.num_envs, np.int64)
    for done in range(most_steps):
        say(f"in random play, {done // 100 * 100:,} of {most_steps:,} steps")
        step = task.step(random_actions(task.spec, step, rng))
        played.add(step, returns, lengths)
        played.joint_steps, played.seconds = done + 1, time.monotonic() - began
        if played.seconds > patience_s:
            break
    return played


# ---------------------------------------------------------------- what was played


def check_played(played: Played, spec: TaskSpec) -> Iterator[Check]:
    """Yield what random play shows. Where time ran out it says so, and on too few steps it judges nothing."""
    if played.joint_steps < played.wanted:
        message = (
            f"random play stopped after {played.seconds:.0f} s, at {played.steps:,} of "
            f"{played.wanted * played.steps // played.joint_steps:,} steps"
        )
        if played.joint_steps < min(played.wanted, max(ENOUGH, spec.max_steps or 0)):
            rule = f"{message}: too few to judge episodes, rewards and features by"
            yield warning("task.play", rule, "ask again on a machine that is not busy, or make a step faster")
            return
        yield ok("task.play", f"{message}; what follows is judged on these")
    yield from check_outcomes(played, spec)
    for g, group in enumerate(spec.groups):
        if group.features:
            yield from check_features(group, played.low[g], played.high[g])
        if group.events:
            yield check_events(group, played.events[g])


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
    yield ok(name, f"in random play {first_names(seen, RANGES_SHOWN)}")
    # Single precision may leave a range by a little.
    outside = []
    for spec, a, b in ranges:
        slack = SLACK * (spec.high - spec.low)
        if a < spec.low - slack or b > spec.high + slack:
            outside.append(f"{spec.name} {a:.4g}…{b:.4g} (declared {spec.low:g}…{spec.high:g})")
    if outside:
        rule = f"features must stay inside their declared range, outside were {first_names(outside, RANGES_SHOWN)}"
        yield problem(name, rule, "correct low and high in feature_specs")
    still = [spec.name for spec, a, b in ranges if a == b]
    if still:
        rule = f"features that never changed tell nothing yet: {first_names(still, RANGES_SHOWN)}"
        yield warning(name, rule, "see whether random play can change them, or leave them out")


def check_events(group: GroupSpec, counts: NDArray[np.int64]) -> Check:
    """Return how often each of the group's events was seen; `counts` [V]."""
    pairs = list(zip(group.event_names(), counts.tolist(), strict=True))
    seen = ", ".join(f"{name} {count}×" for name, count in pairs if count)
    never = ", ".join(name for name, count in pairs if not count)
    return ok(f"task.{group.name}.events", f"in random play {seen or 'none'}; never seen: {never or 'none'}")


def check_pictures(task: BatchedTask) -> Check:
    """Say how the task draws its state, at the start of an episode of no steps."""
    actions: list[ActionArray] = [
        np.zeros((0, len(group.agents), len(group.action_bounds)), np.float32)
        if group.continuous
        else np.zeros((0, len(group.agents)), np.int64)
        for group in task.spec.groups
    ]
    as_text = bool(task.episode_text(0, actions, pictures_of=[0]).pictures)
    as_frames = bool(task.episode_frames(0, actions, frames_of=[0]))
    if not as_text and not as_frames:
        reason = 'its metadata declare none of the render_modes "ansi" and "rgb_array", or it cannot draw here'
        return ok("task.pictures", f"draws nothing, models and the player are told of steps in words: {reason}")
    shown = ["as text, which models are shown"] * as_text + ["in frames, which the page's player shows"] * as_frames
    return ok("task.pictures", f"draws its state {' and '.join(shown)}")


# ---------------------------------------------------------------- contract and rewards


def check_contract(config: TaskConfig) -> Check:
    """Run PettingZoo's own test of an environment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        from pettingzoo.test import parallel_api_test
    with (
        warnings.catch_warnings(record=True) as caught,
        closing_task(config, task_factory(config)()) as task,
    ):
        # The test draws actions by itself, without the masks that only infos have.
        _, infos = task.env.reset(seed=0)
        if any("action_mask" in info for info in infos.values()):
            reason = "not run, for the action masks come in infos, which pettingzoo's parallel_api_test does not read"
            return ok("task.contract", reason)
        warnings.simplefilter("always")
        try:
            parallel_api_test(task.env, num_cycles=CONTRACT_STEPS)
        except Exception as error:  # noqa: BLE001 an assertion of the test, or whatever the environment raises
            rule = f"pettingzoo.test.parallel_api_test must pass, it stopped with {type(error).__name__}: {error}"
            return warning("task.contract", rule, "what it names may still train; mend it if a run behaves oddly")
    messages = sorted({str(item.message) for item in caught})
    more = f"; it says: {'; '.join(messages)}" if messages else ""
    return ok("task.contract", f"pettingzoo's parallel_api_test passes{more}")


def check_team_reward(config: TaskConfig) -> Iterator[Check]:
    """Yield a warning where a team reward is paid to every agent, since it would count once for each of them."""
    with closing_task(config, task_factory(config)()) as task:
        agents = len(task.env.possible_agents)
        alike = agents > 1 and config.team_reward != "mean" and agents_are_paid_alike(task.env)
    if alike:
        rule = f"in random play all agents were paid the same, and the team's reward is their sum: {agents} times it"
        remedy = "set task.team_reward to mean if it is the team's reward that each is paid"
        yield warning("task.team_reward", rule, remedy)


def agents_are_paid_alike(env: Any) -> bool:
    """Play the environment itself at random, before its rewards are joined to those of the team; return whether agents
    were paid, and never differently."""
    paid, until = False, time.monotonic() + PATIENCE_S
    observations, infos = env.reset(seed=3)
    for agent in env.possible_agents:
        env.action_space(agent).seed(3)
    for _ in range(STEPS):
        if time.monotonic() > until:
            break
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
        if len(set(values)) > 1:
            return False
        paid |= len(values) > 1 and any(values)
    return paid
