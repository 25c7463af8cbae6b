"""Fresh episodes of the policy as text: who did what, where, what came of it, and how the world looked then."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import torch

from ..envs.factory import make_task
from ..task import ActionArray, BatchedTask, episode_seed, splitmix64, work_events
from ..training.line import TrainingLine
from .schema import EpisodeEvidence, StatePicture

EPISODES_SEED = 0xE415  # nothing else plays these episodes
TRIES = 3  # episodes that are played for one of each outcome
MAX_STEPS = 1000  # of all of them together, about one rollout
MAX_LINES = 12  # of one episode
MOST_LINES = 400  # of one that is read step by step
MIXED = (0.05, 0.95)  # success rates between which both outcomes are looked for


def play_episodes(line: TrainingLine) -> tuple[list[EpisodeEvidence], int]:
    """Play fresh episodes, at most one of each outcome is kept; nothing of the line changes.

    The policy acts as it does when it is evaluated. The same line gives the same episodes where its task is
    deterministic. Where nearly all episodes end alike, the first one will do.

    Args:
        line: its policy plays.

    Returns:
        (the episodes in the order in which they were played, environment steps of all that were played).
    """
    recent = line.episodes.recent("successes")
    rate = float(recent.mean()) if line.spec.has_success and len(recent) else 0.0
    tries = TRIES if MIXED[0] <= rate <= MIXED[1] else 1
    found: dict[str, EpisodeEvidence] = {}
    steps, task = 0, make_task(line.config.task, 1)
    try:
        for number in range(tries):
            seed = (
                splitmix64(splitmix64(EPISODES_SEED + number) ^ splitmix64(line.config.seed) ^ line.update_index) >> 33
            )
            episode = _play(line, task, seed, MAX_STEPS - steps)
            steps += episode.length
            found.setdefault(episode.outcome, episode)
            if len(found) == 2 or steps >= MAX_STEPS:
                break
    finally:
        task.close()
    return list(found.values()), steps


def _play(line: TrainingLine, task: BatchedTask, seed: int, most: int) -> EpisodeEvidence:
    """Play the first episode of `seed` to its end, or `most` steps of it."""
    spec, generator = task.spec, torch.Generator().manual_seed(splitmix64(seed) >> 1)
    step, actions = task.reset(seed), list[list[ActionArray]]()
    total, ended, eventful = 0.0, False, list[int]()
    work, last_event = work_events(spec), 0
    rnn_states = line.learner.new_rnn_states(1)
    while not ended and len(actions) < most:
        chosen = line.learner.act_to_evaluate(step.obs, generator, step.masks, rnn_states)
        actions.append([a[0].copy() for a in chosen])
        step = task.step(chosen)
        total += float(step.reward[0])
        if any((events[0] > 0).any() for events in step.events):
            eventful.append(len(actions) - 1)
        if any((step.events[g][0, :, v] > 0).any() for g, v in work):
            last_event = len(actions)
        ended = bool(step.terminated[0] or step.truncated[0])
    joint = [np.stack([row[g] for row in actions]) for g in range(len(spec.groups))]
    outcome: Literal["successful", "failed", "ended"] = "ended"
    if spec.has_success:
        outcome = "successful" if step.success[0] else "failed"
    # Where it began, where it ended, and of one that failed the state from which on nothing happened any more.
    states = {0, len(actions)} | (set() if outcome == "successful" else {last_event})
    shown = task.episode_text(episode_seed(seed, 0, 0), joint, states)
    return EpisodeEvidence(
        outcome=outcome,
        sparse_return=round(total, 4),
        length=len(actions),
        last_event=last_event if work else None,
        lines=[shown.lines[i] for i in lines_shown(len(shown.lines), eventful)],
        every_line=[] if outcome == "successful" else shown.lines[-MOST_LINES:],
        pictures=[StatePicture(after_step=state, text=text) for state, text in shown.pictures.items()],
    )


def lines_shown(length: int, eventful: list[int]) -> list[int]:
    """Return which steps of an episode are shown, at most MAX_LINES, in order.

    The first and the last one are, then those with events (the first half of the room for the earliest, the rest for
    the latest ones), then steps that divide what is left evenly.

    Args:
        length: of the episode, in steps from 0 on.
        eventful: steps in which an event happened, in order.
    """
    if length <= MAX_LINES:
        return list(range(length))
    shown = {0, length - 1}
    room = MAX_LINES - len(shown)
    inner = [i for i in eventful if 0 < i < length - 1]
    shown |= set(inner if len(inner) <= room else [*inner[: room - room // 2], *inner[len(inner) - room // 2 :]])
    # The middle of the widest gap, until there is no room left.
    while len(shown) < MAX_LINES:
        ordered = sorted(shown)
        width, left = max((b - a, -a) for a, b in pairwise(ordered))
        shown.add(-left + width // 2)
    return sorted(shown)
