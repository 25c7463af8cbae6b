"""The goal by the run's own successes, and its similarity as a term."""

from __future__ import annotations

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.experience.transition_sample import TransitionSample
from cosignal.rl.signals.learned.goal_similarity import goal_similarity
from cosignal.rl.signals.learned.judged_config import GoalSimilarityConfig
from cosignal.rl.task import FeatureSpec, GroupSpec, TaskSpec

FEATURES = (
    FeatureSpec(name="open", kind="flag", low=0, high=1, object="door"),
    FeatureSpec(name="far", kind="distance", low=0, high=20, object="door"),
    FeatureSpec(name="gold", kind="count", low=0, high=4),
    FeatureSpec(name="noise", kind="quantity", low=0, high=1),
)
GROUP = GroupSpec(name="team", agents=("one",), obs_size=1, n_actions=2, features=FEATURES)
SPEC = TaskSpec(name="made_up", description="", groups=(GROUP,), max_steps=30)


def ended(*rows: list[float], success: list[int]) -> TransitionSample:
    ends = np.array(rows, np.float32)[:, None]
    return TransitionSample(
        features=[ends], last_features=[ends], events=[np.zeros((len(rows), 1, 0), np.float32)],
        terminated=np.zeros(len(rows)), end_features=[ends], end_success=np.array(success),
    )  # fmt: skip


def test_it_counts_what_tells_successes_from_failures_under_its_object() -> None:
    sample = ended([1, 2, 3, 0.5], [1, 0, 1, 0.5], [0, 12, 1, 0.5], [0, 14, 1, 0.5], success=[1, 1, 0, 0])
    (term,) = goal_similarity(SPEC, sample, GoalSimilarityConfig(episodes=2))
    door, gold = term.objects
    assert (door.name, door.weight, gold.name, gold.weight) == ("door", 1.0, "gold", 0.25)
    assert [(x.feature, x.goal) for x in door.attributes] == [("open", 1.0), ("far", 1.0)]
    assert [(x.feature, x.goal) for x in gold.attributes] == [("gold", 2.0)]


def test_nothing_is_proposed_where_nothing_tells_and_too_few_are_said_so() -> None:
    alike = ended([1, 2, 3, 0.5], [1, 2, 3, 0.5], success=[1, 0])
    assert goal_similarity(SPEC, alike, GoalSimilarityConfig(episodes=1)) == []
    with pytest.raises(SignalError, match="5 successful and failed episodes must be recorded, got 1 and 1"):
        goal_similarity(SPEC, alike, GoalSimilarityConfig())
