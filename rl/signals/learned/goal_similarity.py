"""The goal state by the run's own successes: what is alike where episodes succeed, and not where they fail.

A feature counts by how far the mean of its last values in successful episodes lies from that in failed ones, as a share
of its range; its goal is the former. Features of one object (`FeatureSpec.object`) are compared under that object.
"""

from __future__ import annotations

import numpy as np

from ....errors import SignalError
from ...experience.transition_sample import TransitionSample
from ...task import TaskSpec
from ..terms import SimilarityTerm
from ..terms.similarity import MAX_ATTRIBUTES, MAX_OBJECTS
from .judged_config import GoalSimilarityConfig


def goal_similarity(spec: TaskSpec, recorded: TransitionSample, config: GoalSimilarityConfig) -> list[SimilarityTerm]:
    """Return a term for each group of agents whose features tell successes from failures.

    Raises:
        SignalError: too few episodes of either kind are recorded.
    """
    good = np.asarray(recorded.end_success) > 0.5
    if min(good.sum(), (~good).sum()) < config.episodes:
        raise SignalError(
            f"goal_similarity.episodes: {config.episodes} successful and failed episodes must be recorded, got "
            f"{int(good.sum())} and {int((~good).sum())}; wait, or lower it"
        )
    terms = []
    for g, group in enumerate(spec.groups):
        objects: dict[str, list[tuple[float, str, float]]] = {}
        for i, feature in enumerate(group.features):
            ends = np.nan_to_num(recorded.end_features[g][..., i].astype(np.float64))
            goal, failed = float(ends[good].mean()), float(ends[~good].mean())
            separation = min(abs(goal - failed) / max(feature.high - feature.low, 1e-9), 1.0)
            if separation >= config.least_separation:
                objects.setdefault(feature.object or feature.name, []).append((separation, feature.name, goal))
        # what tells most comes first
        ordered = sorted(objects.items(), key=lambda item: -max(item[1])[0])[:MAX_OBJECTS]
        things = [
            {
                "name": name,
                "weight": round(max(rows)[0], 3),
                "attributes": [
                    {"feature": feature, "goal": round(goal, 3)}
                    for _, feature, goal in sorted(rows, reverse=True)[:MAX_ATTRIBUTES]
                ],
            }
            for name, rows in ordered
        ]
        if things:
            terms.append(SimilarityTerm.model_validate({"name": f"goal_{g}", "objects": things, "agents": group.name}))
    return terms
