"""Messages: what each form pays, the count within an episode, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.signals.captions import VECTOR, text_vector
from cosignal.rl.signals.scorer import Scorer, Scorers
from cosignal.rl.signals.shaping import CompiledSignal
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import MessageTerm
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, TaskSpec
from made_up_transitions import MadeUpTransitions

KEYS = FeatureSpec(name="keys", kind="count", low=0, high=3)
GROUP = GroupSpec(
    name="team", agents=("one",), obs_size=1, n_actions=2, features=(KEYS,), events=(EventSpec(name="found"),)
)
SPEC = TaskSpec(name="made_up", description="", groups=(GROUP,), return_range=(0.0, 10.0), max_steps=30)
FOUND = "just did found; keys 1"
OF = {"features": ("keys",), "events": ("found",), "agents": "team", "weight": 1.0}


def steps(*texts: str, ends: tuple[int, ...] = ()) -> MadeUpTransitions:
    """One agent's steps, by their texts: `just did found; keys 1` or `keys 2`."""
    keys = np.array([float(text[-1]) for text in texts], np.float32).reshape(-1, 1, 1, 1)
    found = np.array([float("found" in text) for text in texts], np.float32).reshape(-1, 1, 1, 1)
    done = np.zeros((len(texts), 1), np.float32)
    done[list(ends)] = 1
    return MadeUpTransitions([keys], [keys], [found], done, done=done)


def line(texts: list[str]) -> Scorer:
    """A scorer that is the sum of the likeness to each text."""
    weights = np.sum([text_vector(text) for text in texts], axis=0)[None, :, None]
    return Scorer((weights.astype(np.float32),), (np.zeros((1, 1), np.float32),))


def compiled(scorers: Scorers | None = None, **more: Any) -> CompiledSignal:
    term = MessageTerm(name="m", **{**OF, **more})
    return CompiledSignal(Signal(beta=1.0, scale=1.0, terms=(term,)), SPEC, scorers or Scorers())


def paid(signal: CompiledSignal, *rollouts: MadeUpTransitions) -> list[float]:
    memory = signal.new_memory(1)
    found: list[float] = np.concatenate(
        [signal.shape(x, 0.9, memory=memory).total[0].ravel() for x in rollouts]
    ).tolist()
    return found


def test_a_hash_pays_its_texts_and_a_repeated_one_by_the_cube_of_its_count() -> None:
    signal = compiled(form="hash", helpful=(FOUND,))
    got = paid(signal, steps(FOUND, "keys 1", FOUND), steps(FOUND, FOUND, FOUND, ends=(0,)))
    assert got == pytest.approx([1, 0, 1 / 8, 1 / 27, 1, 1 / 8])
    assert paid(compiled(form="hash", helpful=("keys 3",)), steps(FOUND)) == [0]


def test_no_loop_on_one_text_pays_more_than_a_fifth_above_the_first_time() -> None:
    assert sum(paid(compiled(form="hash", helpful=(FOUND,)), steps(*[FOUND] * 25))) < 1.21


def test_a_classifier_pays_above_its_threshold_and_a_ranking_its_score() -> None:
    scorers = Scorers()
    name = scorers.add(line([FOUND]))
    likeness = float(text_vector("keys 1") @ text_vector(FOUND))
    assert 0 < likeness < 1
    sure, unsure = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-likeness))
    by_probability = compiled(scorers, form="classifier", scorer=name, threshold=(sure + unsure) / 2)
    assert paid(by_probability, steps(FOUND, "keys 1")) == [1, 0]
    assert paid(compiled(scorers, form="ranking", scorer=name, threshold=-0.5), steps(FOUND, "keys 1")) == (
        pytest.approx([1, likeness], rel=1e-5)
    )
    assert paid(compiled(scorers, form="ranking", scorer=name, threshold=0.99), steps("keys 1")) == [0]
    # what is scored far above all is worth no more
    name = scorers.add(line([FOUND] * 7))
    assert paid(compiled(scorers, form="ranking", scorer=name), steps(FOUND)) == [1]


def test_it_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="form 'hash' needs helpful texts and no scorer"):
        MessageTerm(name="m", form="hash", **OF)
    with pytest.raises(ValueError, match="form 'ranking' needs a scorer"):
        MessageTerm(name="m", form="ranking", helpful=(FOUND,), **OF)
    with pytest.raises(SignalError, match=r"tells of \['rope'\], which agents of 'team' do not have"):
        compiled(form="hash", helpful=(FOUND,), features=("rope",))
    (line_,) = compiled(form="hash", helpful=(FOUND,)).terms[0].excess(5.0, (0.0, 10.0))
    assert "must be at most 2.5, got 5; lower its weight to 0.5" in line_
    assert line([FOUND]).obs_size == VECTOR
