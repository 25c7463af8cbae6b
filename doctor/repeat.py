"""Check whether a task repeats itself: the same seed and actions must lead to the same states, or a branch cannot begin
at a state of the main line.

What is tried, one after the other: two environments of one process; going back to a state, after playing on and in a
new environment; another process, and one whose strings have other hashes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import closing

import numpy as np

from ..errors import CosignalError
from ..rl.envs.config import TaskConfig
from ..rl.envs.factory import make_task
from ..rl.task import ActionArray, Arrays, BatchedTask, Step
from .check import Check, ok, warning
from .play import Say, random_actions

STEPS = 1_000  # of one environment, more where an episode may be long
EPISODES = 3  # where it says how long they may be
PATIENCE_S = 60.0
SEED = 7
NAME = "task.deterministic"
CONSEQUENCE = "so a fork begins with fresh episodes and controls differ"
REMEDY = "take all randomness from reset(seed=…) and keep nothing from one episode to the next"

Joint = list[ActionArray]


def check_repeats(config: TaskConfig, say: Say) -> tuple[Check, list[str]]:
    """Play whole episodes twice, since a probe of the first steps misses what comes later, and go back in them.

    Returns:
        The check, and the digests of the steps where all came out the same.
    """
    with closing(make_task(config, 1)) as one, closing(make_task(config, 1)) as other:
        spec = one.spec
        if not spec.deterministic:
            rule = f"seed and actions do not decide everything, {CONSEQUENCE}"
            return warning(NAME, rule, "seed every random number of the environment in reset(seed=…)"), []

        # Two environments get the same seed and the same actions.
        wanted, until = max(STEPS, EPISODES * (spec.max_steps or 0)), time.monotonic() + PATIENCE_S
        middle, state = wanted // 2, None
        step, rng = one.reset(SEED), np.random.default_rng(SEED)
        other.reset(SEED)
        joints, digests = list[Joint](), list[str]()
        while len(digests) < wanted and time.monotonic() < until:
            say(f"in play that is repeated, {len(digests) // 100 * 100:,} of {wanted:,} steps")
            if len(digests) == middle:
                state = one.state_dict()
            joints.append(random_actions(spec, step, rng))
            step, again = one.step(_copied(joints[-1])), other.step(_copied(joints[-1]))
            if any(x.lost is not None and x.lost.any() for x in (step, again)):
                rule = f"the environment raised after {len(digests)} steps, so that nothing is known of repeating them"
                return warning(NAME, rule, "mend what it raised, and ask again"), []
            digests.append(digest(step))
            if digest(again) != digests[-1]:
                rule = f"the same seed and actions must lead to the same states, step {len(digests)} of random play"
                return warning(NAME, f"{rule} differed, {CONSEQUENCE}", REMEDY), []
        if state is None:
            rule = f"the same seeds and actions gave the same {len(digests):,} steps twice, and then time was out"
            return warning(NAME, rule, "ask again on a machine that is not busy, or make a step faster"), digests

        # A branch goes back to a state of the main line, in an environment that has played other episodes since.
        say("going back to a state")
        with closing(make_task(config, 1)) as new:
            for task, how in ((one, "after playing on"), (new, "in a new environment")):
                back = _digests_from(task, state, joints[middle:])
                if (count := equal_steps(back, digests[middle:])) < len(digests) - middle:
                    rule = f"going back to a state {how} must lead to the same states again, step {count + 1} differed"
                    return warning(NAME, f"{rule}, {CONSEQUENCE}", REMEDY), []
    message = f"the same seeds and actions gave the same {len(digests):,} steps twice, also after going back"
    return ok(NAME, message), digests


def _copied(joint: Joint) -> Joint:
    return [array.copy() for array in joint]


def digest(step: Step) -> str:
    """Return a hash of what a step shows, bit for bit."""
    shown = [*step.last_obs, *step.last_features, *step.events, step.reward, step.terminated, step.truncated]
    arrays = [*shown, *step.obs, *step.features, *(step.masks or ())]
    return hashlib.blake2b(b"".join(array.tobytes() for array in arrays), digest_size=8).hexdigest()


def equal_steps(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many digests are equal from the start on."""
    pairs = zip(one, other, strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _digests_from(task: BatchedTask, state: Arrays, joints: Sequence[Joint]) -> list[str]:
    """Go back to `state` and return the digests of the steps from there on; none where it cannot be gone back to."""
    try:
        task.load_state_dict(state)
    except CosignalError:
        return []
    return [digest(task.step(_copied(joint))) for joint in joints]


# ---------------------------------------------------------------- other processes


def play_digests(config: TaskConfig, steps: int, say: Say) -> list[str]:
    """Return the digests of the steps that `check_repeats` plays, for another process to compare."""
    with closing(make_task(config, 1)) as task:
        step, rng, digests = task.reset(SEED), np.random.default_rng(SEED), list[str]()
        while len(digests) < steps:
            say("in another process")
            step = task.step(random_actions(task.spec, step, rng))
            digests.append(digest(step))
        return digests


def check_processes(
    here: Check, first: Sequence[str], same_hashes: Sequence[str], others: Sequence[Sequence[str]]
) -> Check:
    """Compare the steps of several processes.

    Args:
        here: what was found in the first one.
        first: the digests of its steps.
        same_hashes: of a process whose strings have the same hashes.
        others: of processes whose strings have others.
    """
    steps = len(first)
    if (count := equal_steps(first, same_hashes)) < steps:
        rule = f"another process must come to the same states, step {count + 1} differed, {CONSEQUENCE}"
        return warning(NAME, rule, "let nothing but reset(seed=…) and the actions decide: no time, no id(), no hash()")
    if (count := min(equal_steps(first, other) for other in others)) < steps:
        return Check(
            NAME,
            here.state,
            f"{here.message}; in processes whose strings have other hashes (PYTHONHASHSEED) step {count + 1} differed, "
            "as where a set of strings is gone through: all processes of a run get the same hashes, other runs may not",
            here.remedy,
        )
    return Check(NAME, here.state, f"{here.message}; the same in other processes", here.remedy)
