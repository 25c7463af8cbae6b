"""The short texts of a run's recorded steps, and what a model is asked about them, after ONI (facebookresearch/oni)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...experience.transition_sample import TransitionSample
from ...task import TaskSpec
from ..captions import caption_codes, caption_format, captions
from .judgements import JudgeQuestion


def messages_of(spec: TaskSpec, recorded: TransitionSample) -> list[str]:
    """Return the different texts of recorded steps, those of the newest first."""
    order = recorded.newest_first()
    newest = dict[str, int]()  # text → the place of its newest step
    for g in range(len(spec.groups)):
        form = caption_format(spec.groups[g])
        codes = caption_codes(spec.groups[g], form, recorded.last_features[g][order], recorded.events[g][order])
        n_agents = codes.shape[1]
        texts, number = captions(spec, g, form, codes.reshape(-1, codes.shape[-1]))
        for i, which in enumerate(number.tolist()):
            newest[texts[which]] = min(newest.get(texts[which], i), i // n_agents)
    return sorted(newest, key=lambda text: newest[text])


def label_questions(messages: Sequence[str]) -> list[JudgeQuestion]:
    """Return a question about each."""
    return [JudgeQuestion(question="label", texts=(text,)) for text in messages]


def compare_questions(messages: Sequence[str], number: int, seed: int) -> list[JudgeQuestion]:
    """Return questions about pairs: each text with others drawn at random, the newest first, `number` at most."""
    rng, pairs = np.random.default_rng(seed), dict[tuple[str, str], None]()
    tries = 0
    while len(messages) > 1 and len(pairs) < number and tries < 10 * number:
        # the first of a pair goes through the texts in their order
        a, b = messages[tries % len(messages)], messages[int(rng.integers(len(messages)))]
        tries += 1
        if a != b and (b, a) not in pairs:
            pairs[a, b] = None
    return [JudgeQuestion(question="compare", texts=pair) for pair in pairs]
