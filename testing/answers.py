"""Texts that roles may answer with: one diagnosis, three proposals, and builders for more.

The proposals are for Two-Switch: each has one potential, towards the goal, the door or the other agent.
"""

from __future__ import annotations

import json
from typing import Any

DIAGNOSIS = json.dumps(
    {
        "findings": [
            {
                "failure": "subgoal_never_reached",
                "cites": ["features.dist_goal.mean"],
                "explanation": "The goal is far.",
            }
        ]
    }
)  # what a Critic may answer


def proposal(title: str, expression: str, kick: float | None = None) -> dict[str, Any]:
    """Return a proposal of one potential Φ = `expression`, for `proposals`.

    Args:
        title: what the proposal is called in reports.
        expression: of the task's features, such as "-dist_goal / 17".
        kick: how far exploration is kicked at the fork, None for no kick.
    """
    return {
        "title": title,
        "reason": "it may help",
        "addresses": ["subgoal_never_reached"],
        "terms": [{"name": "phi", "kind": "potential", "expression": expression}],
        "exploration": {"kick": kick},
    }


def proposals(*candidates: dict[str, Any]) -> str:
    """Return a Generator's answer that makes these proposals."""
    return json.dumps({"proposals": list(candidates)})


def ranking(*order: str) -> str:
    """Return a Ranker's answer: ids of proposals, the most promising first."""
    return json.dumps({"order": list(order), "reason": "the first is closest to the diagnosis"})


GOAL = proposal("goal", "-dist_goal / 17", kick=0.05)
DOOR = proposal("door", "-dist_door / 9", kick=0.05)
MATE = proposal("mate", "-dist_mate / 12", kick=0.05)
