"""ONI's three models: exact labels after one batch, texts that were held out, and orders under noise."""

from __future__ import annotations

import numpy as np
import pytest
from cosignal.errors import PreferenceError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.experience.transition_sample import CAPACITY, TransitionSample, TransitionSampler
from cosignal.rl.fitting.messages import SETTINGS, fit_classifier, fit_ranking, helpful_texts
from cosignal.rl.signals.captions import text_vectors
from cosignal.rl.signals.config import SignalConfig
from cosignal.rl.signals.learned.judgements import JudgeQuestion
from cosignal.rl.signals.learned.messages import compare_questions, label_questions, messages_of
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import MessageTerm
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, TaskSpec
from cosignal.rl.training.config import TrainerConfig, TrainingConfig
from cosignal.rl.training.line import TrainingLine
from training_lines import small_config, trained

ROOMS, GOOD, BAD = range(8), ("picked up the key", "opened the door"), ("bumped into the wall", "stood still")


def texts(rooms: list[int]) -> tuple[list[str], list[str]]:
    return tuple([f"{what}; room {room}" for what in kind for room in rooms] for kind in (GOOD, BAD))  # type: ignore[return-value]


def test_a_hash_has_the_exact_labels_after_one_batch() -> None:
    good, bad = texts([1])
    answers: dict[JudgeQuestion, float | None] = dict.fromkeys(label_questions(good), 1.0)
    answers |= dict.fromkeys(label_questions(bad), 0.0)
    answers |= {JudgeQuestion(question="label", texts=("nobody could read this",)): None}
    answers |= {JudgeQuestion(question="label", texts=("half",)): 0.5}
    assert helpful_texts(answers) == good


def test_a_classifier_is_right_on_texts_that_it_never_saw() -> None:
    good, bad = texts([0, 1, 2, 3, 4])
    answers: dict[JudgeQuestion, float | None] = dict.fromkeys(label_questions(good), 1.0)
    answers |= dict.fromkeys(label_questions(bad), 0.0)
    fitted = fit_classifier(answers, SETTINGS, seed=1)
    new_good, new_bad = texts([5, 6, 7])
    log_odds = fitted.scorer.score(text_vectors(new_good + new_bad)) - fitted.scorer.score(
        text_vectors([]).sum(0)[None]
    )
    right = (log_odds > 0) == np.array([True] * len(new_good) + [False] * len(new_bad))
    assert right.mean() >= 0.95


@pytest.mark.parametrize("flipped", [0.0, 0.2])
def test_a_ranking_keeps_the_order_where_a_fifth_of_the_labels_is_flipped(flipped: float) -> None:
    good, bad = texts([*ROOMS])
    rng = np.random.default_rng(3)
    questions = compare_questions(good + bad, 300, seed=2)
    assert len({question.texts for question in questions}) == 300
    answers: dict[JudgeQuestion, float | None] = {}
    for question in questions:
        first, second = (text in good for text in question.texts)
        vote = 0.5 if first == second else float(second)
        answers[question] = 1 - vote if rng.random() < flipped else vote
    scores = fit_ranking(answers, SETTINGS, seed=1).scorer.score(text_vectors(good + bad)).astype(np.float64)
    above = scores[: len(good)][:, None] > scores[len(good) :][None]
    assert above.mean() >= 0.95
    asked = sorted({text for question in questions for text in question.texts})
    known = fit_ranking(answers, SETTINGS, seed=1).scorer.score(text_vectors(asked))
    assert (known.mean(), known.std()) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))


def test_too_few_are_said_so() -> None:
    with pytest.raises(PreferenceError, match="a scorer needs at least 20 ranked pairs, got 1 of 1"):
        fit_classifier({JudgeQuestion(question="label", texts=("a",)): 1.0}, SETTINGS, seed=1)


def test_texts_come_newest_first_and_each_once() -> None:
    group = GroupSpec(
        name="team", agents=("one", "other"), obs_size=1, n_actions=2, events=(EventSpec(name="found"),),
        features=(FeatureSpec(name="keys", kind="count", low=0, high=9),),
    )  # fmt: skip
    spec = TaskSpec(name="made_up", description="", groups=(group,), max_steps=30)
    keys = np.array([[0, 1], [2, 1], [0, 3]], np.float32)[..., None]
    sample = TransitionSample(
        features=[keys], last_features=[keys], events=[np.zeros((3, 2, 1), np.float32)], terminated=np.zeros(3),
        end_features=[keys[:0]], end_success=np.zeros(0),
    )  # fmt: skip
    assert messages_of(spec, sample) == ["keys 0", "keys 3", "keys 2", "keys 1"]


# ------------------------------------------------------------ learning


def returned(seed: int, *helpful: str) -> float:
    """The mean return of the last five of 60 updates on the deceptive chain, under texts that were called helpful."""
    task = TaskConfig(env="cosignal.studies.chain:Chain")
    config = TrainingConfig(
        seed=seed, clock="lockstep", task=task, signal=SignalConfig(), pause_every_steps=None, margin=0.02,
        trainer=TrainerConfig(algorithm="ippo", envs=16, rollout=40, steps=100_000),
    )  # fmt: skip
    line = TrainingLine(config)
    if helpful:
        term = MessageTerm(name="m", form="hash", features=("cell",), helpful=helpful, weight=0.1, agents="agents")
        line.apply_signal(Signal(version=1, beta=1.0, scale=1.0, terms=(term,)))
    found = [line.update().row["returns"] for _ in range(60)]
    line.close()
    return float(np.mean([x for x in found[-5:] if x is not None]))


@pytest.mark.timeout(240)
def test_a_judge_that_is_right_leads_past_a_reward_that_deceives_and_one_that_is_wrong_does_not() -> None:
    right = [f"cell {k}" for k in range(2, 12)]
    assert min(returned(seed, *right) for seed in (3, 4)) > 0.9
    # twins: nobody judged, and a judge who likes where episodes begin
    assert returned(3) < 0.2
    assert returned(3, "cell 0") < 0.2


def test_the_newest_are_known_also_after_the_ring_of_transitions_has_come_round() -> None:
    line = trained(small_config(), 1)
    line.recorder = TransitionSampler(line.spec)
    line.recorder.count = CAPACITY + 5  # five have come to the first places again
    sample = line.recorder.recorded(line.episodes)
    assert sample.newest_first()[:6].tolist() == [4, 3, 2, 1, 0, CAPACITY - 1]
    line.close()
