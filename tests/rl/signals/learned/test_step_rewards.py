"""Step rewards from preferences over episodes: numbers by hand, the order of episodes, advantages, and learning."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from cosignal.errors import SignalError
from cosignal.rl.envs.config import TaskConfig
from cosignal.rl.experience.rollout import Rollout
from cosignal.rl.fitting.fit import fit_signals
from cosignal.rl.signals.config import SignalConfig
from cosignal.rl.signals.learned.config import LearnedSignalsConfig, StepRewardsConfig
from cosignal.rl.signals.learned.episodes import Episodes, play_episodes
from cosignal.rl.signals.learned.step_rewards import count_pairs, fit_step_rewards, outcomes, pairs
from cosignal.rl.signals.scorer import Scorer, Scorers
from cosignal.rl.signals.signal import Signal
from cosignal.rl.signals.terms import StepRewardTerm
from cosignal.rl.signals.terms.step_reward import log_probabilities
from cosignal.rl.task import GroupSpec, TaskSpec
from cosignal.rl.training.config import TrainerConfig, TrainingConfig
from cosignal.rl.training.line import TrainingLine
from cosignal.studies.late_pay import STEPS

GROUP = GroupSpec(name="team", agents=("one", "other"), obs_size=2, n_actions=2, features=(), events=())
SPEC = TaskSpec(name="made_up", description="", groups=(GROUP,), return_range=(0.0, 1.0), max_steps=8, has_success=True)
CONFIG = StepRewardsConfig(hidden=(16,), lr=5e-3, clone_epochs=3)

# A policy whose logits are what it observes.
ECHO = Scorer((np.eye(2, dtype=np.float32)[None],), (np.zeros((1, 2), np.float32),))


def term(scorers: Scorers, scorer: Scorer = ECHO, **more: Any) -> StepRewardTerm:
    return StepRewardTerm.model_validate({"name": "step", "scorer": scorers.add(scorer), "agents": "team", **more})


def rollout(obs: Any, actions: Any, logp: Any, **more: Any) -> Rollout:
    """Of one step in one environment: [A, O], [A], [A]."""
    arrays: dict[str, Any] = {
        "obs": [np.array(obs, np.float32)[None, None]],
        "actions": [np.array(actions)[None, None]],
        "logp": [np.array(logp, np.float32)[None, None]],
        "masks": None,
        "alive": None,
    }
    return cast(Rollout, SimpleNamespace(**{**arrays, **more}))


# ------------------------------------------------------------ by hand


def test_it_is_the_log_ratio_less_its_mean_and_bounded() -> None:
    scorers = Scorers()
    # log π_φ(0) of logits (ln 3, 0) is ln 3/4
    played = rollout([[np.log(3), 0.0], [0.0, 0.0]], [0, 1], [np.log(0.5), np.log(0.5)])
    compiled = term(scorers, temperature=0.5).compile(SPEC, scorers)
    first, second = 0.5 * np.log(0.75 / 0.5), 0.0
    mean = (first + second) / 2
    assert compiled.step_rewards(played)[0].ravel().tolist() == pytest.approx([first - mean, second - mean])
    bounded = term(scorers, temperature=0.5, bound=0.1).compile(SPEC, scorers)
    assert bounded.step_rewards(played)[0].ravel().tolist() == pytest.approx([0.05, -0.05])


def test_actions_that_are_not_allowed_have_no_share_and_who_has_left_does_not_count() -> None:
    allowed = np.array([[True, False], [True, True]])
    found = log_probabilities(ECHO, np.zeros((2, 2), np.float32), np.array([0, 1]), allowed)
    assert found.tolist() == pytest.approx([0.0, np.log(0.5)])
    scorers = Scorers()
    alone = rollout([[5.0, 0.0], [0.0, 0.0]], [0, 1], [0.0, 0.0], alive=[np.array([[[False, True]]])])
    assert term(scorers).compile(SPEC, scorers).step_rewards(alone)[0].ravel().tolist() == [0.0, 0.0]


def test_a_policy_of_other_agents_is_refused() -> None:
    scorers = Scorers()
    wide = Scorer((np.ones((1, 2, 3), np.float32),), (np.zeros((1, 3), np.float32),))
    with pytest.raises(SignalError, match="chooses one of 3 actions by 2 numbers, agents of 'team' do not"):
        term(scorers, wide).compile(SPEC, scorers)


def test_pairs_are_of_different_outcomes_and_success_comes_before_returns() -> None:
    assert [list(zip(*pairs(np.array([0, 1, 1])), strict=True))] == [[(1, 0), (2, 0)]]
    episodes = made_up(6)
    assert outcomes(episodes, True) is episodes.success
    assert np.array_equal(outcomes(replace(episodes, success=np.ones(6, np.float32)), True), episodes.returns)


# ------------------------------------------------------------ the order of episodes


def made_up(number: int, seed: int = 0, n_steps: int = 8) -> Episodes:
    """Two agents choose by chance; an episode succeeds where agent 0 chose 1 more often than not."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 2, (number * n_steps, 2))
    obs = rng.normal(size=(len(actions), 2, 2)).astype(np.float32)
    obs[:, 0, 0], obs[:, 1, 0] = 3, -3  # tells who it is
    share = actions[:, 0].reshape(number, n_steps).mean(1)
    reward = np.zeros(len(actions), np.float32)
    reward[n_steps - 1 :: n_steps] = share
    none = np.zeros((len(actions), 2, 0), np.float32)
    return Episodes(
        features=[none], last_features=[none], events=[none], obs=[obs], last_obs=[obs], actions=[actions],
        logp=[np.full(actions.shape, np.log(0.5), np.float32)], terminated=(reward > 2).astype(np.float32), alive=None,
        last_alive=None, masks=None, reward=reward, success=(share > 0.5).astype(np.float32),
        episode=np.repeat(np.arange(number), n_steps), steps=len(actions),
    )  # fmt: skip


def test_it_orders_episodes_it_has_not_seen_and_pays_the_agent_that_did_it() -> None:
    found = fit_step_rewards(SPEC, made_up(300), CONFIG, seed=1)
    assert found.accuracy > 0.95
    fresh, scorers = made_up(200, seed=9), Scorers()
    compiled = term(scorers, found.scorers[0], bound=10.0).compile(SPEC, scorers)
    shaped = {"obs": fresh.obs, "actions": fresh.actions, "logp": fresh.logp, "masks": None, "alive": None}
    [r] = compiled.step_rewards(cast(Rollout, SimpleNamespace(**shaped)))
    sums = np.bincount(fresh.episode, r.sum(1))
    better, worse = pairs(fresh.success)
    assert (sums[better] > sums[worse]).mean() > 0.95
    # what the idle agent chooses says nothing
    chosen = fresh.actions[0] == 1
    gaps = [r[chosen[:, i], i].mean() - r[~chosen[:, i], i].mean() for i in range(2)]
    assert gaps[0] > 10 * abs(gaps[1])


def test_shuffled_outcomes_order_nothing_and_are_not_accepted() -> None:
    episodes = made_up(300)
    mixed = replace(episodes, success=np.random.default_rng(0).permutation(episodes.success))
    fit = fit_step_rewards(SPEC, mixed, CONFIG, seed=1)
    assert fit.accuracy < 0.65 < CONFIG.least_accuracy


def test_too_few_different_outcomes_are_an_answer() -> None:
    episodes = made_up(30)
    alike = replace(episodes, success=np.ones(30, np.float32), reward=np.zeros_like(episodes.reward))
    with pytest.raises(SignalError, match="at least 100 pairs of episodes with different outcomes, got 0; play more"):
        fit_step_rewards(SPEC, alike, CONFIG, seed=1)


# ------------------------------------------------------------ on advantages

LATE = TaskConfig(env="cosignal.studies.late_pay:LatePay", n_max=STEPS)


def late_line(algorithm: str = "ippo", scorers: Scorers | None = None, **settings: Any) -> TrainingLine:
    trainer = TrainerConfig.model_validate(
        {"algorithm": algorithm, "envs": 16, "rollout": STEPS, "steps": 100_000, algorithm: settings}
    )
    config = TrainingConfig(
        seed=3, clock="lockstep", task=LATE, signal=SignalConfig(), trainer=trainer, pause_every_steps=None, margin=0.02
    )
    return TrainingLine(config, scorers=scorers)


def late_policy() -> Scorer:
    """Chooses the action of the mark; the agent's number behind it does not matter."""
    weight = np.zeros((1, 3 + 20, 3), np.float32)
    weight[0, :3] = 4 * np.eye(3)
    return Scorer((weight,), (np.zeros((1, 3), np.float32),))


@pytest.mark.parametrize(("algorithm", "settings"), [("ippo", {}), ("mappo", {"network": "gru"}), ("liir", {})])
def test_a_weight_of_zero_is_the_base_bit_for_bit(algorithm: str, settings: dict[str, Any]) -> None:
    states = []
    for weight in (None, 0.0, 1.0):
        line = late_line(algorithm, **settings)
        if weight is not None:
            added = term(line.scorers, late_policy(), agents=line.spec.groups[0].name, weight=weight)
            line.apply_signal(Signal(version=1, beta=1.0, terms=(added,)))
        line.update()
        line.update()
        states.append(line.learner.state_dict())
        line.close()
    base, zero, one = states
    assert all(np.array_equal(base[name], zero[name], equal_nan=True) for name in base)
    assert any(not np.array_equal(base[name], one[name], equal_nan=True) for name in base)


def test_it_pays_nothing_and_is_counted_in_deviations_of_advantages() -> None:
    line = late_line()
    added = term(line.scorers, late_policy(), agents=line.spec.groups[0].name, decay_steps=1_000, weight=2.0)
    line.apply_signal(Signal(version=1, beta=1.0, terms=(added,)))
    line.step = line.collector.collect(line.learner, line.step, None)
    rollout, rewards = line.collector.rollout, line.rewards()
    assert not rewards.shape(rollout).total[0].any()
    full = rewards.step_rewards(rollout)
    line.steps_main += 500  # half of it has decayed
    half = line.rewards().step_rewards(rollout)
    assert full is not None
    assert half is not None
    assert half[0] == pytest.approx(full[0] / 2, abs=1e-6)
    assert np.abs(full[0]).max() <= 2 * 2 * 1.0
    line.close()


def test_pairs_of_many_episodes_are_counted_without_making_them() -> None:
    outcome = np.random.default_rng(0).integers(0, 4, 200).astype(np.float32)
    assert count_pairs(outcome) == len(pairs(outcome)[0])
    assert count_pairs(np.zeros(100_000, np.float32)) == 0
    assert count_pairs(np.arange(100_000, dtype=np.float32)) == 100_000 * 99_999 // 2


@pytest.mark.parametrize("algorithm", ["vdn", "qmix"])
def test_learners_by_values_refuse_it(algorithm: str) -> None:
    line = late_line(algorithm)
    added = term(line.scorers, late_policy(), agents=line.spec.groups[0].name)
    with pytest.raises(
        SignalError, match="term 'step' is added to advantages, which an algorithm by values has none of"
    ):
        line.check_signal(Signal(version=1, terms=(added,)))
    line.close()


# ------------------------------------------------------------ learning


@pytest.mark.timeout(240)
def test_it_teaches_many_agents_what_is_paid_at_the_end_only() -> None:
    """Twins: the team's reward alone, and a policy that was fitted to shuffled outcomes."""
    settings = LearnedSignalsConfig(step_rewards=StepRewardsConfig(episodes=128, lr=3e-3, hidden=(32,), clone_epochs=3))
    results = {}
    for arm in ("plain", "steps", "shuffled"):
        line = late_line()
        if arm == "steps":
            fit = fit_signals(line, ("step_rewards",), settings, 11, line.scorers).fits["step_rewards"]
            assert settings.step_rewards.accepts(fit)
            line.apply_signal(Signal(version=1, beta=1.0, terms=fit.terms))
        elif arm == "shuffled":
            learner, config = line.learner, settings.step_rewards
            episodes = play_episodes(LATE, learner, learner.new_rnn_states, config.episodes, 11, True)
            mixed, ends = episodes.reward.copy(), np.flatnonzero(episodes.terminated)
            mixed[ends] = np.random.default_rng(0).permutation(mixed[ends])
            found = fit_step_rewards(line.spec, replace(episodes, reward=mixed), config, 11)
            terms = config.terms(line.spec, {0: line.scorers.add(found.scorers[0])})
            line.apply_signal(Signal(version=1, beta=1.0, terms=tuple(terms)))
        returns = [line.update().row["returns"] for _ in range(16)]
        results[arm] = float(np.mean([x for x in returns[-3:] if x is not None]))
        line.close()
    assert results["steps"] > 0.6, results
    assert max(results["plain"], results["shuffled"]) < 0.5, results
