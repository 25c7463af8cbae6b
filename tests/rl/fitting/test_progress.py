"""Progress by hops: Φ stays in 0..1, an inconsistent judge freezes it, and what is regressed is what was judged."""

from __future__ import annotations

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.fitting.progress import fit_progress
from cosignal.rl.signals.learned.judgements import JudgeQuestion
from cosignal.rl.signals.learned.outcome_judge import OutcomeJudge
from cosignal.rl.signals.learned.progress import hop, hops_of, judged_progress, moved_by, next_progress
from cosignal.rl.signals.scorer import Scorers
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import ProgressTerm
from cosignal.rl.task import FeatureSpec, GroupSpec, TaskSpec
from hypothesis import given
from hypothesis import strategies as st

FEATURES = tuple(FeatureSpec(name=name, kind="quantity", low=0, high=10) for name in ("far", "noise"))
GROUP = GroupSpec(name="team", agents=("one",), obs_size=1, n_actions=2, features=FEATURES)
SPEC = TaskSpec(name="made_up", description="", groups=(GROUP,), return_range=(0.0, 1.0), max_steps=30)
shares, hops = st.floats(0, 1), st.floats(-1, 1)


@pytest.mark.parametrize(
    ("before", "after", "judged"),
    [(0.0, 0.25, 0.25), (0.5, 0.75, 0.5), (0.5, 0.25, -0.5), (1.0, 1.0, 0.0), (0.0, 0.0, 0.0)],
)
def test_a_hop_by_hand_and_back(before: float, after: float, judged: float) -> None:
    assert hop(before, after) == pytest.approx(judged)
    assert before + moved_by(before, judged) == pytest.approx(after)


@given(phi=shares, seen=st.lists(st.tuples(hops, hops, hops), max_size=30))
def test_whatever_is_judged_progress_stays_in_0_to_1(phi: float, seen: list[tuple[float, float, float]]) -> None:
    for step, forward, backward in seen:
        assert 0 <= phi + moved_by(phi, step) <= 1
        phi = next_progress(phi, step, forward, backward)
        assert 0 <= phi <= 1


@given(phi=shares, step=hops)
def test_a_judge_that_contradicts_itself_freezes_it(phi: float, step: float) -> None:
    """Forward it is at the goal, backward at the start: Δ = 2, w = e^−16."""
    assert next_progress(phi, step, 1.0, -1.0) == pytest.approx(phi, abs=1e-6)


def test_a_consistent_judge_moves_it_half_way_to_its_views_and_half_by_the_hop() -> None:
    # views 0.5 and 0.5, ΔΦ = (1 − 0.2) · 0.5 = 0.4: 0.2 + ½ (0.5 − 0.2 + 0.4)
    assert next_progress(0.2, 0.5, 0.5, -0.5) == pytest.approx(0.55)


def recorded(n: int = 120, seed: int = 0) -> TransitionSample:
    rng = np.random.default_rng(seed)
    before = rng.uniform(0, 10, (n, 1, 2)).astype(np.float32)
    after = (before + rng.uniform(-1, 1, before.shape)).clip(0, 10).astype(np.float32)
    ends = np.array([[[0.0, 5.0]], [[8.0, 5.0]]], np.float32)
    return TransitionSample(
        features=[before], last_features=[after], events=[np.zeros((n, 1, 0), np.float32)], terminated=np.zeros(n),
        end_features=[ends], end_success=np.array([1, 0]), start_features=[np.array([[[10.0, 5.0]]] * 2, np.float32)],
    )  # fmt: skip


def test_what_a_consistent_judge_says_becomes_a_potential_that_rises_along_the_way() -> None:
    sample = recorded()
    judge = OutcomeJudge(SPEC, sample)
    (found,) = hops_of(SPEC, sample, 60, seed=1)
    questions = found.questions()
    assert len(questions) == len({*questions}) <= 5 * 60
    answers = {question: judge.answer(question) for question in questions}
    features, targets = judged_progress(found, answers)
    assert len(targets) == 120
    assert ((targets >= 0) & (targets <= 1)).all()
    assert np.corrcoef(targets, -features[:, 0])[0, 1] > 0.9
    fitted = fit_progress(SPEC, 0, features, targets, 32, 300, seed=1)
    assert fitted.explained > 0.8
    scorers = Scorers()
    term = ProgressTerm(name="p", scorer=scorers.add(fitted.scorer), agents="team")
    signal = CompiledSignal(Signal(terms=(term,), scale=1.0), SPEC, scorers)
    states = np.array([[[far, 5.0]] for far in (10, 5, 0, -90)], np.float32)
    phi = signal.potential([states])[0].ravel().tolist()
    assert phi[0] < phi[1] < phi[2]
    assert all(0 <= x <= 1 for x in phi)
    assert term.is_potential
    narrow = SPEC.model_copy(update={"groups": (GROUP.model_copy(update={"features": FEATURES[:1]}),)})
    with pytest.raises(SignalError, match="takes 2 features, agents of 'team' have 1"):
        CompiledSignal(signal.signal, narrow, scorers)


def test_a_random_judge_explains_nothing_and_a_contradicting_one_is_refused() -> None:
    sample = recorded()
    (found,) = hops_of(SPEC, sample, 60, seed=1)
    rng = np.random.default_rng(1)
    at_random = {question: float(rng.uniform(-1, 1)) for question in found.questions()}
    features, targets = judged_progress(found, at_random)
    assert fit_progress(SPEC, 0, features, targets, 32, 300, seed=1).explained < 0.3
    against: dict[JudgeQuestion, float | None] = {
        question: {found.starts[0]: 1.0, found.goals[0]: -1.0}.get(question.texts[0], 0.0)
        for question in found.questions()
    }
    features, targets = judged_progress(found, against)
    with pytest.raises(SignalError, match="look whether the judge contradicts itself"):
        fit_progress(SPEC, 0, features, targets, 32, 300, seed=1)
