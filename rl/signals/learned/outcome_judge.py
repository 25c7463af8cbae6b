"""A judge that is no model: it answers by how the run's own episodes ended. For studies, and beside a model's answers.

A step helps where the critic's advantage was above 0 in the mean of the recorded steps with its text; of two, the one
with the higher mean is better. Progress of a state is where it lies on the straight way from the mean start of episodes
to the mean end of those that succeeded (of the better half by return where none did), by shares of ranges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...experience.transition_sample import TransitionSample
from ...task import FloatArray, TaskSpec
from ..captions import caption_codes, caption_format, captions, exact_text
from ..terms.progress import shares_of_range
from .judgements import JudgeQuestion
from .progress import GOAL, hop

NAME = "outcome"


class OutcomeJudge:
    """Answers by recorded transitions.

    Attributes:
        advantages: by text, the mean advantage of its steps.
        progress: by text of a state, 0..1.
    """

    def __init__(self, spec: TaskSpec, recorded: TransitionSample) -> None:
        self.advantages: dict[str, float] = {}
        self.progress: dict[str, float] = {GOAL: 1.0}
        for g in range(len(spec.groups)):
            form = caption_format(spec.groups[g])
            codes = caption_codes(spec.groups[g], form, recorded.last_features[g], recorded.events[g])
            texts, number = captions(spec, g, form, codes.reshape(-1, codes.shape[-1]))
            if recorded.advantage:
                known = np.isfinite(flat := recorded.advantage[g].astype(np.float64).ravel())
                counts = np.bincount(number[known], minlength=len(texts))
                sums = np.bincount(number[known], flat[known], len(texts))
                self.advantages |= dict(zip(texts, (sums / np.maximum(counts, 1)).tolist(), strict=True))
            self._measure(spec, g, recorded)

    def _measure(self, spec: TaskSpec, g: int, recorded: TransitionSample) -> None:
        states = [recorded.features[g], recorded.last_features[g], recorded.end_features[g]]
        starts = recorded.start_features[g] if recorded.start_features else recorded.features[g]
        good = np.asarray(recorded.end_success) > 0.5
        if not good.any() and len(recorded.end_return):
            good = recorded.end_return > np.median(recorded.end_return)
        if not good.any() or not len(starts) or not starts.shape[-1]:
            return
        low = _mean_share(spec, g, starts)
        way = _mean_share(spec, g, recorded.end_features[g][good]) - low
        for rows in (*states, starts):
            flat = rows.reshape(-1, rows.shape[-1])
            along = (shares_of_range(spec.groups[g], flat) - low) @ way / max(float(way @ way), 1e-9)
            for features, value in zip(flat, np.clip(along, 0.0, 1.0).tolist(), strict=True):
                self.progress[exact_text(spec, g, features)] = value

    def answer(self, question: JudgeQuestion) -> float | None:
        """Return the answer, see `judgements`; None where nothing recorded tells."""
        known = self.progress if question.question == "hop" else self.advantages
        if not all(text in known for text in question.texts):
            return None
        values = [known[text] for text in question.texts]
        if question.question == "hop":
            return hop(*values)
        return float(values[-1] > (values[0] if question.question == "compare" else 0.0))


def _mean_share(spec: TaskSpec, g: int, features: FloatArray) -> NDArray[np.float64]:
    shares = shares_of_range(spec.groups[g], features)
    return np.asarray(shares.reshape(-1, shares.shape[-1]).mean(0, dtype=np.float64))
