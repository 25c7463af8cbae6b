"""Evidence says what happened: figures worked out by hand from a policy that does one thing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from cosignal.errors import CosignalError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.evidence.build import build_evidence, query
from cosignal.rl.experience.episodes import team_distances
from cosignal.rl.signals.signal import Signal
from cosignal.rl.task import FloatArray, IntArray
from cosignal.rl.training.line import TrainingLine
from training_lines import small_config, trained

BUDGET = 20 * 128


def idle_line() -> TrainingLine:
    """Both agents always stay: nothing ever changes, and every episode is cut after 30 steps with return −1."""
    line = TrainingLine(small_config())

    def stay(
        obs: list[FloatArray], masks: object = None, rnn_states: object = None
    ) -> tuple[list[IntArray], list[FloatArray]]:
        shape = obs[0].shape[:2]
        return [np.zeros(shape, np.int64)], [np.zeros(shape, np.float32)]

    line.learner.act = stay  # type: ignore[method-assign]
    for _ in range(6):
        line.update()
    return line


def test_an_idle_policy_is_seen_as_idle() -> None:
    evidence = build_evidence(idle_line(), BUDGET)
    (behaviour,) = evidence.behaviour
    assert behaviour.no_effect_share == 1.0
    assert behaviour.action_shares[0] == ("stay", 1.0)
    assert behaviour.episode_length_mean == 30.0
    assert behaviour.entropy_max == pytest.approx(math.log(5), abs=1e-4)
    assert evidence.sparse.return_now == pytest.approx(-1.0, abs=1e-5)
    assert (evidence.sparse.success_rate, evidence.sparse.spread) == (0.0, 0.0)
    features = {f.name: f for f in evidence.features}
    assert features["dist_goal"].reached_low_share == 0.0
    assert features["switches_triggered"].end_failure == 0.0
    assert (features["dist_switch_a"].done, features["dist_goal"].done) == (0.0, None)
    assert features["dist_goal"].end_success is None and features["dist_goal"].change_before_reward is None
    assert features["dist_switch_a"].before_done is None
    assert all(event.per_episode == 0.0 and event.first_step is None for event in evidence.events)
    assert evidence.key_moments == ["no step of the last 128 was rewarded"]
    assert evidence.idle_tail == 1.0 and all(event.last_step is None for event in evidence.events)
    assert behaviour.entropy_curve and len(behaviour.entropy_curve) == len(evidence.sparse.curve)


def test_descriptions_reach_whoever_reads_the_evidence() -> None:
    line = TrainingLine(small_config())
    evidence = build_evidence(line, BUDGET)
    (group,) = line.spec.groups
    assert [row.description for row in evidence.features] == [feature.description for feature in group.features]
    assert all(row.description for row in [*evidence.features, *evidence.events])
    assert {row.name: row.reward for row in evidence.events} == {"switch_triggered": 1.0, "goal_reached": 1.0}


def test_the_team_at_one_target_and_the_time_of_events_are_those_of_the_rings() -> None:
    line = trained(small_config(), 6)
    n, spec = len(line.episodes), line.spec.groups[0]
    assert n > 0
    column = spec.feature_names().index("dist_mate")
    names = [distance.name for distance in team_distances(line.spec)]
    # Two of four episodes have both agents at the mate at once, whatever was seen of the others.
    line.episodes.ring["at_once"][:] = 0
    line.episodes.ring["at_once"][: n // 2, names.index("dist_mate")] = 2
    # One event in each episode, at step 10 first and at step 20 last, of 30 steps.
    line.episodes.ring["first.0"][:n], line.episodes.ring["last.0"][:n], line.episodes.ring["lengths"][:n] = 10, 20, 30
    evidence = build_evidence(line, BUDGET)
    team = {row.name: row for row in evidence.team}
    assert team["dist_mate"].at_once == [pytest.approx((n // 2) / n, abs=1e-4)] and team["dist_goal"].at_once == [0.0]
    values = line.recorder.ring["features.0"][: line.recorder.size, :, column]
    assert team["dist_mate"].nearest == pytest.approx(values.min(1).mean(), abs=1e-3)
    assert team["dist_mate"].furthest == pytest.approx(values.max(1).mean(), abs=1e-3)
    assert [(row.first_step, row.last_step) for row in evidence.events] == [(10.0, 20.0)] * 2
    assert evidence.idle_tail == pytest.approx(1 / 3, abs=1e-4)


def test_agents_that_share_a_network_are_named_together() -> None:
    learner = build_evidence(TrainingLine(small_config()), BUDGET).learner
    assert learner is not None
    assert (learner.algorithm, learner.networks) == ("ippo", [["green", "orange"]])


def test_evidence_is_small_plain_and_repeatable() -> None:
    line, other = trained(small_config(), 10), trained(small_config(), 10)
    text = build_evidence(line, BUDGET).model_dump_json()
    assert text == build_evidence(other, BUDGET).model_dump_json()
    assert len(text) < 12_000
    assert json.loads(text)["signal"]["version"] == 0


def test_term_statistics_add_up() -> None:
    line = trained(small_config(), 2)
    line.apply_signal(
        Signal.model_validate(
            {"scale": 1.0, "terms": [{"name": "near", "kind": "potential", "expression": "-dist_goal / 16"}]}
        )
    )
    for _ in range(3):
        line.update()
    (term,) = query(line, "term_statistics", None, 5)["terms"]
    assert 0 < term["share"] < 1 and term["mean_abs"] > 0


def test_queries() -> None:
    line = trained(small_config(), 12)
    curve = query(line, "metric_curve", None, 4)
    assert len(curve["rows"]) <= 4 and curve["rows"][-1][0] == line.steps_main
    assert 1 <= len(query(line, "episode", None, 2)["steps"]) <= 30
    (feature,) = query(line, "feature_statistics", "dist_goal", 2)["features"]
    assert feature["kind"] == "distance"
    with pytest.raises(CosignalError, match="feature must be one of .* got 'nonsense'"):
        query(line, "feature_statistics", "nonsense", 2)


@pytest.mark.parametrize(("action", "share"), [(0, 1.0), (2, 0.0)])
def test_without_a_position_what_is_observed_tells_whether_a_step_did_something(action: int, share: float) -> None:
    """Walkers that stay, or go on; their only feature is a distance, so that what they observe decides."""
    line = TrainingLine(small_config(rollout=2).model_copy(update={"task": TaskConfig(env="small_tasks:Walk")}))

    def act(
        obs: list[FloatArray], masks: object = None, rnn_states: object = None
    ) -> tuple[list[IntArray], list[FloatArray]]:
        shape = obs[0].shape[:2]
        return [np.full(shape, action)], [np.zeros(shape, np.float32)]

    line.learner.act = act  # type: ignore[method-assign, assignment]
    line.update()
    assert line.history[-1]["no_effect"] == [share]
