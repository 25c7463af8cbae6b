"""The numbers of a proposed signal, computed by hand on a task of two states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.signals.distance import SignalComparison
from cosignal.rl.signals.preview import SignalPreview, SignalSummary, preview_signal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, PotentialTerm
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, TaskSpec
from hypothesis import assume, given
from hypothesis import strategies as st

# Two agents are each at place 0 or 1. Two is what the best episode returns, so that Φ = place is worth 2 at scale 2,
# and 1 with beta 0.5.
SPEC = TaskSpec(
    name="two_places",
    description="",
    groups=(
        GroupSpec(
            name="all",
            agents=("a", "b"),
            obs_size=1,
            n_actions=2,
            features=(FeatureSpec(name="place", kind="flag", low=0, high=1),),
            events=(EventSpec(name="arrived"), EventSpec(name="never")),
        ),
    ),
    return_range=(0.0, 2.0),
)
PLACE = PotentialTerm(name="place", expression="place")
ARRIVED = EventTerm(name="arrived", event="arrived", weight=0.2)


def per_agent(*rows: tuple[float, float]) -> list[np.ndarray]:
    return [np.array(rows, np.float32)[:, :, None]]


def events(*rows: tuple[float, float]) -> list[np.ndarray]:
    """How often a and b arrived."""
    return [np.stack([np.array(rows), np.zeros((len(rows), 2))], axis=-1).astype(np.float32)]


# Four steps: a stays at 0, goes to 1, stays there as the episode terminates, goes back. b stays at 0.
SAMPLE = TransitionSample(
    features=per_agent((0, 0), (0, 0), (1, 0), (1, 0)),
    last_features=per_agent((0, 0), (1, 0), (1, 0), (0, 0)),
    events=events((0, 0), (1, 0), (0, 0), (0, 0)),
    terminated=np.array([0, 0, 1, 0], np.float32),
    reward=np.array([0, 0, 2, 0], np.float32),
    # Five episodes, the last three of which succeed.
    start_features=per_agent((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)),
    end_features=per_agent((0, 0), (1, 1), (1, 0), (1, 1), (1, 1)),
    end_success=np.array([0, 0, 1, 1, 1], np.float32),
    end_return=np.array([0, 0.5, 1, 1.5, 2], np.float32),
    end_counts=events((0, 0), (0, 0), (1, 0), (2, 1), (0, 0)),
    event_kind=np.array([0, 0]),
    event_features=per_agent((1, 0), (1, 1)),
)


def preview(
    *terms: Any, sample: TransitionSample = SAMPLE, in_force: Signal | None = None, **more: Any
) -> SignalPreview:
    comparison = SignalComparison(SPEC, sample, in_force or Signal(scale=1.0), SPEC.return_range)
    return preview_signal(Signal(terms=terms), comparison, gamma=0.5, **more)


def test_a_potential_by_hand() -> None:
    """F of a: 0.5 · 0 − 0, 0.5 · 1 − 0, −1 since Φ is 0 where it terminates, 0.5 · 0 − 1; of b nothing."""
    found = preview(PLACE)
    assert found.phi_start == pytest.approx(1 / 10)
    assert found.phi_after == [("arrived", pytest.approx(3 / 4))]
    assert found.phi_end_failed == pytest.approx((0 + 1) / 2)
    assert found.phi_end_success == pytest.approx((0.5 + 1 + 1) / 3)
    assert found.mean_paid == pytest.approx((0 + 0.5 + 1 + 1) / 8)
    assert found.mean_reward == pytest.approx(0.5)
    assert found.paid_share == pytest.approx(2 / 8)  # a step to 1 and one back, out of four steps of two agents
    # End minus start: 0, 0.5, 0.5, 1, 1, so the ranks 1, 2.5, 2.5, 4.5, 4.5 against 1, 2, 3, 4, 5.
    assert found.return_correlation == pytest.approx(9 / np.sqrt(90))


def test_only_the_agents_that_a_term_is_for_count() -> None:
    found = preview(PLACE.model_copy(update={"agents": ["a"]}))
    assert found.phi_start == pytest.approx(1 / 5)
    assert found.phi_after == [("arrived", pytest.approx(1.0))]
    assert found.mean_paid == pytest.approx((0 + 0.5 + 1 + 1) / 4)
    assert found.paid_share == pytest.approx(2 / 4)


def test_an_event_bonus_has_no_potential_and_is_summed_over_episodes() -> None:
    """Without a potential the scale is 1: 0.5 · 0.2 once in eight."""
    found = preview(ARRIVED)
    assert (found.phi_start, found.phi_after, found.phi_end_failed, found.phi_end_success) == (None, [], None, None)
    assert found.mean_paid == pytest.approx(0.1 / 8)
    assert found.paid_share == pytest.approx(1 / 8)
    # Arrived 0, 0, 1, 3, 0 times: ranks 2, 2, 4, 5, 2.
    assert found.return_correlation == pytest.approx(np.corrcoef([2, 2, 4, 5, 2], [1, 2, 3, 4, 5])[0, 1])


def test_distances_to_the_signal_in_force_and_to_earlier_proposals_the_nearest_first() -> None:
    in_force = Signal(scale=1.0, terms=(PLACE,))
    earlier = [
        ("p1-r0-0", Signal(terms=(PLACE.model_copy(update={"weight": -1.0}),))),
        ("p1-r0-1", Signal(terms=(ARRIVED,))),
        ("p1-r0-2", Signal(terms=(PLACE.model_copy(update={"weight": 3.0, "name": "other"}),))),
        ("p1-r0-3", Signal()),  # pays nothing, so it has no distance
    ]
    found = preview(PLACE, in_force=in_force, earlier=earlier)
    assert found.distance_in_force == 0.0
    assert [key for key, _ in found.distances] == ["p1-r0-2", "p1-r0-1", "p1-r0-0"]
    # The steps pay a (0, 1, 0, −1) and (0, 1, 0, 0): ρ = 1 / √(2 · (1 − 1/8)).
    assert [d for _, d in found.distances] == pytest.approx([0, np.sqrt((1 - 1 / np.sqrt(7 / 4)) / 2), 1], abs=1e-6)


# ------------------------------------------------------------ informativeness

# By the critic's estimate going to 1 was better than the policy's mean, going back worse; of one step nothing is known.
ADVANTAGE = [np.array([(1, 0), (2, 0), (0, 0), (-1, np.nan)], np.float32)]
JUDGED = replace(SAMPLE, advantage=ADVANTAGE)


def test_informativeness_by_hand() -> None:
    """Payments of a are 0, ½, −1, −1, see above, of b 0: their products with the advantages are 0, 1, 0 and 1.

    Over the seven known ones Σxy − nx̄ȳ = 2 + 3/7, and the sums of squares are 2.25 − 2.25/7 and 6 − 4/7.
    """
    assert preview(PLACE, sample=JUDGED).informativeness == pytest.approx(17 / np.sqrt(13.5 * 38))
    only_a = PLACE.model_copy(update={"agents": ["a"]})
    payments, advantages = [0, 0.5, -1, -1], [1, 2, 0, -1]
    assert preview(only_a, sample=JUDGED).informativeness == pytest.approx(np.corrcoef(payments, advantages)[0, 1])


@pytest.mark.parametrize("advantage", [[], [np.full((4, 2), np.nan)], [np.ones((4, 2))]])
def test_informativeness_is_not_known_without_advantages_that_differ(advantage: list[np.ndarray]) -> None:
    assert preview(PLACE, sample=replace(SAMPLE, advantage=advantage)).informativeness is None


@given(
    st.lists(st.floats(-10, 10, width=32), min_size=8, max_size=8),
    st.floats(0.01, 100),
    st.floats(0.05, 2),
    st.floats(0.01, 100),
)
def test_informativeness_has_no_unit_and_a_sign(values: list[float], weight: float, beta: float, unit: float) -> None:
    advantage = np.array(values, np.float32).reshape(4, 2)
    assume(advantage.std() > 0.01)

    def found(weight: float, beta: float, advantage: np.ndarray) -> float:
        comparison = SignalComparison(SPEC, replace(SAMPLE, advantage=[advantage]), Signal(scale=1.0), (0.0, 2.0))
        terms = (PLACE.model_copy(update={"weight": weight}),)
        told = preview_signal(Signal(terms=terms, beta=beta), comparison, gamma=0.5).informativeness
        assert told is not None and -1 <= told <= 1
        return told

    usual = found(1.0, 0.5, advantage)
    assert found(weight, beta, unit * advantage) == pytest.approx(usual, abs=1e-3)
    assert found(-weight, beta, advantage) == pytest.approx(-usual, abs=1e-3)


def test_a_signal_without_terms_pays_nothing() -> None:
    assert preview() == SignalPreview(mean_reward=0.5)


def test_agents_in_another_order_have_the_same_numbers() -> None:
    arrays = ("features", "last_features", "events", "start_features", "end_features", "end_counts", "event_features")
    turned = replace(SAMPLE, **{name: [getattr(SAMPLE, name)[0][:, ::-1]] for name in arrays})
    assert preview(PLACE, ARRIVED, sample=turned) == preview(PLACE, ARRIVED)


def test_a_sample_of_an_older_version_tells_less() -> None:
    older = replace(
        SAMPLE, reward=np.zeros(0), start_features=[], end_return=np.zeros(0), end_counts=[], event_features=[],
        event_kind=np.zeros(0),
    )  # fmt: skip
    found = preview(PLACE, sample=older)
    told = {name for name, value in found.model_dump().items() if value not in (None, [])}
    assert told == {"phi_end_failed", "phi_end_success", "mean_paid", "paid_share"}


def test_what_a_run_that_began_in_an_older_version_did_not_keep_is_left_out() -> None:
    start, reward = SAMPLE.start_features[0].copy(), SAMPLE.reward.copy()
    start[:1], reward[:2] = np.nan, np.nan
    found = preview(PLACE, sample=replace(SAMPLE, start_features=[start], reward=reward))
    assert found.phi_start == pytest.approx(0.5 / 4)
    assert found.mean_reward == pytest.approx(1.0)
    assert found.return_correlation is None  # four episodes are too few


def test_a_task_without_a_success_test_has_no_outcomes() -> None:
    comparison = SignalComparison(SPEC.model_copy(update={"has_success": False}), SAMPLE, Signal(scale=1.0), (0.0, 2.0))
    found = preview_signal(Signal(terms=(PLACE,)), comparison, gamma=0.5)
    assert (found.phi_end_failed, found.phi_end_success) == (None, None)
    assert found.phi_start is not None


def test_the_summary_has_six_numbers_and_leaves_out_what_is_not_known() -> None:
    found = preview(PLACE, sample=JUDGED)
    assert len(SignalSummary.model_fields) == 6
    assert found.summary().model_dump() == {name: getattr(found, name) for name in SignalSummary.model_fields}
    assert SignalPreview(phi_start=0.5).summary().model_dump() == {"phi_start": 0.5}
    assert SignalPreview.model_validate_json(found.model_dump_json()) == found
