"""Subgoals in order: once each, nothing out of order, per agent or team, across rollouts, snapshots and episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import EventTerm, SubgoalsTerm
from cosignal.rl.task import EventSpec, GroupSpec, TaskSpec
from cosignal.rl.training.checkpoint import load_snapshot, save_snapshot
from cosignal.rl.training.line import TrainingLine
from hypothesis import given
from hypothesis import strategies as st
from made_up_transitions import MadeUpTransitions
from training_lines import assert_same_state, small_config, trained

EVENTS = tuple(EventSpec(name=name, repeatable=True) for name in ("key", "door", "gold"))
GROUP = GroupSpec(name="team", agents=("one", "other"), obs_size=1, n_actions=2, features=(), events=EVENTS)
SPEC = TaskSpec(name="made_up", description="", groups=(GROUP,), return_range=(0.0, 10.0), max_steps=30)
KEY, DOOR, GOLD = 0, 1, 2


def steps(*happened: list[tuple[int, int]], ends: tuple[int, ...] = ()) -> MadeUpTransitions:
    """One environment's steps; in each, (agent, event) that happen in it."""
    events = np.zeros((len(happened), 1, 2, 3), np.float32)
    for t, pairs in enumerate(happened):
        for agent, event in pairs:
            events[t, 0, agent, event] += 1
    nothing, done = np.zeros((len(happened), 1, 2, 0), np.float32), np.zeros((len(happened), 1), np.float32)
    done[list(ends)] = 1
    return MadeUpTransitions([nothing], [nothing], [events], done, done=done)


def compiled(**more: Any) -> CompiledSignal:
    term = SubgoalsTerm(**{"name": "order", "events": ("key", "door", "gold"), "weight": 1.0, **more})
    return CompiledSignal(Signal(beta=1.0, scale=1.0, terms=(term,)), SPEC)


def paid(signal: CompiledSignal, *rollouts: MadeUpTransitions) -> list[list[float]]:
    """What each agent is paid in each step."""
    memory = signal.new_memory(1)
    found: list[list[float]] = np.concatenate(
        [signal.shape(x, 0.9, memory=memory).total[0][:, 0] for x in rollouts]
    ).tolist()
    return found


def test_each_pays_once_in_order_and_what_comes_too_early_pays_nothing() -> None:
    got = paid(compiled(), steps([(0, DOOR)], [(0, KEY)], [(0, KEY)], [(0, GOLD)], [(0, DOOR)], [(0, GOLD)]))
    assert got == [[0, 0], [1, 0], [0, 0], [0, 0], [1, 0], [1, 0]]


def test_agents_go_through_the_list_by_themselves_and_a_team_together() -> None:
    shared = [(0, KEY)], [(1, DOOR)], [(0, GOLD), (1, KEY)]
    assert paid(compiled(), steps(*shared)) == [[1, 0], [0, 0], [0, 1]]
    assert paid(compiled(per="team"), steps(*shared)) == [[1, 1], [1, 1], [1, 1]]


def test_two_in_one_step_count_both_and_an_episode_begins_anew_across_rollouts() -> None:
    assert paid(compiled(), steps([(0, KEY), (0, DOOR)]), steps([(0, KEY), (0, GOLD)])) == [[2, 0], [1, 0]]
    again = paid(compiled(), steps([(0, KEY)], ends=(0,)), steps([(0, KEY)], [(0, KEY)]))
    assert again == [[1, 0], [1, 0], [0, 0]]


@given(st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), max_size=3), min_size=1, max_size=20))
def test_however_an_episode_goes_it_pays_no_more_than_the_list_is_long(happened: list[list[tuple[int, int]]]) -> None:
    total = np.sum(paid(compiled(), steps(*happened)), axis=0)
    assert (total <= 3).all()
    assert (total >= 0).all()


def test_it_knows_its_events_and_is_bounded_as_a_bonus() -> None:
    with pytest.raises(SignalError, match="reads event 'cellar', which this task does not have"):
        compiled(events=("key", "cellar"))
    (line,) = compiled().terms[0].excess(3.0, (0.0, 10.0))
    assert "must be at most 2.5, got 3; lower its weight to 0.83" in line
    assert not [*compiled().terms[0].excess(2.5, (0.0, 10.0))]


def test_training_goes_on_bit_for_bit_in_the_middle_of_episodes(tmp_path: Path) -> None:
    """Subgoals and a bound that remembers, on Two-Switch, whose episodes are longer than a rollout."""
    line = trained(small_config(), 1)
    names = [event.name for event in line.spec.groups[0].events]
    terms = (
        SubgoalsTerm(name="order", events=(names[0], names[-1]), per="team"),
        EventTerm(name="once", event=names[0], bound="delta"),
    )
    line.apply_signal(Signal(version=1, terms=terms))
    line.update()
    save_snapshot(line, tmp_path / "snapshot")
    other = TrainingLine(small_config())
    load_snapshot(other, tmp_path / "snapshot")
    assert [{*memory} for memory in other.signal_memory] == [{"done"}, {"running"}]
    assert other.signal_memory[1]["running"].any()
    line.update()
    other.update()
    assert_same_state(line, other)
