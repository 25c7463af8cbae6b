"""Fitting reward models to judgements of short texts, after ONI (facebookresearch/oni).

    hash         the texts that were labelled helpful
    classifier   cross-entropy of σ(f(m)) and the label
    ranking      −Σ y log σ(f(m_b) − f(m_a)), y = 1/2 for a tie; f is centred and scaled to unit deviation

*Taken over*: the three models, ties, newest texts first, the count within an episode. *Ours*: f is an ensemble of small
networks over hashed letters of the text, in place of a character CNN, since texts are short and few; it is fitted anew
at every point to all labels of the run, so that nothing of an optimiser has to be kept. A classifier is a ranking
against nothing: its log-odds are f(m) − f(0).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..preferences.config import ScorerConfig
from ..preferences.fit import Fitted, fit_scorer
from ..preferences.pairs import Pairs
from ..signals.captions import text_vectors
from ..signals.learned.judgements import Answers
from ..task import FloatArray

TIE = 0.5
SETTINGS = ScorerConfig(hidden=(32,), members=3, batch=64, held_out=0.2)


def helpful_texts(answers: Answers) -> list[str]:
    """Return the texts that were labelled helpful, in the order in which they were judged."""
    return [
        q.texts[0] for q, answer in answers.items() if q.question == "label" and answer is not None and answer > TIE
    ]


def fit_classifier(answers: Answers, config: ScorerConfig, seed: int) -> Fitted:
    """Fit to all labels.

    Raises:
        PreferenceError: there are too few.
        TrainingDiverged: the fit is not finite.
    """
    labels = {q.texts[0]: _or_tie(answer) for q, answer in answers.items() if q.question == "label"}
    vectors = text_vectors([*labels])
    return _fitted(
        np.zeros_like(vectors), vectors, [*labels.values()], config.model_copy(update={"normalise": False}), seed
    )


def fit_ranking(answers: Answers, config: ScorerConfig, seed: int) -> Fitted:
    """Fit to all comparisons; its scores have mean 0 and deviation 1 over the texts. Raises as `fit_classifier`."""
    votes = {q.texts: _or_tie(answer) for q, answer in answers.items() if q.question == "compare"}
    first, second = (text_vectors([texts[i] for texts in votes]) for i in (0, 1))
    fitted = _fitted(first, second, [*votes.values()], config, seed)
    texts = text_vectors(sorted({text for pair in votes for text in pair}))
    plain = replace(fitted.scorer, unit=1.0, anchor=0.0)
    scores = plain.score(texts).astype(np.float64)
    return replace(fitted, scorer=replace(plain, unit=max(float(scores.std()), 1e-6), anchor=float(scores.mean())))


def _or_tie(answer: float | None) -> float:
    return TIE if answer is None else answer


def _fitted(before: FloatArray, after: FloatArray, votes: list[float], config: ScorerConfig, seed: int) -> Fitted:
    confidence = np.array(votes, np.float64)
    n, nobody = len(votes), np.zeros(len(votes), np.int64)
    label = np.sign(confidence - TIE).astype(np.int64)
    pairs = Pairs(0, before, after, nobody, nobody, label, [""] * n, [""] * n)
    return fit_scorer(pairs, confidence, config, seed)
