"""The evidence of made-up runs, as plain JSON objects that a test may change before it validates them.

`Evidence.model_validate(stuck_evidence())` is what the roles get, see `rl/evidence/schema.py`. The task is Two-Switch.
"""

from __future__ import annotations

from typing import Any


def feature_evidence(name: str, kind: str, low: float, high: float, **statistics: float | None) -> dict[str, Any]:
    """Return one row of `features`.

    Args:
        name: of the feature.
        kind: its kind, such as "distance", "count" or "flag".
        low: lower bound of its declared range; also the least value that was seen.
        high: upper bound of its declared range; also the greatest value that was seen.
        statistics: fields of `FeatureEvidence` to set; else the mean is the middle of the range, the rest None.
    """
    raw: dict[str, Any] = {
        "name": name, "group": "agents", "kind": kind, "unit": "", "low": low, "high": high, "mean": (low + high) / 2,
        "start": None, "end_success": None, "end_failure": None, "seen_low": low, "seen_high": high,
        "reached_low_share": None, "reached_high_share": None, "change_before_reward": None,
        "done": None, "before_done": None,
    }  # fmt: skip
    return raw | statistics


def stuck_evidence() -> dict[str, Any]:
    """Return the evidence of a run on a plateau after 197k steps.

    Both switches are triggered in every episode and the door is open, but the agents face a wall: success is 0.
    """
    return {
        "task": {"name": "two_switch", "description": "Two agents, two switches, a door and a goal."},
        "steps": 196_608, "steps_budget": 1_500_000, "stage": "plateaued", "stage_reason": "not risen",
        "signal": {"version": 0, "terms": []},
        "sparse": {
            "return_now": 1.0, "return_best": 1.0, "return_range": (-1.0, 4.0), "trend": 0.0, "spread": 0.004,
            "success_rate": 0.0, "window_steps": 50_000, "curve": [(50_000, 0.3, 0.0), (150_000, 1.0, 0.0)],
        },
        "behaviour": [{
            "group": "agents", "entropy": 1.1, "entropy_max": 1.6094, "no_effect_share": 0.9,
            "action_shares": [("stay", 0.34), ("turn_left", 0.01), ("forward", 0.32), ("interact", 0.33)],
            "episode_length_mean": 100.0, "events_per_agent": [("green", 1.0), ("orange", 1.0)],
        }],
        "features": [
            feature_evidence("dist_nearest_open_switch", "distance", 0, 10, mean=0.6, start=3.4, end_failure=0.0,
                             reached_low_share=1.0, reached_high_share=0.2, change_before_reward=-1.9),
            feature_evidence("dist_switch_a", "distance", 0, 10, mean=0.5, start=4.6, end_failure=0.0,
                             reached_low_share=1.0, reached_high_share=0.1, change_before_reward=-0.6),
            feature_evidence("dist_door", "distance", 0, 9, mean=4.8, start=4.2, end_failure=5.0, seen_low=1,
                             reached_low_share=0.01, reached_high_share=0.3, change_before_reward=0.4),
            feature_evidence("dist_goal", "distance", 0, 17, mean=12.6, start=12.1, end_failure=12.9, seen_low=8,
                             reached_low_share=0.0, reached_high_share=0.2, change_before_reward=0.5),
            feature_evidence("dist_mate", "distance", 0, 12, mean=5.6, start=3.9, end_failure=6.0,
                             reached_low_share=0.12, reached_high_share=0.0, change_before_reward=0.6),
            feature_evidence("x", "position", 1, 7, mean=4.0, start=4.0, end_failure=4.0,
                             reached_low_share=0.9, reached_high_share=0.9, change_before_reward=0.1),
            feature_evidence("heading", "quantity", 0, 3, mean=1.5, start=1.5, end_failure=1.5,
                             reached_low_share=0.9, reached_high_share=0.9, change_before_reward=0.0),
            feature_evidence("switches_triggered", "count", 0, 2, mean=1.8, start=0.0, end_failure=2.0,
                             reached_low_share=1.0, reached_high_share=1.0, change_before_reward=0.2),
            feature_evidence("own_triggered", "count", 0, 2, mean=0.9, start=0.0, end_failure=1.0,
                             reached_low_share=1.0, reached_high_share=0.02, change_before_reward=0.1),
            feature_evidence("door_open", "flag", 0, 1, mean=0.85, start=0.0, end_failure=1.0,
                             reached_low_share=1.0, reached_high_share=1.0, change_before_reward=0.0),
        ],
        "events": [
            {"name": "switch_triggered", "group": "agents", "repeatable": False, "per_episode": 2.0,
             "episodes_share": 1.0, "largest_agent_share": 0.51, "first_step": 6.0},
            {"name": "goal_reached", "group": "agents", "repeatable": False, "per_episode": 0.0,
             "episodes_share": 0.0, "largest_agent_share": None, "first_step": None},
        ],
        "terms": [], "key_moments": ["green: interact [switch_triggered]; reward +0.990"],
    }  # fmt: skip


def early_evidence() -> dict[str, Any]:
    """Return the evidence of a nearly random policy after 98k steps: some switches, no goal."""
    raw = stuck_evidence()
    raw |= {"steps": 98_304, "stage": "exploring"}
    raw["sparse"] |= {"return_now": 0.14, "return_best": 0.2, "trend": 0.1, "spread": 0.8}
    raw["behaviour"][0] |= {"entropy": 1.6, "no_effect_share": 0.15}
    # what a random policy reaches less often, or less far
    changes: dict[str, dict[str, float]] = {
        "dist_nearest_open_switch": {"mean": 3.5, "reached_low_share": 0.3, "change_before_reward": -0.8},
        "dist_switch_a": {"mean": 3.0, "reached_low_share": 0.55, "change_before_reward": -0.2},
        "switches_triggered": {"mean": 0.7, "reached_high_share": 0.3},
        "door_open": {"mean": 0.15, "reached_high_share": 0.3},
        "dist_mate": {"mean": 4.0, "reached_low_share": 0.6},
    }
    for item in raw["features"]:
        item |= changes.get(item["name"], {})
    return raw
