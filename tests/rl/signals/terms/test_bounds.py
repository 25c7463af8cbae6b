"""Bounds: what a step that is repeated adds up to, by hand and as laws, and across the ends of rollouts."""

from __future__ import annotations

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.algorithms.config import VDNConfig
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.signals.check import check_signal
from cosignal.rl.signals.distance import SignalComparison
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, LearnedTerm
from cosignal.rl.signals.terms.bounds import Bound, clipped, delta
from cosignal.rl.task import EventSpec, GroupSpec, TaskSpec
from hypothesis import given
from hypothesis import strategies as st
from made_up_transitions import MadeUpTransitions

EVENT = EventSpec(name="found", repeatable=True)
GROUP = GroupSpec(name="team", agents=("one",), obs_size=1, n_actions=2, features=(), events=(EVENT,))
SPEC = TaskSpec(name="made_up", description="", groups=(GROUP,), return_range=(0.0, 10.0), max_steps=30)


def steps(counts: list[int], *, done: bool = True) -> MadeUpTransitions:
    """One environment's consecutive steps, in each of which the agent causes the event so many times."""
    events = np.array(counts, np.float32).reshape(-1, 1, 1, 1)
    nothing, ends = np.zeros((len(counts), 1, 1, 0), np.float32), np.zeros((len(counts), 1), np.float32)
    ends[-1] = done
    return MadeUpTransitions([nothing], [nothing], [events], ends, done=ends)


def signal(bound: Bound, **more: float) -> CompiledSignal:
    term = EventTerm(name="found", event="found", weight=1.0, bound=bound, **more)
    return CompiledSignal(Signal(beta=1.0, scale=1.0, terms=(term,)), SPEC)


def paid(compiled: CompiledSignal, *rollouts: MadeUpTransitions, gamma: float = 1.0) -> list[float]:
    memory = compiled.new_memory(1)
    parts = [compiled.shape(x, gamma, memory=memory).total[0] for x in rollouts]
    return [float(x) for x in np.concatenate(parts).ravel()]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_rewarded_step_repeated_n_times_pays_n_nothing_or_once(n: int) -> None:
    repeated = steps([1] * n)
    assert sum(paid(signal("none"), repeated)) == n
    assert sum(paid(signal("clip"), repeated)) <= 0
    assert sum(paid(signal("delta"), repeated)) == 1


def test_by_hand() -> None:
    mixed = steps([0, 2, 1, 0])
    assert paid(signal("clip"), mixed) == [-1, 0, 0, -1]  # a step without the event costs one
    assert paid(signal("delta"), mixed) == [-2, 1, 1, 0]
    assert paid(signal("delta"), mixed, gamma=0.5) == [-1, 1.5, 1, 0]


@given(rewards=st.lists(st.integers(-5, 5), min_size=1, max_size=20), cut=st.integers(0, 20), gamma=st.floats(0, 1))
def test_from_any_step_on_delta_pays_that_step_wherever_rollouts_end(
    rewards: list[int], cut: int, gamma: float
) -> None:
    """In one rollout every discounted return-to-go is r_k; in two, the whole episode's is still r_0."""
    r = np.array(rewards, np.float64).reshape(-1, 1, 1)
    ends = np.zeros((len(r), 1), np.float32)
    ends[-1] = 1
    whole = delta(r, ends, np.zeros(1), gamma)
    for k in range(len(r)):
        to_go = sum(gamma**i * x for i, x in enumerate(whole[k:, 0, 0]))
        assert to_go == pytest.approx(rewards[k], abs=1e-9)
    cut = min(cut, len(r) - 1)
    if cut:
        parts = [delta(r[:cut], ends[:cut], np.zeros(1), gamma), delta(r[cut:], ends[cut:], np.ones(1), gamma)]
        total = sum(gamma**i * x for i, x in enumerate(np.concatenate(parts)[:, 0, 0]))
        assert total == pytest.approx(rewards[0], abs=1e-9)
    assert (clipped(r, 0.0) <= 0).all()


def test_what_a_rollout_cuts_is_taken_back_in_the_next_one_and_not_from_another_episode() -> None:
    compiled = signal("delta")
    assert paid(compiled, steps([1, 1], done=False), steps([1, 1])) == [0, 1, -1, 1]
    assert paid(compiled, steps([1, 1]), steps([1, 1])) == [0, 1, 0, 1]


def test_an_event_that_repeats_without_progress_may_be_paid_for_with_a_bound_only() -> None:
    assert [*signal("none").terms[0].misuse()]
    assert not [*signal("clip").terms[0].misuse(), *signal("delta").terms[0].misuse()]


def test_a_learner_from_a_replay_refuses_delta_and_a_potential_any_bound() -> None:
    config = VDNConfig()
    config.check_signal(signal("clip").signal)
    with pytest.raises(SignalError, match="depends on earlier steps of the episode, which a replay does not give"):
        config.check_signal(signal("delta").signal)
    with pytest.raises(ValueError, match="bound must be none in the potential form"):
        LearnedTerm(name="x", scorer="0" * 16, agents="team", bound="clip")


def test_without_a_bound_the_term_is_written_as_before() -> None:
    assert not {"bound", "team_spirit"} & EventTerm(name="x", event="found").model_dump().keys()


def test_another_bound_is_another_signal_though_single_steps_do_not_show_it() -> None:
    counts = np.array([0, 1, 2, 0] * 20, np.float32).reshape(-1, 1, 1)
    nothing = np.zeros((len(counts), 1, 0), np.float32)
    recorded = TransitionSample(
        features=[nothing], last_features=[nothing], events=[counts], terminated=np.zeros(len(counts)),
        end_features=[nothing[:0]], end_success=np.zeros(0),
    )  # fmt: skip
    free, bounded = (signal(x, decay_steps=1_000_000).signal for x in ("none", "delta"))
    comparison = SignalComparison(SPEC, recorded, Signal(), (0.0, 10.0))
    assert comparison.twins(bounded, bounded)
    assert not comparison.twins(free, bounded)
    report = check_signal(bounded, SPEC, recorded, free, set(), (0.0, 10.0))
    assert report.problems == []
